"""`dura site ledger`: what patients have spent, which studies still fit, and whether the record is complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command, confirm

if TYPE_CHECKING:
    from rich.table import Table

    from dura_client.ledger.answers import StudySpending
    from dura_client.review.forecast import Forecast, Question

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(
    delta: Annotated[
        float | None, typer.Option(help="Delta at which epsilon is computed. Default: the delta of the policy.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the most that each study, and all studies together, cost any patient, whether spent or set aside."""
    with command(as_json) as out:
        from dura_client.ledger.place import site_ledger
        from dura_client.site.home import SiteHome
        from dura_client.site.policy import load_policy
        from dura_client.site.settings import load_settings
        from dura_common.errors import InputError

        site = SiteHome(home.expanduser())
        load_settings(site)
        if delta is not None and not 0 < delta < 1:
            raise InputError(f"--delta must lie between 0 and 1, got {delta:g}")
        policy = load_policy(site) if site.policy.exists() else None
        ledger = site_ledger(site)
        # Without a policy, the delta of the last entry is the delta of the site's last study.
        at = delta or (policy.delta if policy else ledger.last_delta())
        studies = () if at is None else ledger.studies(at)
        spent = 0.0 if at is None else ledger.spent(at)
        out.result(
            {
                "delta": at,
                "spent": spent,
                "epsilon_per_study": policy.epsilon_per_study if policy else None,
                "epsilon_total": policy.epsilon_total if policy else None,
                "withdrawn": len(ledger.withdrawn()),
                "studies": [
                    {
                        "study": study.study,
                        "state": study.state,
                        "draws": study.draws,
                        "redraws": study.redraws,
                        "without_noise": study.unaccounted,
                        "epsilon": study.epsilon,
                    }
                    for study in studies
                ],
            },
            _table(
                studies,
                spent=spent,
                delta=at,
                caps=(policy.epsilon_per_study, policy.epsilon_total) if policy else None,
            ),
        )


@app.command()
def forecast(  # options of a command
    data: Annotated[str, typer.Option("--data", help="The registered data set whose patients would take part.")],
    participation: Annotated[
        list[float] | None,
        typer.Option(help="Probability that a patient enters a step. Repeat the option for more values."),
    ] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="Epsilon of a study. Repeat the option for more values.")
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option(help="Number of steps of a study. Repeat the option for more values.")
    ] = None,
    held_out: Annotated[float, typer.Option(help="Share of patients that a study holds out.")] = 0.25,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show which studies the remaining budget still allows, and how much noise they would need."""
    with command(as_json) as out:
        from dataclasses import asdict

        from dura_client.review.forecast import EPSILONS, PARTICIPATIONS, STEPS, Question
        from dura_client.review.forecast import forecast as ask
        from dura_client.site.home import SiteHome
        from dura_client.site.policy import load_policy
        from dura_client.site.settings import load_settings

        site = SiteHome(home.expanduser())
        load_settings(site)
        policy = load_policy(site)
        question = Question(
            participations=participation or PARTICIPATIONS,
            epsilons=epsilon or [value for value in EPSILONS if value <= policy.epsilon_per_study] or EPSILONS[:1],
            steps=steps or STEPS,
            held_out=held_out,
        )
        with out.progress() as bar:
            task = bar.add_task("composing", total=None)
            found = ask(
                site, data, question, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
        caps = {
            "delta": policy.delta,
            "epsilon_per_study": policy.epsilon_per_study,
            "epsilon_total": policy.epsilon_total,
        }
        for table in _forecast_tables(found, question):
            out.say(table)
        out.result(
            {**caps, **asdict(found), "kinds": [asdict(kind) for kind in found.kinds]},
            f"one more study may cost a training patient at most epsilon {found.largest_training:.2f} "
            f"({found.training_patients} patients) and a held-out patient at most {found.largest_evaluation:.2f} "
            f"({found.held_out_patients} patients), at delta {policy.delta:g}",
        )


@app.command()
def move(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; no copy of this site is running on another host.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Record that this site has moved to this host. A copied home must not spend the same budget at two places."""
    with command(as_json) as out:
        from dura_client.ledger.place import site_ledger
        from dura_client.site.home import SiteHome
        from dura_client.site.host import host_id
        from dura_client.site.settings import load_settings
        from dura_common.errors import PolicyError

        site = SiteHome(home.expanduser())
        load_settings(site)
        ledger = site_ledger(site)
        ledger.verify()
        confirm(
            "Has the site been stopped permanently on every other host?",
            yes=yes,
            refusal=PolicyError("nothing was changed: the ledger still belongs to the host that used it last"),
        )
        ledger.move(host_id())
        out.result({"moved": True}, "the ledger now belongs to this host")


@app.command()
def verify(
    known: Annotated[
        str | None,
        typer.Option(
            help="Hash that an earlier `verify` printed. The command checks that the ledger still contains it."
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Check that no entry was altered or removed. Keep the printed hash for a later check with --known."""
    with command(as_json) as out:
        from dura_client.ledger.place import site_ledger
        from dura_client.site.home import SiteHome
        from dura_client.site.settings import load_settings

        site = SiteHome(home.expanduser())
        load_settings(site)
        head = site_ledger(site).verify(known)
        out.result(
            {"verified": True, "entries": head.entries, "hash": head.hash},
            f"the ledger is intact: {head.entries} entries, hash {head.hash}",
        )


def _forecast_tables(found: Forecast, question: Question) -> list[Table]:
    from rich.table import Table

    tables = []
    for participation in question.participations:
        table = Table(
            "epsilon of a study",
            *(f"{steps} steps" for steps in question.steps),
            title=f"Number of studies that still fit, with their noise multiplier, at participation {participation:g}",
        )
        for epsilon in question.epsilons:
            cells = [c for c in found.kinds if (c.participation, c.epsilon) == (participation, epsilon)]
            table.add_row(
                f"{epsilon:g}",
                *(f"{c.studies} (noise {c.noise_multiplier:.2f})" if c.studies else "does not fit" for c in cells),
            )
        tables.append(table)
    return tables


def _table(
    studies: tuple[StudySpending, ...], *, spent: float, delta: float | None, caps: tuple[float, float] | None
) -> Table | str:
    from rich.table import Table

    if delta is None or not studies:
        return "no study has spent any privacy budget at this site"
    per_study, total = (f" of {caps[0]:g}", f" of {caps[1]:g}") if caps else ("", "")
    table = Table(
        "study",
        "state",
        "draws",
        "repeated",
        "epsilon",
        title=f"Largest epsilon spent or set aside for any patient, at delta {delta:g}",
    )
    for study in studies:
        price = "no noise, public data" if study.epsilon is None else f"{study.epsilon:.2f}{per_study}"
        table.add_row(study.study[:12], study.state, str(study.draws), str(study.redraws), price)
    table.add_section()
    draws, redraws = sum(study.draws for study in studies), sum(study.redraws for study in studies)
    table.add_row("all", "", str(draws), str(redraws), f"{spent:.2f}{total}")
    return table

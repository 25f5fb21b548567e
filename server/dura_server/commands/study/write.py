"""`dura study new | check | sign`: from a question to a signed study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from dura_common.errors import InputError
from dura_common.runtime.console import JsonOption, Output, command
from dura_common.runtime.files import SHARED_FILE, read_limited, write_atomic
from dura_server.commands.options import DEFAULT_RESEARCHER, ResearcherOption

if TYPE_CHECKING:
    from dura_common.study import Study
    from dura_server.studies.researcher import ResearcherHome

FileArgument = Annotated[Path, typer.Argument(help="The study file (study.toml).")]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura study`."""
    app.command("new")(new)
    app.command("check")(check)
    app.command("sign")(sign)


def new(
    path: Annotated[Path, typer.Argument(help="The study file to write.")],
    site: Annotated[
        list[str],
        typer.Option(
            "--site", help="NAME=PATIENTS: a site and its declared number of patients. Repeat the option for each site."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the study, one word.")] = "left-or-right",
    question: Annotated[
        str, typer.Option(help="The research question of the study.")
    ] = "Which hand does a patient imagine to move?",
    epsilon: Annotated[
        float, typer.Option(help="Epsilon of a training patient; a held-out patient gets the same for evaluation.")
    ] = 8.0,
    delta: Annotated[float, typer.Option(help="Delta; must be below 1 divided by the number of patients.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of the model's first parameters.")] = 1,
    noise: Annotated[
        Literal["shared", "local"],
        typer.Option(
            help="shared: three or more sites share the noise of each step. local: each site adds all of the noise."
        ),
    ] = "shared",
    as_json: JsonOption = False,
) -> None:
    """Write a complete study file with comments, as a starting point."""
    with command(as_json) as out:
        from dura_common.study import parse_study
        from dura_server.studies.template import study_toml

        text = study_toml(
            name=name,
            question=question,
            sites=dict(_site(item) for item in site),
            epsilon=epsilon,
            delta=delta,
            seed=seed,
            noise=noise,
        )
        study = parse_study(text.encode())
        write_atomic(path, text.encode(), mode=SHARED_FILE, replace=False)
        _warn(out, study)
        out.result({"path": str(path), "study": study.name}, f"wrote {path}")


def check(path: FileArgument, as_json: JsonOption = False) -> None:
    """Check a study file and show what the study costs a patient."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.privacy.plan import plan_of
        from dura_common.study import parse_study, require_unexpired

        study = parse_study(read_limited(path, what="the study file"))
        require_unexpired(study, datetime.now(UTC))
        plan = plan_of(study)
        private = study.privacy.noise != "none"
        data = {
            "study": study.name,
            "sites": study.sites,
            "steps": study.training.steps,
            "noise": study.privacy.noise,
            "noise_multiplier": plan.noise_multiplier if private else None,
            "epsilon": {"training": plan.training_epsilon, "evaluation": plan.evaluation_epsilon} if private else None,
            "delta": study.privacy.delta if study.privacy.noise != "none" else None,
            "relation": "add/remove one patient",
        }
        table = Table("", "", show_header=False, title=f"{study.name}: valid")
        table.add_row("sites", ", ".join(f"{name} ({patients})" for name, patients in study.sites.items()))
        table.add_row("steps", f"{study.training.rounds} rounds of {study.training.steps_per_round}")
        if private:
            table.add_row("epsilon, training patient", f"{plan.training_epsilon:.3f}")
            table.add_row("epsilon, held-out patient", f"{plan.evaluation_epsilon:.3f}")
            table.add_row("noise multiplier", f"{plan.noise_multiplier:.3f}")
        _warn(out, study)
        out.result(data, table)


def sign(
    path: FileArgument,
    roster: Annotated[
        Path | None,
        typer.Option(
            help="The roster of the study's consortium (roster.json). Default: the roster that this researcher "
            "follows, after a question to the coordinator."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="The signed study file to write. Default: the study file's name with .signed.json."),
    ] = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Sign a study for one roster. The printed digest identifies the study from now on."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.study import parse_study, require_unexpired
        from dura_server.studies.researcher import ResearcherHome, sign_study

        study = parse_study(read_limited(path, what="the study file"))
        require_unexpired(study, datetime.now(UTC))
        home = ResearcherHome(researcher.expanduser())
        if roster is None:
            text = _followed(out, home)
        else:
            text = read_limited(roster, what="the roster").decode("utf-8", errors="replace")
        envelope, digest = sign_study(home, study, text)
        target = output or path.with_suffix(".signed.json")
        write_atomic(target, envelope.encode(), mode=SHARED_FILE)
        _warn(out, study)
        out.result({"digest": digest, "path": str(target)}, f"signed {study.name}: {digest}\nwrote {target}")


def _followed(out: Output, home: ResearcherHome) -> str:
    """Return the newest roster that this researcher may follow."""
    from dura_common.errors import HostError
    from dura_server.commands.study.places.at_desk import AtDesk
    from dura_server.desk.membership import load_membership

    here = load_membership(home)
    try:
        here = AtDesk(here).follow_rosters()
    except HostError as error:
        out.warn(f"{error.message}: the study is signed for roster {here.roster.serial}, the last one known here")
    return here.link.roster


def _site(item: str) -> tuple[str, int]:
    name, _, patients = item.partition("=")
    if not patients.isdigit():
        raise InputError(f"--site expects NAME=PATIENTS, got {item!r}")
    return name, int(patients)


def _warn(out: Output, study: Study) -> None:
    from dura_common.study.warnings import warnings_of

    for sentence in warnings_of(study):
        out.warn(sentence)

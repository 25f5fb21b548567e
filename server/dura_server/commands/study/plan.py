"""`dura study plan`: the cost, duration and expected accuracy of a study, before it is signed."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dura_common.runtime.console import JsonOption, command
from dura_common.runtime.files import read_limited

if TYPE_CHECKING:
    from rich.table import Table

    from dura_common.policy import Policy
    from dura_common.study import Study
    from dura_server.studies.planning import Rehearsal, Verdict

REPEATS = 5


def register(app: typer.Typer) -> None:
    """Add the command to `dura study`."""
    app.command("plan")(plan_command)


def plan_command(
    path: Annotated[Path, typer.Argument(help="The study file (study.toml).")],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="SITE=policy.toml: the policy of one site. Repeat the option for each known policy."
        ),
    ] = None,
    rehearsal: Annotated[Path | None, typer.Option(help="Rehearsal file that `dura study rehearse` wrote.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a study's noise, privacy cost, accuracy, traffic and duration, and whether the study fits known policies."""
    with command(as_json) as out:
        from dura_common.privacy.plan import plan_of
        from dura_common.privacy.risk import risk_of_study, sentences
        from dura_common.study import parse_study
        from dura_common.study.warnings import warnings_of
        from dura_server.rounds.rounds import first_parameters
        from dura_server.studies.planning import duration, expected, summary, traffic, verdict

        study = parse_study(read_limited(path, what="the study file"))
        policies = dict(_policy(item) for item in policy or ())
        rehearsed = None if rehearsal is None else _rehearsal(rehearsal)
        plan = plan_of(study)
        sent = traffic(study, int(first_parameters(study).size))
        times = duration(study, sent, _seconds_per_patient(study))
        accuracy = None
        if rehearsed is not None and plan.training_event is not None:
            accuracy = expected(rehearsed, plan.training_epsilon)
        verdicts = []
        with out.progress() as bar:
            for site, rules in bar.track(policies.items(), description="checking the policies"):
                verdicts.append(verdict(study, rules, site=site))
        for sentence in warnings_of(study):
            out.warn(sentence)
        data: dict[str, Any] = {
            "study": study.name,
            **summary(plan, study),
            "rounds": study.training.rounds,
            "steps": study.training.steps,
            "measure": study.data.measure,
            "accuracy": None if accuracy is None else asdict(accuracy),
            "traffic_per_site": asdict(sent),
            "seconds": {**asdict(times), "total": times.total},
            "policies": [_as_data(item) for item in verdicts],
        }
        out.say(_table(data))
        if plan.training_event is not None:
            for sentence in sentences(risk_of_study(study)):
                out.say(sentence)
        for item in verdicts:
            out.say(_verdict_table(item))
        out.result(data)


def _policy(item: str) -> tuple[str, Policy]:
    from dura_common.errors import InputError
    from dura_common.policy import parse_policy
    from dura_common.study import check_site_name

    site, _, file = item.partition("=")
    if not file:
        raise InputError(f"--policy expects SITE=policy.toml, got {item!r}")
    return check_site_name(site), parse_policy(read_limited(Path(file), what=f"the policy of {site}"))


def _rehearsal(path: Path) -> Rehearsal:
    from pydantic import ValidationError

    from dura_common.study import explain_validation
    from dura_server.studies.planning import Rehearsal

    try:
        return Rehearsal.model_validate_json(read_limited(path, what="the rehearsal"))
    except ValidationError as error:
        raise explain_validation(error, what="the rehearsal") from error


def _seconds_per_patient(study: Study) -> float:
    """Return the seconds that one patient's gradient takes on this machine; the machines of hospitals may differ."""
    import torch

    from dura_common.models import build_model

    (channels, samples), classes = study.data.shape, study.data.outputs
    model = build_model(study)
    windows = torch.randn(study.privacy.windows_per_patient, channels, samples)
    labels = torch.arange(len(windows)) % classes
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        torch.nn.functional.cross_entropy(model(windows), labels).backward()  # type: ignore[no-untyped-call]  # torch
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])  # the first call warms up


def _as_data(item: Verdict) -> dict[str, Any]:
    return {
        "site": item.site,
        "fits": item.fits,
        "findings": [asdict(finding) for finding in item.findings],
        "alternatives": [asdict(alternative) for alternative in item.alternatives],
    }


def _table(data: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table("", "", show_header=False, title=f"Plan of {data['study']}")
    if data["epsilon"] is None:
        table.add_row("noise", "none: no differential privacy")
    else:
        share = f"; each site adds {data['share_multiplier']:.3f}" if data["noise"] == "shared" else ""
        table.add_row("noise", f"{data['noise']}, multiplier {data['noise_multiplier']:.3f}{share}")
        for side, words in (("training", "epsilon, training patient"), ("evaluation", "epsilon, held-out patient")):
            both = data["epsilon"][side]
            table.add_row(
                words,
                f"{both['world']:.3f} against everybody who sees the sums, "
                f"{both['broken_aggregation']:.3f} if the aggregation is broken",
            )
        table.add_row("", f"delta {data['delta']:g}, {data['relation']}")
    if data["accuracy"] is not None:
        seen = data["accuracy"]
        doubt = "" if seen["rehearsed"] else "; this epsilon was not rehearsed, so the nearest rehearsed one is shown"
        table.add_row(
            f"expected {data['measure']}", f"{seen['mean']:.3f} ({seen['low']:.3f} to {seen['high']:.3f}){doubt}"
        )
    sent, seconds = data["traffic_per_site"], data["seconds"]
    table.add_row("rounds, steps", f"{data['rounds']}, {data['steps']}")
    table.add_row(
        "each site sends", f"{sent['bytes'] / 1e6:.1f} MB: {sent['sums']} sums of {sent['parameters']} values"
    )
    table.add_row(
        "estimated time",
        f"{seconds['total'] / 60:.1f} min: computing {seconds['computing']:.0f} s (on this machine), "
        f"sending {seconds['sending']:.0f} s (10 Mbit/s), exchanges {seconds['exchanging']:.0f} s",
    )
    return table


def _verdict_table(item: Verdict) -> Table:
    from rich.table import Table

    title = f"{item.site}: " + ("fits, if its patients have enough budget left" if item.fits else "does NOT fit")
    table = Table("", "rule", "rule in words", title=title)
    for finding in item.findings:
        mark = "[green]pass[/green]" if finding.passed else "[red]FAIL[/red]"
        table.add_row(mark, finding.rule, finding.sentence)
    for alternative in item.alternatives:
        table.add_row(
            "would fit",
            alternative.change,
            f"{alternative.rounds} rounds, {alternative.steps} steps, participation {alternative.participation:.3g}, "
            f"epsilon {alternative.epsilon:.3g} ({alternative.epsilon_if_broken:.3g} if the aggregation is broken), "
            f"{alternative.noise} noise {alternative.noise_multiplier:.3f}",
        )
    if not item.fits and not item.alternatives:
        table.add_row("", "", "no similar study fits this policy")
    return table

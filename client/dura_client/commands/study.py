"""`dura site review | approve | decline | evaluate | baseline`: decide on a study and judge its model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, DataOption, HomeOption, StudyArgument
from dura_client.commands.roster import members_table
from dura_common.runtime.console import JsonOption, Output, command, confirm

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from dura_client.review.alone import LocalScore
    from dura_client.review.review import Review
    from dura_client.site.home import SiteHome
    from dura_common.study import Study


def register(app: typer.Typer) -> None:
    """Add the commands to `dura site`."""
    app.command("offers")(offers)
    app.command("review")(review_command)
    app.command("approve")(approve_command)
    app.command("decline")(decline_command)
    app.command("evaluate")(evaluate_command)
    app.command("baseline")(baseline_command)


def offers(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the studies that the coordinator has offered."""
    with command(as_json) as out:
        from dura_client.site.home import SiteHome
        from dura_client.studies.approvals import list_offers

        rows = list_offers(SiteHome(home.expanduser()))
        table = Table("digest", "study", "state")
        for row in rows:
            table.add_row(row.digest[:12], row.study.name, row.state)
        said = [{"digest": row.digest, "name": row.study.name, "state": row.state} for row in rows]
        out.result({"offers": said}, table if rows else "no study was offered to this site")


def review_command(
    study: StudyArgument,
    data: DataOption,
    left_out: Annotated[
        Path | None,
        typer.Option(
            help="Write a file that names the patients who would be left out, with the reason. It is for the data "
            "manager alone."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="A file to write the check of the data into, as a page with drawings. It stays at the site."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what the study would release and cost, whether it passes each rule, and how well the data meet it."""
    with command(as_json) as out:
        from dura_client.review.left_out import write_left_out
        from dura_client.site.home import SiteHome

        digest, name, result = _review(out, home, study, data)
        answer = _as_data(digest, name, result)
        if result.cohort is not None:  # otherwise the policy forbids the study, and recordings are not read for it
            answer["check"] = _check(out, home, digest, data, html)
        if left_out is not None:
            count = write_left_out(SiteHome(home.expanduser()), data, result, left_out)
            out.say(f"{left_out} names {count} patients who would be left out. Keep it inside the hospital.")
        _tidy(home)
        out.result(answer)


def approve_command(
    study: StudyArgument,
    data: DataOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; somebody has read the review.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Approve one study and its roster: fix the patients who take part, set the cost aside, and sign."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.review.approval import approve_reviewed
        from dura_client.site.home import SiteHome
        from dura_client.studies.approvals import find_offer
        from dura_common.errors import PolicyError

        digest, name, result = _review(out, home, study, data)
        if result.passed:
            confirm("Approve this study?", yes=yes, refusal=PolicyError("the study was not approved"))
        site = SiteHome(home.expanduser())
        approve_reviewed(site, find_offer(site, digest), data, result, datetime.now(UTC))
        _tidy(home)
        out.result({**_as_data(digest, name, result), "approved": True}, f"approved {name} ({digest[:12]})")


def decline_command(study: StudyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Decline one study, even after an approval. Parts of its budget in which nothing began are returned."""
    with command(as_json) as out:
        from dura_client.review.approval import decline_study
        from dura_client.site.home import SiteHome
        from dura_client.studies.approvals import find_offer

        site = SiteHome(home.expanduser())
        offer = find_offer(site, study)
        decline_study(site, offer.digest)
        out.result({"study": offer.digest, "declined": True}, f"declined {offer.study.name}")


def evaluate_command(
    study: StudyArgument,
    model: Annotated[Path, typer.Argument(help="The trained model (safetensors).")],
    data: DataOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Score a trained model on this site's held-out patients. Keep the result inside the hospital."""
    with command(as_json) as out:
        from dura_client.review.alone import read_parameters, score_here
        from dura_client.site.home import SiteHome
        from dura_client.studies.approvals import find_offer

        site = SiteHome(home.expanduser())
        offer = find_offer(site, study)
        result = score_here([site], offer.study, data, read_parameters(model))
        _warn_unprotected(out)
        out.result({"study": offer.digest, **_score_data(offer.study, result)}, _as_text(offer.study, result))


def baseline_command(
    study: StudyArgument,
    data: DataOption,
    pool: Annotated[
        list[Path] | None,
        typer.Option(
            "--pool", help="Folder of another site whose data are pooled with these; simulated or public data only."
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", help="Folder of another site for the same comparison; simulated or public data only."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A trained model (safetensors) to score on the same patients for comparison.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Train the study's model at this site alone, with the study's noise, as a baseline for the federated model."""
    with command(as_json) as out:
        from dura_client.review.alone import read_parameters, refuse_real
        from dura_client.site.home import SiteHome
        from dura_client.studies.approvals import find_offer

        homes = [SiteHome(path.expanduser()) for path in (home, *(pool or ()))]
        others = [SiteHome(path.expanduser()) for path in beside or ()]
        refuse_real([*homes, *others], data)
        offer = find_offer(homes[0], study)
        parameters = read_parameters(model) if model is not None else None
        places = [homes, *([other] for other in others)]
        with out.progress() as bar:
            task = bar.add_task("training", total=offer.study.training.rounds * len(places))
            found = [_compare(place, offer.study, data, parameters, lambda: bar.advance(task)) for place in places]
        _warn_unprotected(out)
        (first, text), *rest = found
        beyond = {"beside": [answer for answer, _ in rest]} if rest else {}
        out.result({"study": offer.digest, **first, **beyond}, "\n".join([text, *(line for _, line in rest)]))


def _compare(
    homes: list[SiteHome],
    study: Study,
    data: str,
    parameters: NDArray[np.float32] | None,
    advance: Callable[[], None],
) -> tuple[dict[str, Any], str]:
    """Train a model on the data of these homes and score it, and a given model on the same patients."""
    from dura_client.review.alone import score_here, train_alone

    trained = train_alone(homes, study, data, progress=lambda _done, _rounds: advance())
    answer = _score_data(study, trained)
    text = f"model trained at {homes[0].path.name}: {_as_text(study, trained)}"
    if parameters is not None:
        given = score_here(homes, study, data, parameters)
        answer["model"] = _score_data(study, given)
        text += f"; the given model: {_as_text(study, given)}"
    return answer, text


def _tidy(home: Path) -> None:
    """Remove old prepared recordings, since new ones may have come."""
    import time

    from dura_client.patients.frozen import tidy_store
    from dura_client.site.home import SiteHome

    tidy_store(SiteHome(home.expanduser()), time.time())


def _score_data(study: Study, score: LocalScore) -> dict[str, Any]:
    found = {"accuracy": score.accuracy, "spread": score.spread, "scores": score.scores}
    return {"measure": study.data.measure, **found}


def _as_text(study: Study, score: LocalScore) -> str:
    return f"{study.data.measure} {score.accuracy:.3f}, spread over patients {score.spread:.3f}"


def _warn_unprotected(out: Output) -> None:
    out.warn(
        "these figures are exact: keep them inside the hospital, because passing them on is an unprotected release"
    )


def _review(out: Output, home: Path, reference: str, data: str) -> tuple[str, str, Review]:
    from dura_client.consortium.membership import contradictions
    from dura_client.review.review import review
    from dura_client.site.home import SiteHome
    from dura_client.studies.approvals import find_offer
    from dura_common.study.warnings import warnings_of

    site = SiteHome(home.expanduser())
    offer = find_offer(site, reference)
    with out.progress() as bar:
        task = bar.add_task("preparing recordings", total=None)
        result = review(site, offer, data, progress=lambda done, total: bar.update(task, completed=done, total=total))
    for sentence in warnings_of(offer.study):
        out.warn(sentence)
    names = (*sorted(offer.study.sites), offer.researcher.name)
    out.say(members_table(offer.here, names))
    out.say(f"signed by the researcher {offer.researcher.name}")
    for serial in contradictions(site):
        out.warn(f"two different rosters of serial {serial} are known: `dura site roster`")
    _show(out, offer.study.name, offer.digest, result)
    return offer.digest, offer.study.name, result


def _check(out: Output, home: Path, digest: str, data: str, html: Path | None) -> dict[str, Any]:
    """Say how well the data set meets the study, by the check of `dura site data check --study`.

    Neither patients nor recordings are named, since a review is not for the data manager alone; the page names them.
    """
    from dura_client.commands.data.check import say_findings, summary, without_places
    from dura_client.data.doctor.diagnose import diagnose
    from dura_client.data.doctor.page import render
    from dura_client.data.registry import load_dataset
    from dura_client.site.home import SiteHome
    from dura_client.studies.approvals import find_offer
    from dura_common.runtime.files import write_atomic

    site = SiteHome(home.expanduser())
    study = find_offer(site, digest).study
    with out.progress() as bar:
        task = bar.add_task("checking recordings", total=None)
        found = diagnose(
            load_dataset(site, data), study.data, lambda done, total: bar.update(task, completed=done, total=total)
        )
    if html is not None:
        write_atomic(html, render(data, found, study.name).encode())
    out.say(summary(data, found))
    say_findings(out, found.findings, named=False)
    if found.stops:
        out.warn("the check of the data found something that should be mended before this study is approved")
    return without_places(found)


def _show(out: Output, name: str, digest: str, result: Review) -> None:
    from dura_common.privacy.risk import sentences

    table = Table("", "rule", "what the policy says", title=f"{name} ({digest[:12]})")
    for finding in result.findings:
        mark = "[green]pass[/green]" if finding.passed else "[red]FAIL[/red]"
        table.add_row(mark, finding.rule, finding.sentence)
    out.say(table)
    out.say("What this study would release from the hospital:")
    for sentence in result.leaves:
        out.say(f"  - {sentence}")
    for why, patients in result.left_out.items():
        out.say(f"Left out of this study: {len(patients)} ({why})")
    cost = "not accounted (a study without noise)" if result.cost is None else f"epsilon {result.cost:.2f} at most"
    out.say(f"Cost to a patient: {cost}. Largest epsilon that any patient has spent so far: {result.spent:.2f}")
    if result.cost_if_broken != result.cost:
        out.say(
            f"Cost to a patient if the coordinator broke the secure aggregation: epsilon {result.cost_if_broken:.2f}"
        )
    if result.risk is not None:
        for sentence in sentences(result.risk):
            out.say(sentence)


def _as_data(digest: str, name: str, result: Review) -> dict[str, Any]:
    return {
        "study": digest,
        "name": name,
        "passed": result.passed,
        "findings": [asdict(finding) for finding in result.findings],
        "leaves": result.leaves,
        "left_out": {why: len(patients) for why, patients in result.left_out.items()},
        "epsilon": result.cost,
        "epsilon_if_broken": result.cost_if_broken,
        "risk": None if result.risk is None else asdict(result.risk),
        "risk_if_broken": None if result.risk_if_broken is None else asdict(result.risk_if_broken),
        "spent": result.spent,
        "members": [asdict(member) for member in result.members],
        "researcher": asdict(result.researcher),
    }

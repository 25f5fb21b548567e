"""`dura study submit | run | resume | stop`: send a signed study to its sites, and run the study."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dura_common.errors import StateError
from dura_common.runtime.console import JsonOption, Output, command
from dura_common.runtime.files import read_limited
from dura_server.commands.options import (
    DEFAULT_HOME,
    DEFAULT_RESEARCHER,
    ResearcherOption,
    StudyArgument,
    WhereOption,
)

if TYPE_CHECKING:
    from dura_server.commands.study.places.place import Place
    from dura_server.desk.view import StudyView

APPROVAL_POLL_SECONDS = 5.0
WaitOption = Annotated[float, typer.Option(help="Seconds to wait for missing approvals.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura study`."""
    app.command("submit")(submit)
    app.command("run")(run)
    app.command("resume")(resume)
    app.command("stop")(stop)


def submit(
    path: Annotated[Path, typer.Argument(help="The signed study file that `dura study sign` wrote.")],
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Offer a signed study to its sites. The coordinator's services must be running."""
    with command(as_json) as out:
        from dura_server.commands.study.outcome import finish

        envelope = read_limited(path, what="the signed study").decode("utf-8", errors="replace")
        place = find_place(home, researcher)
        view = place.submit(envelope)
        if not place.begin(view.digest, "offer"):
            raise StateError("this study is already running", hint="`dura study watch` shows it.")
        out.if_interrupted("The coordinator keeps offering the study; `dura study status` shows its state.")
        with out.progress() as bar:
            task = bar.add_task("offering", total=len(view.study.sites))
            view = place.follow(view.digest, "offer", lambda now: bar.update(task, completed=len(now.state.sites)))
        finish(out, view)


def run(
    study: StudyArgument,
    wait: WaitOption = 0.0,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Train a study that its sites have approved. If the study is already running, this command only follows it.

    If a study was stopped, or its process or coordinator was lost, it continues from the last opened sum.
    """
    with command(as_json) as out:
        place = find_place(home, researcher)
        _run(out, place, place.find(study), wait)


def resume(
    study: StudyArgument,
    wait: WaitOption = 0.0,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Continue a study that was stopped or interrupted, from the last opened sum."""
    with command(as_json) as out:
        place = find_place(home, researcher)
        view = place.find(study)
        if view.state.phase in {"submitted", "offering", "offered", "unapproved"}:
            raise StateError(f"this study has not begun; it is {view.state.phase}", hint="`dura study run` begins it.")
        _run(out, place, view, wait)


def stop(
    study: StudyArgument,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Stop a running study. Opened sums are kept, sites are free at once, and `dura study resume` continues it."""
    with command(as_json) as out:
        from dura_server.commands.study.outcome import as_data

        place = find_place(home, researcher)
        view = place.stop(place.find(study).digest)
        where = f"after round {view.state.round} of {view.state.rounds}"
        out.result(as_data(view), f"{view.short()}: {view.state.phase} {where}")


def find_place(home: Path | None, researcher: Path) -> Place:
    """Return where a command acts, by its options."""
    from dura_server.commands.study.places.choose import place_of

    return place_of(home, researcher, DEFAULT_HOME)


def _run(out: Output, place: Place, view: StudyView, wait: float) -> None:
    from datetime import UTC, datetime

    from dura_common.study import require_unexpired
    from dura_common.study.reference import SHORT_DIGITS
    from dura_server.commands.study.outcome import finish

    require_unexpired(view.study, datetime.now(UTC))
    short = view.digest[:SHORT_DIGITS]
    out.if_interrupted(
        "The study continues at the coordinator. "
        f"`dura study watch {short}` follows it, `dura study stop {short}` stops it."
    )
    deadline, before = time.monotonic() + wait, None
    while True:
        view = _once(out, place, view)
        state = view.state
        if state.phase == "interrupted" and place.progress(view.digest) != before:
            before = place.progress(view.digest)  # a process that dies at one place is not started for ever
            out.warn(f"{view.study.name} was interrupted ({state.message}); it goes on from the last opened sum")
        elif state.phase == "unapproved" and time.monotonic() < deadline:
            time.sleep(APPROVAL_POLL_SECONDS)
        else:
            break
    finish(out, view)


def _once(out: Output, place: Place, view: StudyView) -> StudyView:
    if not place.begin(view.digest, "train"):
        out.warn(f"{view.study.name} is already running: this command only follows it")
    with out.progress() as bar:
        task = bar.add_task("rounds", total=view.study.training.rounds)
        return place.follow(view.digest, "train", lambda now: bar.update(task, completed=now.state.round))

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
    complete_study,
)

if TYPE_CHECKING:
    from dura_server.commands.study.places.place import Place
    from dura_server.desk.view import StudyView

APPROVAL_POLL_SECONDS = 5.0
StudiesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Names of studies, their digests, or at least the first 6 digits of the digests.",
        autocompletion=complete_study,
    ),
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Return when the studies are in the queue. `dura study watch` follows them.")
]
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
    studies: StudiesArgument,
    wait: WaitOption = 0.0,
    detach: DetachOption = False,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Train studies that their sites have approved, in this order. Studies that share no site run side by side.

    If a study is already running or queued, this command only follows it. If a study was stopped, or its process or
    coordinator was lost, it continues from the last opened sum.
    """
    with command(as_json) as out:
        place = find_place(home, researcher)
        _run(out, place, [place.find(study) for study in studies], wait, detach=detach)


def resume(
    studies: StudiesArgument,
    wait: WaitOption = 0.0,
    detach: DetachOption = False,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Continue studies that were stopped or interrupted, from the last opened sum."""
    with command(as_json) as out:
        place = find_place(home, researcher)
        views = [place.find(study) for study in studies]
        for phase in (view.state.phase for view in views):
            if phase in {"submitted", "offering", "offered", "unapproved"}:
                raise StateError(f"this study has not begun; it is {phase}", hint="`dura study run` begins it.")
        _run(out, place, views, wait, detach=detach)


def stop(
    study: StudyArgument,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Stop a running or queued study. Opened sums are kept, its sites are free, `dura study resume` continues it."""
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


def _run(out: Output, place: Place, views: list[StudyView], wait: float, *, detach: bool) -> None:
    from datetime import UTC, datetime

    from dura_common.study import require_unexpired
    from dura_common.study.reference import SHORT_DIGITS
    from dura_server.commands.study.outcome import finish, finish_all

    views = list({view.digest: view for view in views}.values())
    for view in views:
        require_unexpired(view.study, datetime.now(UTC))
    short, deadline = views[0].digest[:SHORT_DIGITS], time.monotonic() + wait
    out.if_interrupted(
        "The queue continues at the coordinator. "
        f"`dura study watch {short}` follows a study, `dura study stop {short}` stops it."
    )
    for view in views:
        if not place.begin(view.digest, "train", wait):
            out.warn(f"{view.study.name} is already running or queued: this command only follows it")
    ended = [place.find(view.digest) if detach else _to_the_end(out, place, view, deadline) for view in views]
    if detach or len(ended) > 1:
        finish_all(out, ended, queued=detach)
    else:
        finish(out, ended[0])


def _to_the_end(out: Output, place: Place, view: StudyView, deadline: float) -> StudyView:
    """Follow a study until it ends; a desk asks again for approvals that are missing."""
    told = view.state.interruptions
    with out.progress() as bar:
        task = bar.add_task(view.study.name, total=view.study.training.rounds)

        def seen(now: StudyView) -> None:
            nonlocal told
            bar.update(task, completed=now.state.round, description=f"{now.study.name}: {now.state.phase}")
            if now.state.interruptions > told:
                out.warn(f"{now.study.name} was interrupted; it {now.state.message or 'goes on'}")
            told = now.state.interruptions

        while True:
            view = place.follow(view.digest, "train", seen)
            if view.state.phase != "unapproved" or time.monotonic() > deadline:
                return view
            time.sleep(APPROVAL_POLL_SECONDS)
            place.begin(view.digest, "train", deadline - time.monotonic())

"""`dura study submit | run | resume | stop`: send a signed study to its sites, and run the study."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dura_common.errors import StateError
from dura_common.runtime.console import JsonOption, Output, command
from dura_common.runtime.files import read_limited
from dura_server.commands.options import DEFAULT_HOME, HomeOption, StudyArgument

if TYPE_CHECKING:
    from dura_server.home import CoordinatorHome
    from dura_server.studies.state import StudyState
    from dura_server.studies.store import StoredStudy

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
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a signed study to its sites. The coordinator's services must be running."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.study import require_unexpired
        from dura_server.commands.study.outcome import finish
        from dura_server.commands.study.runs import begin, follow
        from dura_server.consortium.enrolment import read_roster
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        envelope = read_limited(path, what="the signed study").decode("utf-8", errors="replace")
        roster, roster_envelope = read_roster(coordinator)
        stored = StudyStore(coordinator).submit(envelope, roster_envelope, roster)
        require_unexpired(stored.study, datetime.now(UTC))
        if not begin(coordinator, stored, "offer"):
            raise StateError("this study is already running", hint="`dura study watch` shows it.")
        out.if_interrupted("The coordinator keeps offering the study; `dura study status` shows its state.")
        with out.progress() as bar:
            task = bar.add_task("offering", total=len(stored.study.sites))
            state = follow(
                coordinator, stored, "offer", changed=lambda state: bar.update(task, completed=len(state.sites))
            )
        finish(out, stored, state)


def run(
    study: StudyArgument, wait: WaitOption = 0.0, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Train a study that its sites have approved. If the study is already running, this command only follows it.

    If a study was stopped, or its process or coordinator was lost, it continues from the last opened sum.
    """
    with command(as_json) as out:
        _run(out, find_home(home), study, wait)


def resume(
    study: StudyArgument, wait: WaitOption = 0.0, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Continue a study that was stopped or interrupted, from the last opened sum."""
    with command(as_json) as out:
        from dura_server.commands.study.runs import phase_of
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        phase = phase_of(StudyStore(coordinator).find(study))
        if phase in {"submitted", "offering", "offered", "unapproved"}:
            raise StateError(f"this study has not begun; it is {phase}", hint="`dura study run` begins it.")
        _run(out, coordinator, study, wait)


def stop(study: StudyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Stop a running study. Opened sums are kept, sites are free at once, and `dura study resume` continues it."""
    with command(as_json) as out:
        from dura_server.commands.study.outcome import as_data
        from dura_server.commands.study.runs import halt
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        stored = StudyStore(coordinator).find(study)
        state = halt(coordinator, stored)
        place = f"after round {state.round} of {state.rounds}"
        out.result(as_data(stored, state), f"{stored.study.name} ({stored.digest[:12]}): {state.phase} {place}")


def find_home(home: Path) -> CoordinatorHome:
    """Return the coordinator's home that an option names."""
    from dura_server.home import CoordinatorHome

    return CoordinatorHome(home.expanduser())


def _run(out: Output, home: CoordinatorHome, reference: str, wait: float) -> None:
    from datetime import UTC, datetime

    from dura_common.study import require_unexpired
    from dura_server.commands.study.outcome import finish
    from dura_server.commands.study.runs import progress
    from dura_server.studies.store import StudyStore

    stored = StudyStore(home).find(reference)
    require_unexpired(stored.study, datetime.now(UTC))
    out.if_interrupted(
        "The study continues at the coordinator. "
        f"`dura study watch {stored.digest[:12]}` follows it, `dura study stop {stored.digest[:12]}` stops it."
    )
    deadline, before = time.monotonic() + wait, None
    while True:
        state = _once(out, home, stored)
        if state.phase == "interrupted" and progress(stored) != before:
            before = progress(stored)  # a process that dies at one place again and again is not started for ever
            out.warn(f"{stored.study.name} was interrupted ({state.message}); it goes on from the last opened sum")
        elif state.phase == "unapproved" and time.monotonic() < deadline:
            time.sleep(APPROVAL_POLL_SECONDS)
        else:
            break
    finish(out, stored, state)


def _once(out: Output, home: CoordinatorHome, stored: StoredStudy) -> StudyState:
    from dura_server.commands.study.runs import begin, follow

    if not begin(home, stored, "train"):
        out.warn(f"{stored.study.name} is already running: this command only follows it")
    with out.progress() as bar:
        task = bar.add_task("rounds", total=stored.study.training.rounds)
        return follow(home, stored, "train", changed=lambda state: bar.update(task, completed=state.round))

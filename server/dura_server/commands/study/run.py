"""`dura study submit | run | resume | stop`: send a signed study to its sites, and run the study."""

from __future__ import annotations

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

StudiesArgument = Annotated[
    list[str],
    typer.Argument(help="Names of studies, their digests, or at least the first 6 digits of the digests."),
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
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a signed study to its sites. The coordinator's services must be running."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.study import require_unexpired
        from dura_server.commands.study.outcome import finish
        from dura_server.consortium.enrolment import read_roster
        from dura_server.services.runs import begin, follow_offer
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
            state = follow_offer(
                coordinator, stored, changed=lambda state: bar.update(task, completed=len(state.sites))
            )
        finish(out, stored, state)


def run(
    studies: StudiesArgument,
    wait: WaitOption = 0.0,
    detach: DetachOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Train studies that their sites have approved, in this order. Studies that share no site run side by side.

    If a study is already running or queued, this command only follows it. If a study was stopped, or its process or
    coordinator was lost, it continues from the last opened sum.
    """
    with command(as_json) as out:
        _run(out, find_home(home), studies, wait, detach=detach)


def resume(
    studies: StudiesArgument,
    wait: WaitOption = 0.0,
    detach: DetachOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Continue studies that were stopped or interrupted, from the last opened sum."""
    with command(as_json) as out:
        from dura_server.services.runs import phase_of
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        for study in studies:
            phase = phase_of(StudyStore(coordinator).find(study))
            if phase in {"submitted", "offering", "offered", "unapproved"}:
                raise StateError(f"this study has not begun; it is {phase}", hint="`dura study run` begins it.")
        _run(out, coordinator, studies, wait, detach=detach)


def stop(study: StudyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Stop a running or queued study. Opened sums are kept, its sites are free, `dura study resume` continues it."""
    with command(as_json) as out:
        from dura_server.commands.study.outcome import as_data
        from dura_server.services.runs import halt
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


def _run(out: Output, home: CoordinatorHome, references: list[str], wait: float, *, detach: bool) -> None:
    from datetime import UTC, datetime, timedelta

    from dura_common.study import require_unexpired
    from dura_server.commands.study.outcome import finish, finish_all
    from dura_server.services.runs import phase_of, require_unfinished
    from dura_server.services.scheduler import enqueue, require_services
    from dura_server.studies.queue import wanted
    from dura_server.studies.state import ACTIVE
    from dura_server.studies.store import StudyStore

    now = datetime.now(UTC)
    studies = list({stored.digest: stored for stored in map(StudyStore(home).find, references)}.values())
    for stored in studies:
        require_unexpired(stored.study, now)
        require_unfinished(stored)
    require_services(home)
    short = " ".join(stored.digest[:12] for stored in studies)
    out.if_interrupted(
        "The queue continues at the coordinator. "
        f"`dura study watch {short[:12]}` follows a study, `dura study stop {short[:12]}` stops it."
    )
    for stored in studies:
        if phase_of(stored) in ACTIVE or wanted(stored) is not None:
            out.warn(f"{stored.study.name} is already running or queued: this command only follows it")
        enqueue(stored, now + timedelta(seconds=wait))
    states = [stored.read_state() for stored in studies] if detach else _follow(out, home, studies)
    if detach or len(studies) > 1:
        finish_all(out, list(zip(studies, states, strict=True)), queued=detach)
    else:
        finish(out, studies[0], states[0])


def _follow(out: Output, home: CoordinatorHome, studies: list[StoredStudy]) -> list[StudyState]:
    from dura_server.services.scheduler import follow

    with out.progress() as bar:
        tasks = {
            stored.digest: bar.add_task(stored.study.name, total=stored.study.training.rounds) for stored in studies
        }
        told = {stored.digest: stored.read_state().interruptions for stored in studies}

        def changed(stored: StoredStudy, state: StudyState) -> None:
            place = f"{stored.study.name}: {state.phase}"
            bar.update(tasks[stored.digest], completed=state.round, description=place)
            if state.interruptions > told[stored.digest]:
                out.warn(f"{stored.study.name} was interrupted; it {state.message or 'goes on'}")
            told[stored.digest] = state.interruptions

        return follow(home, studies, changed=changed)

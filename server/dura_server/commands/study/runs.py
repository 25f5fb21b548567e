"""Runs of a study, as commands use them: start a run, follow it, end it, and report its true state.

One process, the ServerApp, runs a study, and it holds a lock as long as it lives. Only this lock tells whether a study
is running: the state on disk remains after a process was killed, and Flower notices the death a minute later.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from dura_common.errors import HostError, StateError
from dura_common.runtime.files import exclusive
from dura_common.runtime.running import holder
from dura_server.commands.study.places.place import Job
from dura_server.home import CoordinatorHome
from dura_server.services.superlink import run_status, stop_run, submit_run
from dura_server.studies.standing import START_SECONDS, phase_of
from dura_server.studies.state import ACTIVE, Phase, StudyState
from dura_server.studies.store import StoredStudy

POLL_SECONDS = 0.2
FLOWER_POLL_SECONDS = 2.0
SERVICE_SECONDS = 60.0
"""Time for a SuperLink to answer whose services are running."""
STOP_SECONDS = 30.0
"""Time for that process to end without being killed."""
DONE: dict[Job, frozenset[Phase]] = {
    "offer": frozenset({"offered", "failed", "stopped", "interrupted"}),
    "train": frozenset({"finished", "failed", "unapproved", "stopped", "interrupted"}),
}


def begin(home: CoordinatorHome, stored: StoredStudy, job: Job) -> bool:
    """Start a process for a study, unless one already works on it. Return whether a new one was started.

    Raises:
        StateError: the study has finished.
        HostError: Flower cannot be reached.
    """
    with exclusive(stored.run_folder / "begin"):
        phase = phase_of(stored)
        if phase == "finished":
            raise StateError(
                "this study has finished, and its patients have paid for it: the study cannot run a second time",
                hint="`dura study report` writes its report. For another run, sign another study with its own budget.",
            )
        if phase in ACTIVE:
            return False
        _forget(home, stored.read_state())
        stored.stop_file.unlink(missing_ok=True)
        run = _submit(home, {"study": stored.digest, "job": job})
        stored.update(phase="starting", run=run, message="")
        return True


def follow(
    home: CoordinatorHome, stored: StoredStudy, job: Job, *, changed: Callable[[StudyState], None] | None = None
) -> StudyState:
    """Wait until no process works on a study any more; call ``changed`` at every change.

    If the process died without a message, the phase becomes "interrupted".

    Raises:
        HostError: Flower does not start the process, or cannot be reached for too long.
    """
    last, seen, asked = None, False, time.monotonic()
    deadline = asked + START_SECONDS
    while True:
        state = stored.read_state()
        if state != last and changed is not None:
            changed(state)
        last = state
        if state.phase in DONE[job]:
            return state
        if holder(stored.run_folder) is not None:
            seen = True
        elif seen or state.phase != "starting":
            return _last_word(stored, job)
        elif time.monotonic() > deadline:
            raise HostError("Flower did not start the study's process", hint=f"Its log: {home.logs / 'serverapp.log'}")
        elif time.monotonic() - asked > FLOWER_POLL_SECONDS:
            asked = time.monotonic()
            if _ended(home, state):
                return _last_word(stored, job)
        time.sleep(POLL_SECONDS)


def halt(home: CoordinatorHome, stored: StoredStudy) -> StudyState:
    """End the process of a study in an orderly way: sites are free again, and opened sums are kept.

    Raises:
        StateError: no process works on the study.
    """
    phase = phase_of(stored)
    if phase == "interrupted":
        return stored.update(phase="stopped", message="stopped by the operator")
    if phase not in ACTIVE:
        raise StateError(f"this study is not running; it is {phase}", hint="`dura study status` shows it.")
    stored.stop_file.touch()
    deadline = time.monotonic() + STOP_SECONDS
    while phase_of(stored) in ACTIVE and time.monotonic() < deadline:
        pid = holder(stored.run_folder)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            _wait_for_end(stored, deadline)
        time.sleep(POLL_SECONDS)
    _kill(stored)
    state = stored.read_state()
    _forget(home, state)
    if state.phase in ACTIVE or state.phase == "interrupted":
        state = stored.update(phase="stopped", message="stopped by the operator")
    return state


def progress(stored: StoredStudy) -> tuple[int, int]:
    """Return how far a study has come: rounds, and bytes of sums that were opened since."""
    return stored.read_state().round, sum(path.stat().st_size for path in stored.folder.glob("sums/*.log"))


def _submit(home: CoordinatorHome, config: dict[str, str]) -> int:
    """Start a run; a SuperLink that its supervisor is starting again is waited for."""
    deadline = time.monotonic() + SERVICE_SECONDS
    while True:
        try:
            return submit_run(home, config)
        except HostError:
            if holder(home.run) is None or time.monotonic() > deadline:
                raise
            time.sleep(FLOWER_POLL_SECONDS)


def _last_word(stored: StoredStudy, job: Job) -> StudyState:
    state = stored.read_state()
    if state.phase in DONE[job]:
        return state
    return stored.update(phase="interrupted", message="the study's process ended without a message")


def _ended(home: CoordinatorHome, state: StudyState) -> bool:
    """Tell whether Flower knows that a run is over; during a restart, the SuperLink cannot tell."""
    if state.run is None:
        return True
    try:
        return run_status(home, state.run).startswith("finished")
    except HostError:
        return False


def _wait_for_end(stored: StoredStudy, deadline: float) -> None:
    while holder(stored.run_folder) is not None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _kill(stored: StoredStudy) -> None:
    """Kill a process that hangs. Its study continues from the stored state."""
    pid = holder(stored.run_folder)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait_for_end(stored, time.monotonic() + STOP_SECONDS)


def _forget(home: CoordinatorHome, state: StudyState) -> None:
    """Tell Flower that an earlier run is over; otherwise, Flower would wait a minute for a dead process."""
    if state.run is not None:
        with suppress(HostError):
            stop_run(home, state.run)

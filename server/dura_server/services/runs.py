"""Runs of a study: start a run, follow it, end it, and report its true state.

One process, the ServerApp, runs a study, and it holds a lock as long as it lives. Only this lock tells whether a study
is running: the state on disk remains after a process was killed, and Flower notices the death a minute later.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

from dura_common.errors import HostError, StateError
from dura_common.runtime.running import holder
from dura_server.home import CoordinatorHome
from dura_server.studies.queue import at_the_queue, drop, wanted
from dura_server.studies.standing import START_SECONDS, phase_of
from dura_server.studies.state import ACTIVE, Phase, StudyState
from dura_server.studies.store import StoredStudy

Job = Literal["offer", "train"]
WAITING: frozenset[Phase] = frozenset({"submitted", "offered", "queued", "unapproved"})
"""Phases of a study that is in the queue and on which no process works."""
LOG = "serverapp.log"
DIED = f"the study's process ended without a message; see log/{LOG} in the coordinator's folder"
"""Desks read it too: it names no path of this machine."""

POLL_SECONDS = 0.2
FLOWER_POLL_SECONDS = 2.0
SERVICE_SECONDS = 60.0
"""Time for a SuperLink to answer whose services are running."""
STOP_SECONDS = 30.0
"""Time for that process to end without being killed."""
OFFERED: frozenset[Phase] = frozenset({"offered", "failed", "stopped", "interrupted"})
"""Phases in which an offer has ended."""


def present(stored: StoredStudy) -> StudyState:
    """Return the state of a study with its true phase; nothing is written."""
    state, phase = stored.read_state(), phase_of(stored)
    if phase == "interrupted" and state.phase in ACTIVE:
        return state.model_copy(update={"phase": phase, "message": DIED})
    return stored.read_state().model_copy(update={"phase": phase})


def begin(home: CoordinatorHome, stored: StoredStudy, job: Job) -> bool:
    """Start a process for a study, unless one already works on it. Return whether a new one was started.

    Raises:
        StateError: the study has finished.
        HostError: Flower cannot be reached.
    """
    with at_the_queue(stored):
        require_unfinished(stored)
        if phase_of(stored) in ACTIVE:
            return False
        start(home, stored, job, patience=SERVICE_SECONDS)
        return True


def require_unfinished(stored: StoredStudy) -> None:
    """Refuse to run a study a second time.

    Raises:
        StateError: the study has finished.
    """
    if phase_of(stored) == "finished":
        raise StateError(
            "this study has finished, and its patients have paid for it: the study cannot run a second time",
            hint="`dura study report` writes its report. For another run, sign another study with its own budget.",
        )


def start(home: CoordinatorHome, stored: StoredStudy, job: Job, *, patience: float, message: str = "") -> None:
    """Start a process for a study on which none works. The caller is at the queue.

    Args:
        home: of the coordinator.
        stored: the study.
        job: what the process does.
        patience: seconds to wait for a SuperLink that its supervisor is starting again.
        message: stands in the study's state until the process has begun.

    Raises:
        HostError: Flower cannot be reached.
    """
    _forget(home, stored.read_state())
    stored.stop_file.unlink(missing_ok=True)
    run = _submit(home, {"study": stored.digest, "job": job}, patience)
    stored.update(phase="starting", run=run, message=message)


def follow_offer(
    home: CoordinatorHome, stored: StoredStudy, *, changed: Callable[[StudyState], None] | None = None
) -> StudyState:
    """Wait until an offer has ended; call ``changed`` at every change.

    If the process died without a message, the phase becomes "interrupted".

    Raises:
        HostError: Flower does not start the process.
    """
    last, deadline = None, time.monotonic() + START_SECONDS
    while True:
        phase = settled(home, stored)
        state = stored.read_state()
        if state != last and changed is not None:
            changed(state)
        last = state
        if phase in OFFERED:
            return state
        if phase == "starting" and time.monotonic() > deadline:
            raise HostError("Flower did not start the study's process", hint=f"Its log: {home.logs / LOG}")
        time.sleep(POLL_SECONDS)


def settled(home: CoordinatorHome, stored: StoredStudy) -> Phase:
    """Return the phase of a study. If its process has died, the state says so from now on, and names the log."""
    phase, state = phase_of(stored), stored.read_state()
    age = (datetime.now(UTC) - state.updated).total_seconds()
    if phase == "starting" and age > FLOWER_POLL_SECONDS and _ended(home, state) and holder(stored.run_folder) is None:
        phase = "interrupted"  # it ended before it took its lock
    state = stored.read_state()
    if phase == "interrupted" and state.phase in ACTIVE:
        stored.update(phase=phase, message=DIED)
    return phase if state.phase in ACTIVE else state.phase


def halt(home: CoordinatorHome, stored: StoredStudy) -> StudyState:
    """Take a study out of the queue and end its process in an orderly way: sites are free, opened sums are kept.

    Raises:
        StateError: no process works on the study, and it is not in the queue.
    """
    with at_the_queue(stored):
        waits = wanted(stored) is not None
        drop(stored)
    phase = phase_of(stored)
    if phase == "interrupted" or (waits and phase in WAITING):
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


def _submit(home: CoordinatorHome, config: dict[str, str], patience: float) -> int:
    from dura_server.services.superlink import submit_run  # noqa: PLC0415  # Flower's import takes a second

    deadline = time.monotonic() + patience
    while True:
        try:
            return submit_run(home, config)
        except HostError:
            if holder(home.run) is None or time.monotonic() > deadline:
                raise
            time.sleep(FLOWER_POLL_SECONDS)


def _ended(home: CoordinatorHome, state: StudyState) -> bool:
    """Tell whether Flower knows that a run is over; during a restart, the SuperLink cannot tell."""
    if state.run is None:
        return True
    from dura_server.services.superlink import run_status  # noqa: PLC0415  # idem

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
        from dura_server.services.superlink import stop_run  # noqa: PLC0415  # idem

        with suppress(HostError):
            stop_run(home, state.run)

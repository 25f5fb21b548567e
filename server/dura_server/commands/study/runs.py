"""Runs of a study seen from a command: start one, follow it, end it, and say truly where it stands.

A study is run by one process, the ServerApp, which holds a lock while it lives. Nothing but that lock tells whether a
study runs: the state on disk outlives a process that was killed, and Flower notices such a death a minute later.
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
from dura_server.services.superlink import run_status, stop_run, submit_run
from dura_server.studies.lease import exclusive
from dura_server.studies.state import ACTIVE, Phase, StudyState
from dura_server.studies.store import StoredStudy

Job = Literal["offer", "train"]

POLL_SECONDS = 0.2
FLOWER_POLL_SECONDS = 2.0
START_SECONDS = 120.0
"""For Flower to start a process; it takes about five."""
SERVICE_SECONDS = 60.0
"""For services that run, and whose SuperLink does not answer."""
STOP_SECONDS = 30.0
"""For that process to end by itself."""
DONE: dict[Job, frozenset[Phase]] = {
    "offer": frozenset({"offered", "failed", "stopped", "interrupted"}),
    "train": frozenset({"finished", "failed", "unapproved", "stopped", "interrupted"}),
}


def phase_of(stored: StoredStudy) -> Phase:
    """Return the phase of a study, after looking whether anybody works on it: "interrupted" if nobody does."""
    state = stored.read_state()
    if state.phase not in ACTIVE or holder(stored.run_folder) is not None:
        return state.phase
    age = (datetime.now(UTC) - state.updated).total_seconds()
    if state.phase == "starting" and age < START_SECONDS:
        return state.phase
    state = stored.read_state()  # its last word may have come between the two looks
    return "interrupted" if state.phase in ACTIVE else state.phase


def begin(home: CoordinatorHome, stored: StoredStudy, job: Job) -> bool:
    """Start a process for a study, unless one works on it already; return whether a new one was started.

    Raises:
        StateError: the study has finished.
        HostError: Flower is out of reach.
    """
    with exclusive(stored.run_folder / "begin"):
        phase = phase_of(stored)
        if phase == "finished":
            raise StateError(
                "this study has finished, and its patients have paid for it: it cannot run a second time",
                hint="`dura study report` writes its report. Another run is another study, with its own budget.",
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
    """Wait for the end of what works on a study; ``changed`` hears of every change on the way.

    A process that died without a word makes the phase "interrupted".

    Raises:
        HostError: Flower does not start it, or is out of reach for too long.
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
    """End what works on a study, in order: sites are freed, and what was opened is kept.

    Raises:
        StateError: nobody works on it.
    """
    phase = phase_of(stored)
    if phase == "interrupted":
        return stored.update(phase="stopped", message="stopped by the operator")
    if phase not in ACTIVE:
        raise StateError(f"this study does not run; it is {phase}", hint="`dura study status` shows it.")
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
    return stored.update(phase="interrupted", message="the study's process ended without a word")


def _ended(home: CoordinatorHome, state: StudyState) -> bool:
    """Tell whether Flower knows that a run is over; a SuperLink that is being started again cannot tell."""
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
    """End a process that does not end by itself: it hangs, and its study goes on from what it has kept."""
    pid = holder(stored.run_folder)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        _wait_for_end(stored, time.monotonic() + STOP_SECONDS)


def _forget(home: CoordinatorHome, state: StudyState) -> None:
    """Tell Flower that an earlier run is over: it would wait a minute for the signs of life of a dead one."""
    if state.run is not None:
        with suppress(HostError):
            stop_run(home, state.run)

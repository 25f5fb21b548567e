"""How a study really stands: the phase on disk, checked against the process that must be alive in it."""

from __future__ import annotations

from datetime import UTC, datetime

from dura_common.runtime.running import holder
from dura_server.studies.state import ACTIVE, Phase
from dura_server.studies.store import StoredStudy

START_SECONDS = 120.0
"""Time for Flower to start a process, which takes about five seconds."""


def phase_of(stored: StoredStudy) -> Phase:
    """Return the phase of a study, after checking that a process works on it: "interrupted" if none does."""
    state = stored.read_state()
    if state.phase not in ACTIVE or holder(stored.run_folder) is not None:
        return state.phase
    age = (datetime.now(UTC) - state.updated).total_seconds()
    if state.phase == "starting" and age < START_SECONDS:
        return state.phase
    state = stored.read_state()  # the process may have ended between the two looks
    return "interrupted" if state.phase in ACTIVE else state.phase

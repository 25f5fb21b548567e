"""Where a study stands at the coordinator: one small file, replaced whole, so a crash leaves the last good one."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from dura_common.outputs.duplicates import Duplicates
from dura_common.study import Frozen
from dura_server.studies.estimate import Outcome

Phase = Literal[
    "submitted",
    "starting",
    "offering",
    "offered",
    "queued",
    "asking",
    "unapproved",
    "running",
    "finished",
    "failed",
    "stopped",
    "interrupted",
]
"""offered: every site was asked to review. starting: a process for it is on its way. queued: another study runs.
unapproved: too few approvals to begin, nothing was computed. stopped: by `dura study stop`. interrupted: its process
ended otherwise, with the coordinator or by a crash."""
ACTIVE: frozenset[Phase] = frozenset({"starting", "offering", "queued", "asking", "running"})
"""Phases in which a process of the study must be alive, or the study was interrupted."""


class CurvePoint(Frozen):
    """Released accuracy after one round; what else the study asked for after the last one."""

    round: int
    accuracy: float
    standard_error: float
    auc: float | None = None
    auc_standard_error: float | None = None
    confusion: tuple[tuple[float | None, ...], ...] | None = None
    """Patients by true class (rows) and predicted class; None where too few would be shown."""
    confusion_standard_error: float | None = None


def point_of(round_number: int, outcome: Outcome) -> CurvePoint:
    """Return an evaluation's outcome as it is kept."""
    return CurvePoint(
        round=round_number,
        accuracy=outcome.accuracy.accuracy,
        standard_error=outcome.accuracy.standard_error,
        auc=None if outcome.auc is None else outcome.auc.area,
        auc_standard_error=None if outcome.auc is None else outcome.auc.standard_error,
        confusion=None if outcome.confusion is None else outcome.confusion.cells,
        confusion_standard_error=None if outcome.confusion is None else outcome.confusion.standard_error,
    )


class StudyState(Frozen):
    """Where a study stands."""

    phase: Phase = "submitted"
    sites: dict[str, str] = Field(default_factory=dict)
    """Site name to offered, approved, declined, unreachable or the word of its refusal."""
    heard: dict[str, datetime] = Field(default_factory=dict)
    """Site name to the time of its last answer about this study."""
    run: int | None = None
    """Flower's number of the last run."""
    round: int = 0
    rounds: int
    curve: tuple[CurvePoint, ...] = ()
    duplicates: Duplicates | None = None
    """Recordings that several sites hold, where the study asks for it and the sum came about."""
    redraws: int = 0
    """Draws that the site which repeated most has repeated after a loss: many of them are an alarm."""
    given_up: int = 0
    """Sums of the training that were lost and could not be drawn again."""
    attempts: dict[str, int] = Field(default_factory=dict)
    """Purpose and round to the highest number of a request, over all runs."""
    message: str = ""
    """What to do next or what went wrong, for the operator."""
    updated: datetime

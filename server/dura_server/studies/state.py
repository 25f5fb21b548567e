"""The state of a study at the coordinator: one small file. It is replaced as a whole, so it survives a crash."""

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
"""offered: every site was asked to review the study. queued: the study begins when its sites are free. starting: its
process is being started. unapproved: too few sites approved, and nothing was computed. stopped: by `dura study stop`.
interrupted: its process ended in another way, with the coordinator or by a crash."""
ACTIVE: frozenset[Phase] = frozenset({"starting", "offering", "asking", "running"})
"""Phases in which a process of the study must be alive. Otherwise, the study was interrupted."""


class CurvePoint(Frozen):
    """Released accuracy after one round. The last round also has the other outputs that the study asked for.

    For a value, the accuracy is one minus the mean absolute error as a share of the range between the bounds.
    """

    round: int
    accuracy: float
    standard_error: float
    auc: float | None = None
    auc_standard_error: float | None = None
    confusion: tuple[tuple[float | None, ...], ...] | None = None
    """Patients by true class (rows) and predicted class; None for a cell with too few patients."""
    confusion_standard_error: float | None = None
    explained: float | None = None
    """Share of a value's variance that the model explains."""


def point_of(round_number: int, outcome: Outcome) -> CurvePoint:
    """Return an evaluation's outcome in the form in which it is stored."""
    return CurvePoint(
        round=round_number,
        accuracy=outcome.accuracy.accuracy,
        standard_error=outcome.accuracy.standard_error,
        auc=None if outcome.auc is None else outcome.auc.area,
        auc_standard_error=None if outcome.auc is None else outcome.auc.standard_error,
        confusion=None if outcome.confusion is None else outcome.confusion.cells,
        confusion_standard_error=None if outcome.confusion is None else outcome.confusion.standard_error,
        explained=outcome.explained,
    )


class StudyState(Frozen):
    """The state of a study."""

    phase: Phase = "submitted"
    sites: dict[str, str] = Field(default_factory=dict)
    """Maps each site's name to offered, approved, declined, or why there is no such answer."""
    heard: dict[str, datetime] = Field(default_factory=dict)
    """Maps each site's name to the time of its last answer about this study."""
    run: int | None = None
    """Flower's number of the last run."""
    round: int = 0
    rounds: int
    curve: tuple[CurvePoint, ...] = ()
    duplicates: Duplicates | None = None
    """Recordings that several sites hold, if the study asks for this count and the sum was opened."""
    redraws: int = 0
    """The most draws that any site repeated after losses. Many repetitions are a reason for suspicion."""
    given_up: int = 0
    """Sums of the training that were lost and could not be drawn again."""
    attempts: dict[str, int] = Field(default_factory=dict)
    """Maps purpose and round to the highest number of a request, over all runs."""
    interruptions: int = 0
    """How often the study's process was lost and the study went on by itself."""
    message: str = ""
    """Tells the operator what to do next, or what went wrong."""
    updated: datetime

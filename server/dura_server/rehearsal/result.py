"""The result of a rehearsal: accuracy for each epsilon, in the form that `dura study plan` reads."""

from __future__ import annotations

from collections.abc import Sequence

from dura_common.study import Frozen
from dura_server.studies.planning import RehearsalPoint


class RehearsalResult(Frozen):
    """The content of a rehearsal file."""

    study: str
    """Name of the study."""
    points: tuple[RehearsalPoint, ...]
    """By ascending epsilon."""
    chance: float | None
    """The accuracy of a guess; None where the answer is a value."""
    seconds: float


def point_of(epsilon: float, accuracies: Sequence[float]) -> RehearsalPoint:
    """Return mean and range over seeds."""
    return RehearsalPoint(
        epsilon=epsilon,
        mean=sum(accuracies) / len(accuracies),
        low=min(accuracies),
        high=max(accuracies),
        seeds=len(accuracies),
    )

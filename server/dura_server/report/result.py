"""The content of a report: the released outcome of a study, and the figures that only a simulation knows."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from dura_common.outputs.duplicates import Duplicates
from dura_common.study import Frozen


class SiteResult(Frozen):
    """One row of the table of sites."""

    site: str
    declared_patients: int
    epsilon: float | None
    """The most that any patient spent; None without noise."""
    accuracy_alone: float | None = None
    """The accuracy of a model that was trained at this site alone. It is known only for simulated data."""


class Point(Frozen):
    """One released point of the learning curve."""

    round: int
    accuracy: float
    standard_error: float
    auc: float | None = None
    auc_standard_error: float | None = None
    confusion: tuple[tuple[float | None, ...], ...] | None = None
    confusion_standard_error: float | None = None
    explained: float | None = None


class SimulationOnly(Frozen):
    """Figures that no real study has: exact accuracies and pooled training."""

    federated: float
    pooled: float
    seconds: dict[str, float] = Field(default_factory=dict)


class StudyResult(Frozen):
    """Everything that the report renders."""

    name: str
    question: str
    digest: str
    roster: str
    created: datetime
    dura_version: str
    noise: str
    epsilon: float | None
    epsilon_if_broken: float | None = None
    """Against a coordinator that broke the secure sums: with shared noise, a vector carries only its site's share."""
    sums: str = ""
    """The kind of secure sum that carried the vectors, and what the sum reveals."""
    delta: float | None
    rounds: int
    parameters: int
    chance: float | None
    """The accuracy of a guess; None where the answer is a value."""
    classes: tuple[str, ...] = ()
    """Label names, in the order of the rows of a confusion matrix."""
    bounds: tuple[float, float] | None = None
    """The public bounds of a value; accuracies are then 1 minus the mean error as a share of their distance."""
    warnings: tuple[str, ...]
    sites: tuple[SiteResult, ...]
    curve: tuple[Point, ...]
    duplicates: Duplicates | None = None
    """Recordings that several sites hold; None if the study did not ask for this count."""
    simulation: SimulationOnly | None = None

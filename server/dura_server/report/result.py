"""What a report shows: the released outcome of a study, and apart from it what only a simulation may know."""

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
    """Spent by the patient who paid most; None without noise."""
    accuracy_alone: float | None = None
    """Of a model trained at this site alone: known only for simulated data."""


class Point(Frozen):
    """One released point of the learning curve."""

    round: int
    accuracy: float
    standard_error: float
    auc: float | None = None
    auc_standard_error: float | None = None
    confusion: tuple[tuple[float | None, ...], ...] | None = None
    confusion_standard_error: float | None = None


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
    """Against a coordinator that broke the secure sums: with shared noise a site's vector has a share of it only."""
    sums: str = ""
    """Which kind of secure sum the vectors travelled in, and what it shows."""
    delta: float | None
    rounds: int
    parameters: int
    chance: float
    classes: tuple[str, ...] = ()
    """Label names, in the order of the rows of a confusion matrix."""
    warnings: tuple[str, ...]
    sites: tuple[SiteResult, ...]
    curve: tuple[Point, ...]
    duplicates: Duplicates | None = None
    """Recordings that several sites hold; None where the study did not ask."""
    simulation: SimulationOnly | None = None

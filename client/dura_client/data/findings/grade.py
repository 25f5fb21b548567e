"""How much a finding matters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """The consequence of a finding, worst first."""

    STOPS = "stops a study"
    """Nobody should approve a study on these data before it is mended."""
    LOSES = "loses data"
    """A recording, a channel or some events are not used."""
    KNOW = "worth knowing"
    """Nothing is lost; the data manager should have seen it once."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of finding."""

    grade: Grade
    title: str
    remedy: str

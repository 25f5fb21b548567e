"""What a defect is: one change of a sound data set, and the finding by which a data manager must learn of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.client.data.corpus.tree import Tree

Plant = Callable[[Tree], None]


@dataclass(frozen=True)
class Defect:
    """One change."""

    name: str
    """What was done, for people."""
    code: str
    """Of the finding that must name the cause."""
    plant: Plant
    kind: str = "edf"
    """Of the data set."""
    place: str = "sub-02"
    """Part of the place that the finding names."""
    contract: dict[str, Any] | None = None
    """Changes of the study that the data are checked against; None: no study."""
    dataset: dict[str, Any] = field(default_factory=dict)
    """Changes of the registration."""


class Collection(list[Defect]):
    """Defects of one subject."""

    def add(self, name: str, code: str, **fields: Any) -> Callable[[Plant], Plant]:
        """Return a decorator that adds a function as a defect."""

        def keep(plant: Plant) -> Plant:
            self.append(Defect(name, code, plant, **fields))
            return plant

        return keep

    def quick(self, name: str, code: str, plant: Plant, **fields: Any) -> None:
        """Add a defect that one expression plants."""
        self.append(Defect(name, code, plant, **fields))

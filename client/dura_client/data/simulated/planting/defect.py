"""What can be planted: a name, the kind of finding that must name it, where it fits, and how it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dura_client.data.simulated.planting.target import Target


@dataclass(frozen=True, slots=True)
class Defect:
    """One kind of defect."""

    name: str
    """For people."""
    code: str
    """Of the finding that names it: see docs/data/findings.md."""
    plant: Callable[[Target], None]
    endings: tuple[str, ...] = ()
    """Formats of recordings that it can be planted in; none: it needs no recording."""
    events: bool = False
    """Whether the recording must have events."""
    place: str = ""
    """File below the folder that the finding names, where it is not the recording's."""

    def fits(self, target: Target) -> bool:
        """Tell whether it can be planted in the files of a patient."""
        if not self.endings:
            return (target.root / "participants.tsv").exists()
        if target.recording is None or target.recording.suffix not in self.endings:
            return False
        return not self.events or _events(target) >= FEWEST_EVENTS


FEWEST_EVENTS = 4


def _events(target: Target) -> int:
    path = target.beside("_events.tsv")
    return len(path.read_text(encoding="utf-8").splitlines()) - 1 if path.exists() else 0

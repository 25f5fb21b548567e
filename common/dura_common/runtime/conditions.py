"""What somebody should know about a service, graded for people and monitors; both sides say it in the same words."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

from dura_common.errors import DuraError

CERTIFICATE_DAYS = 30
"""A certificate that expires sooner than this must be renewed by somebody."""
ROSTER_DAYS = 14
DISK_WARNING, DISK_CRITICAL = 2 << 30, 200 << 20
"""Free bytes. Below the lower bound, what must be kept may not be written any more."""


class Grade(IntEnum):
    """How urgent a condition is. The number is the exit code that monitors expect."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that somebody should know."""

    grade: Grade
    what: str
    """A word for scripts."""
    sentence: str

    def as_data(self) -> dict[str, Any]:
        """Return the condition for scripts."""
        return {**asdict(self), "grade": self.grade.name.lower()}

    def line(self) -> str:
        """Return the condition for people."""
        return f"{self.grade.name.lower()}: {self.sentence}"


def looked_at(what: str, part: Callable[[], Iterable[Condition]]) -> list[Condition]:
    """Return what a part finds; what cannot be read is a condition and no error."""
    found: list[Condition] = []
    try:
        found.extend(part())
    except DuraError as error:
        found.append(Condition(Grade.CRITICAL, what, error.message))
    return found


def sorted_by_urgency(found: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return conditions, the most urgent first."""
    return tuple(sorted(found, key=lambda one: (-one.grade, one.what)))


def of_service(state: Mapping[str, Any], *, what: str, name: str, consequence: str) -> Iterator[Condition]:
    """Look at a state as :func:`dura_common.runtime.running.status` returns it.

    Args:
        state: of the service.
        what: a word for scripts.
        name: what it is called in a sentence ("the node is").
        consequence: what does not work while the service does not run.
    """
    if not state["running"]:
        ended = state.get("ended")
        why = f"; it ended by itself: {ended['message']}" if ended else ""
        yield Condition(Grade.CRITICAL, what, f"{name} not running{why}; {consequence}")
        return
    if not state["ready"]:
        yield Condition(Grade.WARNING, what, f"{name} starting")
    for child in state["children"]:
        if child["restarts"]:
            sentence = f"{child['name']} was started again {child['restarts']} times; its log says why it ended"
            yield Condition(Grade.WARNING, "restarts", sentence)


def of_disk(folder: Path) -> Iterator[Condition]:
    """Look at the space that is left in a home."""
    if not folder.exists():
        yield Condition(Grade.CRITICAL, "disk", f"{folder} does not exist")
        return
    free = shutil.disk_usage(folder).free
    if free < DISK_WARNING:
        grade = Grade.CRITICAL if free < DISK_CRITICAL else Grade.WARNING
        yield Condition(grade, "disk", f"{free >> 20} MiB are free on the disk of {folder}")


def of_end(what: str, name: str, end: datetime, now: datetime, days: int) -> Iterator[Condition]:
    """Look at a date after which something is no longer valid."""
    if now > end:
        yield Condition(Grade.CRITICAL, what, f"{name} has expired on {end:%Y-%m-%d}")
    elif end - now < timedelta(days=days):
        yield Condition(Grade.WARNING, what, f"{name} expires on {end:%Y-%m-%d}")

"""One finding: what was seen, where, what it costs and what mends it.

Findings name files, channels and columns for the data manager of the site. They are printed and written where that
person asks for it, and stand in no log, in no error and in no answer to anybody else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dura_client.data.findings.kinds import KINDS, Grade


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the data manager should know before a study does."""

    code: str
    """Of the kind, such as ``GAP-FOUND``: a key of :data:`~dura_client.data.findings.kinds.KINDS`."""
    grade: Grade
    place: str
    """File or folder below the data set's folder, or "the data set"."""
    cause: str
    """What was found there, in a sentence without a full stop."""
    remedy: str
    """What to do, in sentences."""

    @property
    def title(self) -> str:
        """Name of the kind."""
        return KINDS[self.code].title


def found(
    code: str,
    place: object,
    cause: str,
    *,
    remedy: str | None = None,
    grade: Grade | None = None,
) -> Finding:
    """Return a finding of a known kind, with the kind's own grade and remedy unless others are given."""
    kind = KINDS[code]
    return Finding(code, grade or kind.grade, _shown(str(place)), _shown(cause), _shown(remedy or kind.remedy))


def _shown(text: str) -> str:
    """Return a text with a question mark for each byte of a file's name that is no character."""
    return text.encode("utf-8", "replace").decode()


WHOLE = "the data set"
"""The place of what concerns no single file."""


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings by consequence, worst first, then by kind and place."""
    order = list(Grade)
    return tuple(sorted(set(findings), key=lambda item: (order.index(item.grade), item.code, item.place, item.cause)))


def stops(findings: Iterable[Finding]) -> bool:
    """Tell whether something among them stops a study."""
    return any(item.grade is Grade.STOPS for item in findings)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as ``1 gap`` or ``3 gaps``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return names as a sentence lists them, the first few of many."""
    all_names = list(names)
    shown = ", ".join(all_names[:most])
    return shown if len(all_names) <= most else f"{shown} and {len(all_names) - most} more"

"""The cells of a table's columns: codes for missing values, numbers that cannot be, texts among numbers, names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from dura_client.data.findings.finding import Finding, counted, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf_text import is_identifying
from dura_client.data.recordings.tables import MISSING, Table, is_code, number_of

BOUNDS = {
    "age": (0.0, 120.0),
    "weight": (0.3, 400.0),
    "height": (0.2, 250.0),
    "mmse": (0.0, 30.0),
    "moca": (0.0, 30.0),
    "education": (0.0, 40.0),
    "iq": (30.0, 200.0),
    "fiq": (30.0, 200.0),
}
"""What a column of this name can hold (years, kg, m or cm, points)."""
WORDS = {
    "sex": {"m": "m", "f": "f", "o": "o", "male": "m", "female": "f", "other": "o"},
    "hand": {"r": "r", "l": "l", "a": "a", "right": "r", "left": "l", "ambidextrous": "a"},
}
"""What a column of this name can hold, and which words mean the same."""
WORDS["gender"], WORDS["handedness"] = WORDS["sex"], WORDS["hand"]
KEYS = {"participant_id", "session_id", "filename", "acq_time", "file", "key"}
"""Columns that say what a row is about; they are judged where they are used."""
FEWEST, FAR = 5, 50.0
"""Fewest numbers of a column that are compared, and how many times their usual distance a stray one is away."""
FACTOR = 10.0
"""Numbers within this factor of one another are of one kind; one that is off by its square has another unit."""


def cell_findings(table: Table, place: str) -> list[Finding]:
    """Return what is wrong with the cells of a table, and with columns that name people."""
    findings = identifying_findings(table, place)
    for name in table.columns:
        if name and name not in KEYS:
            findings += _column(name, table.column(name), place)
    return findings


def identifying_findings(table: Table, place: str) -> list[Finding]:
    """Return a finding for columns whose cells tell who a person is."""
    columns = [name for name in table.columns if is_identifying(name)]
    if not columns:
        return []
    remedy = "Nothing of it leaves the site. Remove the columns if others can read the folder."
    return [found("ID-HEAD", place, f"these columns can identify a person: {listed(columns)}", remedy=remedy)]


def _column(name: str, cells: Sequence[str], place: str) -> list[Finding]:
    plain = name.strip().lower()
    findings = []
    codes = [cell for cell in cells if is_code(cell)]
    if codes:
        shown = listed(sorted({cell or "(empty)" for cell in codes}))
        cause = f"column {name}: {len(codes)} of {len(cells)} values look like a code for missing ({shown})"
        findings.append(found("PART-CODE", place, cause))
    rest = [cell for cell in cells if cell not in MISSING and not is_code(cell)]
    if plain in WORDS:
        return [*findings, *_words(name, rest, WORDS[plain], place)]
    numbers = [number for cell in rest if (number := number_of(cell)) is not None]
    texts = [cell for cell in rest if number_of(cell) is None]
    bounds = BOUNDS.get(plain)
    if texts and (bounds or len(texts) <= len(numbers) or all(_is_comma(cell) for cell in texts)):
        cause = f"column {name}: {len(texts)} of {len(rest)} values are not numbers ({_why(texts)})"
        findings.append(found("PART-BOUND", place, cause))
    elif texts:
        findings += _spellings(name, texts, place)
    outside = sum(not bounds[0] <= number <= bounds[1] for number in numbers) if bounds else 0
    if bounds and outside:
        cause = f"column {name}: {outside} values lie outside {bounds[0]:g} to {bounds[1]:g}"
        findings.append(found("PART-BOUND", place, cause))
    elif len(numbers) >= FEWEST:
        findings += _spread(name, np.array(numbers), place)
    return findings


def _words(name: str, cells: Sequence[str], words: dict[str, str], place: str) -> list[Finding]:
    unknown = sorted({cell for cell in cells if cell.lower() not in words})
    ways: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        ways[words.get(cell.lower(), cell)].add(cell)
    findings = []
    if unknown:
        cause = f"column {name}: {len(unknown)} values that BIDS does not know ({listed(unknown)})"
        findings.append(found("PART-BOUND", place, cause, grade=Grade.KNOW))
    longer = {len(cell) > 1 for cell in cells if cell.lower() in words}
    both = [texts for texts in ways.values() if len(texts) > 1]
    if both or len(longer) > 1:
        texts = both[0] if both else {cell for cell in cells if cell.lower() in words}
        cause = f"column {name}: one thing is written in several ways ({listed(sorted(texts))})"
        findings.append(found("PART-BOUND", place, cause, grade=Grade.KNOW))
    return findings


def _is_comma(cell: str) -> bool:
    return re.fullmatch(r"[+-]?\d+,\d+", cell) is not None


def _why(texts: Sequence[str]) -> str:
    for pattern, why in (
        (
            r"[+-]?\d{1,3}([,.']\d{3}){2,}|[+-]?\d{1,3}((,\d{3})+\.\d+|(\.\d{3})+,\d+)",
            "a sign for thousands",
        ),
        (r"[+-]?\d+,\d+", "a decimal comma"),
        (r"\d+\+", "a limit such as 89+"),
        (r"[<>~=]+\s*\d.*", "a limit or an estimate"),
        (r"\d+([.,]\d+)?\s*\D.*", "a unit, a date or a range behind the number"),
    ):
        if all(re.fullmatch(pattern, cell) for cell in texts):
            both = " or a sign for thousands" if why == "a decimal comma" and _thousands(texts) else ""
            return why + both
    return "text"


def _thousands(texts: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[+-]?\d{1,3},\d{3}", cell) for cell in texts)


def _spellings(name: str, texts: Sequence[str], place: str) -> list[Finding]:
    """Say where two words differ in capitals or blanks only."""
    groups: dict[str, set[str]] = defaultdict(set)
    for cell in texts:
        groups[re.sub(r"[\s_.-]+", "", cell.lower())].add(cell)
    alike = [sorted(group) for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    cause = f"column {name}: words that differ in capitals or blanks only ({listed(alike[0])}) count as different"
    return [found("PART-BOUND", place, cause)]


def _spread(name: str, numbers: np.ndarray[tuple[int, ...], np.dtype[np.float64]], place: str) -> list[Finding]:
    """Say where a column holds one number only, or some that are far from all others, as of another unit."""
    middle = float(np.median(numbers))
    distance = np.abs(numbers - middle)
    usual = float(np.median(distance))
    if not distance.any():
        cause = f"column {name}: all {len(numbers)} rows hold the same number"
        return [
            found("PART-BOUND", place, cause, grade=Grade.KNOW, remedy="Leave it out of studies: it tells nothing.")
        ]
    core = np.sort(numbers)[1:-1]
    scale = max(usual, float(np.ptp(core)) / 2)
    far = int((distance > FAR * scale).sum()) if scale else 0
    if core[0] > 0 and core[-1] < FACTOR * core[0]:
        far += int(((numbers * FACTOR**2 < middle) | (numbers > middle * FACTOR**2)).sum()) if not far else 0
    if not far:
        return []
    cause = f"column {name}: {counted(far, 'number')} far from all others, as of another unit or a slip of the pen"
    return [found("PART-BOUND", place, cause)]

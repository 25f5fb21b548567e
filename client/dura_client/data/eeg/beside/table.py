"""The events of an events.tsv: which rows have a name and a time, in what unit, and what the column value says.

Names are read as BIDS means them, trial_type first and value where there is none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from dura_client.data.eeg.events import Events, Raw, placed
from dura_client.data.findings.finding import counted, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import Note, Piece
from dura_client.data.recordings.tables import HARMLESS, MISSING, NO_NAME, Table, number_of

NAMES = ("trial_type", "value")
MINUTE, FEWEST = 60.0, 4
"""Seconds, and fewest events of which it is said that their onsets look like minutes."""


def from_table(table: Table, rate: float, pieces: Sequence[Piece]) -> Events:
    """Return the events of an events.tsv."""
    notes: list[Note] = [_problem(problem.kind, problem.text) for problem in table.problems]
    if any(problem.kind in {"separator", "twice", "empty"} for problem in table.problems):
        return Events((), tuple(notes))
    absent = [name for name in ("onset", "duration") if name not in table]
    if absent:
        lost = "; none of its events is used" if "onset" in absent else ""
        notes.append(Note("EV-SEP", f"events.tsv has no column {' and no column '.join(absent)}{lost}"))
    near = [name for name in table.columns if name not in NAMES and name.lower() in NAMES]
    if near:
        cause = f"events.tsv writes the column {listed(near)}; BIDS wants small letters, so it was not used"
        notes.append(Note("EV-SEP", cause))
    if "onset" in absent:
        return Events((), tuple(notes))
    if not table.rows:
        notes.append(Note("SIDE-NONE", "events.tsv has a header and no row"))
    named = _named(table, notes)
    values = _values(table, named, notes)
    rows = _timed(table, named, rate, pieces, notes)
    return replace(placed(rows, rate, pieces, notes), values=values)


def _problem(kind: str, text: str) -> Note:
    if kind in {"encoding", "bom"}:
        return Note("EV-ENC", f"events.tsv: {text}")
    if kind == "empty":
        return Note("SIDE-NONE", "events.tsv is empty")
    return Note("EV-SEP", f"events.tsv: {text}", grade=Grade.KNOW if kind in HARMLESS else None)


def _named(table: Table, notes: list[Note]) -> list[tuple[int, str]]:
    """Return row and code of the events that have a name."""
    types = table.column("trial_type") if "trial_type" in table else None
    values = table.column("value") if "value" in table else None
    if types is not None and all(cell.lower() in NO_NAME for cell in types) and values is not None:
        if table.rows:
            notes.append(
                Note("EV-NA", "the column trial_type is empty; the column value names the events", grade=Grade.KNOW)
            )
        types = None
    cells = types or values
    if cells is None:
        if table.rows:
            notes.append(
                Note("EV-NA", "events.tsv has neither a column trial_type nor a column value; no event has a name")
            )
        return []
    named = [(row, " ".join(cell.split())) for row, cell in enumerate(cells) if cell.lower() not in NO_NAME]
    if len(named) < len(cells):
        notes.append(Note("EV-NA", f"{len(cells) - len(named)} of {len(cells)} events have no name and are not used"))
    return named


def _values(table: Table, named: Sequence[tuple[int, str]], notes: list[Note]) -> dict[str, frozenset[str]]:
    """Return what the column value says of each name, and say where one has several or several have one."""
    if "trial_type" not in table or "value" not in table:
        return {}
    cells = table.column("value")
    several: dict[str, set[str]] = defaultdict(set)
    owners: dict[str, set[str]] = defaultdict(set)
    for row, code in named:
        if cells[row].lower() not in NO_NAME and cells[row] != code:
            several[code].add(cells[row])
            owners[cells[row]].add(code)
    for text, groups in (("one trial_type has several values", several), ("one value has several trial_types", owners)):
        split = {name: found for name, found in groups.items() if len(found) > 1}
        if split:
            shown = listed(f"{name} ({listed(sorted(found), 4)})" for name, found in split.items())
            notes.append(Note("EV-VALUE", f"{text}: {shown}"))
    return {code: frozenset(found) for code, found in several.items()}


def _timed(
    table: Table, named: Sequence[tuple[int, str]], rate: float, pieces: Sequence[Piece], notes: list[Note]
) -> list[Raw]:
    """Return the rows whose times are numbers, after a look at what unit they are in."""
    onsets, samples = table.column("onset"), table.column("sample") if "sample" in table else None
    durations = table.column("duration") if "duration" in table else ["n/a"] * len(table.rows)
    wrong = [onsets[row] for row, _ in named if number_of(onsets[row]) is None]
    if wrong:
        comma = " (some have a decimal comma)" if any("," in cell for cell in wrong) else ""
        notes.append(
            Note("EV-ONSET", f"{len(wrong)} of {len(named)} onsets are not numbers{comma}; these events are not used")
        )
    odd = [durations[row] for row, _ in named if durations[row] not in MISSING and number_of(durations[row]) is None]
    if odd:
        notes.append(Note("EV-NEG", f"{counted(len(odd), 'duration')} no number, read as 0"))
    unsaid = sum(durations[row] in MISSING for row, _ in named) if "duration" in table else 0
    if unsaid:
        cause = f"{unsaid} of {len(named)} durations are n/a, read as 0"
        remedy = "Nothing needs to be done for events; a stretch, such as a stage of sleep, needs its length."
        notes.append(Note("EV-NEG", cause, remedy, Grade.KNOW))
    negative = sum((number_of(durations[row]) or 0.0) < 0 for row, _ in named)
    if negative:
        notes.append(Note("EV-NEG", f"{counted(negative, 'duration')} below zero, read as 0"))
    strange = sum(number_of(cell) is None and cell not in MISSING for cell in samples or ())
    if strange:
        cause = f"{counted(strange, 'cell')} of the column sample no number; the onsets were used"
        notes.append(Note("EV-SAMPLE", cause))
    rows = []
    for row, code in named:
        onset = number_of(onsets[row])
        if onset is not None:
            sample = number_of(samples[row]) if samples else None
            rows.append(
                Raw(onset, max(number_of(durations[row]) or 0.0, 0.0), code, None if sample is None else round(sample))
            )
    return [] if _other_unit(rows, rate, pieces, notes) else rows


def _other_unit(rows: Sequence[Raw], rate: float, pieces: Sequence[Piece], notes: list[Note]) -> bool:
    """Tell whether onsets are samples or milliseconds: most lie beyond the end, and divided they fill the recording."""
    if not rows:
        return False
    end = pieces[-1].clock + pieces[-1].samples / rate
    last = max(row.onset for row in rows)
    minutes = last * MINUTE / end
    if len(rows) >= FEWEST and 0.5 < minutes <= 1.0 and len({row.onset for row in rows}) > 1:  # noqa: PLR2004  # half the recording
        cause = f"the last onset is {last:.3g}, as if onsets were minutes of the recording's {end:g} s; they were used"
        remedy = "If they are minutes, multiply them by 60; BIDS wants seconds."
        notes.append(Note("EV-UNIT", cause, remedy, Grade.KNOW))
    if sum(row.onset > end for row in rows) * 2 <= len(rows):
        return False
    fills = {
        name: last / factor / end for name, factor in (("samples", rate), ("milliseconds", 1e3), ("microseconds", 1e6))
    }
    fitting = {name: fill for name, fill in fills.items() if 0.2 < fill <= 1.0}  # noqa: PLR2004  # events of less than a fifth of a recording tell nothing
    if not fitting:
        return False
    best = max(fitting, key=lambda name: fitting[name])
    divisor = {"samples": f"{rate:g}", "milliseconds": "1000", "microseconds": "1000000"}[best]
    notes.append(
        Note(
            "EV-UNIT",
            f"the last onset is {last / end:.3g} times the recording's {end:g} s, as if onsets were {best}; "
            "no event is used",
            f"Divide the onsets by {divisor} and save the table again; BIDS wants seconds.",
        )
    )
    return True

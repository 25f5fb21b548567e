"""The events of a recording: from events.tsv, else from the recording itself, placed by the clock of its records.

Names are read as BIDS means them, trial_type first and value where there is none; no reader renames them on the way.
What cannot be used is left out and counted: no number, before the start, beyond the end, in a gap, without a name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dura_client.data.findings.finding import counted, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf import EdfSource
from dura_client.data.recordings.source import Mark, Note, Piece, Source, length, sample_at
from dura_client.data.recordings.through_mne import MneSource

TECHNICAL = (
    "new segment",
    "boundary",
    "edge ",
    "bad_",
    "bad ",
    "impedance",
    "recording starts",
    "recording ends",
    "comment",
    "syncstatus",
)
"""Beginnings, in small letters, of marks that recorders and readers set themselves."""
BAD = ("bad", "edge ", "boundary")
"""Beginnings of marks that no window crosses."""
MAX_WORDS = 3
"""A mark of more words is free text."""
STATUS_BITS = 0xFFFF
BLOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Event:
    """One event at a sample of the recording."""

    sample: int
    code: str
    duration: float = 0.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Events:
    """The events of a recording in order of time, and what is to be said of them."""

    events: tuple[Event, ...]
    notes: tuple[Note, ...]
    bad: tuple[tuple[int, int], ...] = ()
    """Begin and end, in samples, of what is marked as bad; of a joint, the same sample twice."""
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Of each code, what the column value says of it."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One event, before it is placed."""

    onset: float
    duration: float
    code: str
    sample: int | None = None


def from_marks(source: Source, rate: float, pieces: Sequence[Piece]) -> Events:
    """Return the events that the recording itself holds: annotations, else codes of a status channel."""
    notes: list[Note] = []
    marks = source.marks
    if isinstance(source, EdfSource | MneSource) and all(_is_technical(mark.text) for mark in marks):
        marks = (*marks, *_status(source, notes))
    timed = [mark for mark in marks if math.isfinite(mark.onset) and math.isfinite(mark.duration)]
    if len(timed) < len(marks):
        lost = counted(len(marks) - len(timed), "mark")
        notes.append(Note("EV-ONSET", f"{lost} of the recording without a time that is a number"))
    below = sum(mark.duration < 0 for mark in timed)
    if below:
        notes.append(Note("EV-NEG", f"{counted(below, 'duration')} below zero, read as 0"))
    rows = [Raw(mark.onset, max(mark.duration, 0.0), code_of(mark.text)) for mark in timed]
    if rows:
        notes.append(
            Note("EV-FILE", f"there are no events in an events.tsv; {len(rows)} marks of the recording were read")
        )
    return placed(rows, rate, pieces, notes)


def place_marks(marks: Iterable[Mark], rate: float, pieces: Sequence[Piece]) -> Events:
    """Return the events that a list beside the recording tells, by the clock of the recording."""
    return placed([Raw(mark.onset, mark.duration, code_of(mark.text)) for mark in marks], rate, pieces, [])


def code_of(text: str) -> str:
    """Return the text of a mark as an event code: without the class that BrainVision puts before it."""
    return " ".join(text.removeprefix("Stimulus/").split())


def placed(rows: Sequence[Raw], rate: float, pieces: Sequence[Piece], notes: list[Note]) -> Events:
    """Place events at samples; say what has no place."""
    end = pieces[-1].clock + pieces[-1].samples / rate
    technical = [row for row in rows if _is_technical(row.code)]
    if technical:
        notes.append(
            Note("EV-MARK", f"{counted(len(technical), 'mark')}: {shown(sorted({row.code for row in technical}))}")
        )
    rows = [row for row in rows if not _is_technical(row.code)]
    free = [row for row in rows if len(row.code.split()) > MAX_WORDS]
    if free:
        notes.append(Note("ID-TEXT", f"{len(free)} of {len(rows)} events have a text of more than {MAX_WORDS} words"))
    early = sum(row.onset < -0.5 / rate for row in rows)
    late = sum(row.onset >= end for row in rows)
    if early:
        notes.append(Note("EV-NEG", f"{early} of {len(rows)} events lie before the first sample and are not used"))
    if late:
        notes.append(Note("EV-END", f"{late} of {len(rows)} events lie beyond the end ({end:g} s) and are not used"))
    over = sum(row.onset < end < row.onset + row.duration - 1 / rate for row in rows)
    if over:
        notes.append(
            Note("EV-END", f"{counted(over, 'event')} would last beyond the end ({end:g} s)", grade=Grade.KNOW)
        )
    events, in_gap = [], 0
    for row in rows:
        at = sample_at(row.onset, rate, pieces)
        if at is not None:
            events.append(Event(at, row.code, row.duration))
        elif 0 <= row.onset < end:
            in_gap += 1
    if in_gap:
        notes.append(Note("EV-GAP", f"{in_gap} of {len(rows)} events"))
    _samples_agree(rows, rate, pieces, notes)
    bad = [span_of(row.onset, row.duration, rate, pieces) for row in technical if row.code.lower().startswith(BAD)]
    return Events(_in_order(events, notes), tuple(notes), tuple(sorted(bad)))


def span_of(onset: float, duration: float, rate: float, pieces: Sequence[Piece]) -> tuple[int, int]:
    """Return begin and end, in samples, of a stretch of clock time; what lies in a gap has no samples."""
    begin, end = (_next_sample(seconds, rate, pieces) for seconds in (onset, onset + duration))
    return begin, max(begin, end)


def _next_sample(seconds: float, rate: float, pieces: Sequence[Piece]) -> int:
    """Return the first sample at or after a time by the clock."""
    for piece in pieces:
        if seconds < piece.clock + (piece.samples - 0.5) / rate:
            return piece.first + max(round((seconds - piece.clock) * rate), 0)
    return length(pieces)


def _samples_agree(rows: Sequence[Raw], rate: float, pieces: Sequence[Piece], notes: list[Note]) -> None:
    """Compare the columns onset and sample; samples may count from 0 or from 1, at the recorder's own rate."""
    pairs = [(sample_at(row.onset, rate, pieces), row.sample) for row in rows if row.sample is not None]
    differences = [abs(at - sample) for at, sample in pairs if at is not None and sample is not None]
    apart = sum(difference > 2 for difference in differences)  # noqa: PLR2004  # rounding, and counting from 1
    if apart and len(pieces) == 1:
        notes.append(
            Note(
                "EV-SAMPLE",
                f"{apart} of {len(differences)} events: they are up to {max(differences) / rate:.3g} s apart",
            )
        )


def _in_order(events: list[Event], notes: list[Note]) -> tuple[Event, ...]:
    ordered = sorted(events, key=lambda event: event.sample)
    if ordered != events:
        notes.append(Note("EV-SORT", "the events do not come in order of time"))
    twice = {key: count for key, count in Counter((event.sample, event.code) for event in ordered).items() if count > 1}
    if twice:
        notes.append(
            Note("EV-TWICE", f"{counted(sum(twice.values()) - len(twice), 'event')} written again, counted once")
        )
    unique = list({(event.sample, event.code): event for event in ordered}.values())
    moments = Counter(event.sample for event in unique)
    shared = sum(count > 1 for count in moments.values())
    if shared:
        notes.append(
            Note(
                "EV-TWICE",
                f"at {counted(shared, 'moment')} several events of different names; all are used",
                grade=Grade.KNOW,
            )
        )
    return tuple(unique)


def shown(codes: Iterable[str]) -> str:
    """Return event codes as a finding lists them: free text may name people and is not repeated."""
    return listed(dict.fromkeys(code if len(code.split()) <= MAX_WORDS else "(text)" for code in codes))


def _is_technical(code: str) -> bool:
    return code.lower().startswith(TECHNICAL)


def _status(source: EdfSource | MneSource, notes: list[Note]) -> tuple[Mark, ...]:
    """Return the changes of a channel of codes to one above zero; bits above the lower 16 are the amplifier's."""
    index = source.trigger
    if index is None:
        return ()
    rate = source.signals[index].rate
    pieces = source.pieces(rate)
    block = max(round(BLOCK_SECONDS * rate), 1)
    marks: list[Mark] = []
    before, cleaned = None, False
    for piece in pieces:
        for start in range(piece.first, piece.first + piece.samples, block):
            stop = min(start + block, piece.first + piece.samples)
            digits = source.digits(index, start, stop)
            cleaned |= bool((digits & ~STATUS_BITS).any())
            codes = digits & STATUS_BITS
            first = codes[0] if before is None else before
            changes = np.flatnonzero(np.diff(codes, prepend=first))
            marks += [
                Mark(piece.clock + (start + at - piece.first) / rate, 0.0, str(codes[at]))
                for at in changes
                if codes[at]
            ]
            before = int(codes[-1])
    if cleaned:
        notes.append(Note("EV-BITS", "the status channel has bits above the lower 16, which are no code"))
    wide = sum(int(mark.text) > 255 for mark in marks)  # noqa: PLR2004  # the largest code of 8 bits
    if wide:
        notes.append(Note("EV-BITS", f"{counted(wide, 'event')} with a code of more than 8 bits, kept whole"))
    return tuple(marks)

"""When each data record of an EDF+ or BDF+ file began, and what is annotated there.

Neither the header (``EDF+D``) nor readers tell the truth about gaps, so the time of every record is read: the first
text of the first annotation signal. Only these bytes are read, a few dozen of each record.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dura_client.data.findings.finding import counted
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf_header import EdfHeader
from dura_client.data.recordings.source import Mark, Note, Piece, Unreadable

TEXT, DURATION = "\x14", "\x15"
MOST_BEFORE = 1.0
"""Seconds from the header's start to the first data record, at most (EDF+)."""
LATIN = "the annotations are not in UTF-8; they were read as Latin-1"


@dataclass(frozen=True, slots=True)
class Clock:
    """Times of a file's records and its annotations, both from the first record on."""

    onsets: tuple[float, ...]
    """Seconds of each record; empty if the file keeps no times and so has no gaps."""
    marks: tuple[Mark, ...]
    notes: tuple[Note, ...]


def read_clock(path: Path, header: EdfHeader, *, fits: bool) -> Clock:
    """Return times and annotations of all records; ``fits`` says whether the file has the declared size.

    Raises:
        Unreadable: the header does not describe the data records.
    """
    places = _places(header)
    if not places:
        missing = Note(
            "FILE-HEAD",
            "the header says EDF+ or BDF+, but there is no annotation signal",
            grade=Grade.KNOW,
            remedy="Nothing needs to be done if there are no gaps and no annotations; otherwise export again.",
        )
        return Clock((), (), (missing,) if header.plus else ())
    notes: list[Note] = []
    onsets: list[float | None] = []
    marks: list[Mark] = []
    latin, timeless = False, 0
    for content in _contents(path, header, places):
        for order, field in enumerate(content):
            try:
                text = field.decode()
            except UnicodeDecodeError:
                text, latin = field.decode("latin-1"), True
            begin, found, broken = _tals(text, first=order == 0)
            if order == 0:
                onsets.append(begin)
            marks += found
            timeless += broken
    if latin:
        notes.append(Note("EV-ENC", LATIN))
    if timeless:
        lost = counted(timeless, "annotation")
        notes.append(Note("EV-ONSET", f"{lost} of the recording without a time that is a number"))
    known = _filled(onsets, header.seconds, notes, fits=fits)
    start = known[0] if known else 0.0
    if abs(start) > MOST_BEFORE:
        cause = f"the first data record begins {start:g} s after the start that the header names; times count from it"
        notes.append(
            Note("GAP-FOUND", cause, "Nothing needs to be done if onsets in events.tsv count from there, too.")
        )
    shifted = tuple(Mark(mark.onset - start, mark.duration, mark.text) for mark in marks)
    return Clock(tuple(onset - start for onset in known), shifted, tuple(notes))


def pieces_of(header: EdfHeader, onsets: Sequence[float], rate: float) -> tuple[Piece, ...]:
    """Return the stretches without a gap for signals of one rate.

    A new one begins where a record is more than half a sample away from where the stretch would have it.
    """
    in_record = round(rate * header.seconds)
    if not onsets:
        return (Piece(0, header.records * in_record, 0.0),)
    begins = [0]
    for record in range(1, len(onsets)):
        expected = onsets[begins[-1]] + (record - begins[-1]) * header.seconds
        if abs(onsets[record] - expected) > 0.5 / rate:
            begins.append(record)
    ends = [*begins[1:], len(onsets)]
    return tuple(
        Piece(begin * in_record, (end - begin) * in_record, onsets[begin])
        for begin, end in zip(begins, ends, strict=True)
    )


def gap_notes(header: EdfHeader, pieces: Sequence[Piece], rate: float) -> tuple[Note, ...]:
    """Return what is to be said of gaps.

    Raises:
        Unreadable: a record begins before the one before it has ended.
    """
    gaps = [after.clock - (before.clock + before.samples / rate) for before, after in itertools.pairwise(pieces)]
    if not gaps:
        return ()
    if min(gaps) < 0:
        back = sum(gap < 0 for gap in gaps)
        raise Unreadable(
            "GAP-BACK",
            f"at {counted(back, 'place')} a data record begins before the one before it has ended: the header gives "
            f"records {header.seconds:g} s, and the next begins as soon as {_least(pieces, header, rate):g} s later",
        )
    cause = f"{counted(len(gaps), 'gap')}, the longest {max(gaps):.3g} s, {sum(gaps):.3g} s in all"
    if header.plus.endswith("D"):
        return (Note("GAP-FOUND", cause),)
    return (Note("GAP-HIDDEN", f"{cause}, although the header says that the recording is continuous"),)


def _least(pieces: Sequence[Piece], header: EdfHeader, rate: float) -> float:
    """Return the smallest time from one data record to the next."""
    steps = [
        after.clock - (before.clock + before.samples / rate - header.seconds)
        for before, after in itertools.pairwise(pieces)
    ]
    return float(f"{min(steps):.3g}")


def _places(header: EdfHeader) -> list[tuple[int, int]]:
    """Return offset in a record and length in bytes of each annotation signal."""
    found, at = [], 0
    for signal in header.signals:
        size = signal.samples * header.sample_bytes
        if signal.is_annotations:
            found.append((at, size))
        at += size
    return found


def _contents(path: Path, header: EdfHeader, places: Sequence[tuple[int, int]]) -> list[list[bytes]]:
    first, step = header.header_bytes, header.record_bytes
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return [
            [os.pread(descriptor, size, first + record * step + at) for at, size in places]
            for record in range(header.records)
        ]
    finally:
        os.close(descriptor)


def _tals(text: str, *, first: bool) -> tuple[float | None, list[Mark], int]:
    """Return the record's time, if it stands in this field, the annotations of the field, and how many have no time."""
    begin: float | None = None
    marks, broken = [], 0
    for number, entry in enumerate(part for part in text.split("\0") if part):
        times, *texts = entry.split(TEXT)
        onset, _, duration = times.partition(DURATION)
        try:
            at, lasting = float(onset), float(duration or 0)
        except ValueError:
            at = lasting = math.nan
        if not (math.isfinite(at) and math.isfinite(lasting)):
            broken += sum(bool(one.strip()) for one in texts)
            continue
        if first and number == 0:
            begin = at
        marks += [Mark(at, lasting, one) for one in texts if one]
    return begin, marks, broken


def _filled(onsets: Sequence[float | None], seconds: float, notes: list[Note], *, fits: bool) -> list[float]:
    """Give records without a time the one that follows from the record before.

    Raises:
        Unreadable: times are missing in a file that has not the declared size (``fits``).
    """
    known: list[float] = []
    for onset in onsets:
        known.append((known[-1] + seconds if known else 0.0) if onset is None else onset)
    lost = sum(onset is None for onset in onsets)
    if lost and not fits:
        raise Unreadable(
            "FILE-HEAD",
            f"the data records do not lie where the header puts them: {lost} of {len(onsets)} have no time there, "
            "and the file's size is not the declared one",
        )
    if lost:
        notes.append(
            Note(
                "FILE-HEAD",
                f"{lost} of {len(onsets)} data records have no time; they were taken to follow one another",
                "Export the recording again if its annotations matter.",
            )
        )
    return known

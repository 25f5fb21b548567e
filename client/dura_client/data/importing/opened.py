"""A recording of a clinic, opened for import: packed ones unpacked first, and a night together with its hypnogram."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf import EdfSource, read_annotations
from dura_client.data.recordings.edf_header import EdfHeader
from dura_client.data.recordings.opening import open_source
from dura_client.data.recordings.source import Mark, Note, Source, Unreadable

PREFIX = 5
"""So many first letters of the names of a night and of its hypnogram agree."""
MOST_APART = 60.0
"""Seconds between the starts of the two."""


@dataclass(frozen=True)
class OpenedSource:
    """A source with what stands beside it."""

    source: Source
    hypnogram: tuple[Mark, ...]
    """Stages by the clock of the recording; empty if there is no hypnogram."""
    notes: tuple[Note, ...]


@contextmanager
def opened(path: Path) -> Iterator[OpenedSource]:
    """Open a recording while the block runs.

    Raises:
        Unreadable: it cannot be used, and why.
    """
    if path.suffix.lower() != ".gz":
        yield _with_hypnogram(path, open_source(path))
        return
    with tempfile.TemporaryDirectory(prefix="dura-import-") as folder:
        inside = Path(folder) / path.name.removesuffix(path.suffix)
        try:
            with gzip.open(path) as packed, inside.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        except (OSError, EOFError) as error:
            raise Unreadable("FILE-GZ", f"it cannot be unpacked: {type(error).__name__}") from error
        yield OpenedSource(open_source(inside), (), (Note("FILE-GZ", "it was unpacked", grade=Grade.KNOW),))


def _with_hypnogram(path: Path, source: Source) -> OpenedSource:
    if not isinstance(source, EdfSource):
        return OpenedSource(source, (), ())
    for other in sorted(path.parent.glob("*.[eE][dD][fF]")):
        if other == path or other.name[:PREFIX] != path.name[:PREFIX]:
            continue
        found = read_annotations(other)
        if found is None:
            continue
        header, marks = found
        shift = _seconds(header, source.header)
        if shift is None or abs(shift) > MOST_APART:
            apart = "have no dates to compare" if shift is None else f"start {shift:g} s apart"
            return OpenedSource(
                source, (), (Note("HYP-PAIR", f"the recording and its hypnogram {other.name} {apart}"),)
            )
        moved = tuple(Mark(mark.onset + shift, mark.duration, mark.text) for mark in marks)
        note = Note("HYP-USED", f"stages come from {other.name}, which starts {shift:g} s after the recording")
        return OpenedSource(source, moved, (note,))
    return OpenedSource(source, (), ())


def _seconds(later: EdfHeader, earlier: EdfHeader) -> float | None:
    """Return the seconds from one start to another."""
    try:
        times = [datetime.strptime(f"{one.date} {one.time}", "%d.%m.%y %H.%M.%S") for one in (later, earlier)]  # noqa: DTZ007  # both by the recorder's own clock
    except ValueError:
        return None
    return (times[0] - times[1]).total_seconds()

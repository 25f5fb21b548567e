"""A recording of a clinic, opened for import: packed ones unpacked first, and a night together with its hypnogram."""

from __future__ import annotations

import gzip
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from dura_client.data.findings.finding import listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf import EdfSource, read_annotations
from dura_client.data.recordings.edf_header import EdfHeader
from dura_client.data.recordings.opening import open_source
from dura_client.data.recordings.source import Mark, Note, Source, Unreadable

PREFIX = 5
"""So many first letters of the names of a night and of its hypnogram agree, or more: the longest match counts."""
MOST_APART = 60.0
"""Seconds between the starts of the two."""
MAX_UNPACKED = 16 << 30
"""Bytes. A night of 256 channels has about 15 GB; a small file may claim to hold a whole disk."""
PIECE = 1 << 20


@dataclass(frozen=True)
class OpenedSource:
    """A source with what stands beside it."""

    source: Source
    hypnogram: tuple[Mark, ...]
    """Stages by the clock of the recording; empty if there is no hypnogram."""
    notes: tuple[Note, ...]
    beside: Path | None = None
    """File of the hypnogram."""


@dataclass(frozen=True, slots=True)
class _Hypnogram:
    path: Path
    header: EdfHeader
    marks: tuple[Mark, ...]


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
                _unpack(packed, plain)
        except (OSError, EOFError) as error:
            raise Unreadable("FILE-GZ", f"it cannot be unpacked: {type(error).__name__}") from error
        yield OpenedSource(open_source(inside), (), (Note("FILE-GZ", "it was unpacked", grade=Grade.KNOW),))


def _unpack(packed: gzip.GzipFile, plain: IO[bytes]) -> None:
    written = 0
    while piece := packed.read(PIECE):
        written += len(piece)
        if written > MAX_UNPACKED:
            raise Unreadable("FILE-GZ", f"unpacked, it is larger than {MAX_UNPACKED >> 20} MiB")
        plain.write(piece)


def _with_hypnogram(path: Path, source: Source) -> OpenedSource:
    """Return a night with the stages of the hypnogram whose name is nearest, if both begin together."""
    if not isinstance(source, EdfSource):
        return OpenedSource(source, (), ())
    found = [_Hypnogram(other, *told) for other in _alike(path) if (told := read_annotations(other)) is not None]
    own = [item for item in found if _is_nearest(item.path, path)]
    shifts = {item.path: _seconds(item.header, source.header) for item in own}
    together = [item for item in own if _begin_together(shifts[item.path])]
    longest = max((_common(item.path, path) for item in together), default=0)
    nearest = [item for item in together if _common(item.path, path) == longest]
    if len(nearest) == 1:
        shift = shifts[nearest[0].path] or 0.0
        moved = tuple(Mark(mark.onset + shift, mark.duration, mark.text) for mark in nearest[0].marks)
        note = Note(
            "HYP-USED", f"stages come from {nearest[0].path.name}, which starts {shift:g} s after the recording"
        )
        return OpenedSource(source, moved, (note,), nearest[0].path)
    if nearest:
        names = listed(item.path.name for item in nearest)
        return OpenedSource(source, (), (Note("HYP-PAIR", f"{names} begin with the recording: which is its own?"),))
    if own:
        other = max((item.path for item in own), key=lambda one: _common(one, path))
        seconds = shifts[other]
        apart = "have no dates to compare" if seconds is None else f"start {seconds:g} s apart"
        return OpenedSource(source, (), (Note("HYP-PAIR", f"the recording and its hypnogram {other.name} {apart}"),))
    return OpenedSource(source, (), ())


def _alike(path: Path) -> list[Path]:
    """Return the other EDF files of a folder whose names begin as a file's."""
    others = sorted(path.parent.glob("*.[eE][dD][fF]"))
    return [other for other in others if other != path and _common(other, path) >= PREFIX]


def _is_nearest(hypnogram: Path, path: Path) -> bool:
    """Tell whether no other recording of the folder has a name that is nearer to that of a hypnogram."""
    nearer = [other for other in _alike(hypnogram) if _common(hypnogram, other) > _common(hypnogram, path)]
    return all(read_annotations(other) is not None for other in nearer)


def _common(one: Path, other: Path) -> int:
    """Return how many first letters two names have in common."""
    same = (left == right for left, right in zip(one.name, other.name, strict=False))
    return len(list(itertools.takewhile(bool, same)))


def _begin_together(shift: float | None) -> bool:
    return shift is not None and abs(shift) <= MOST_APART


def _seconds(later: EdfHeader, earlier: EdfHeader) -> float | None:
    """Return the seconds from one start to another."""
    try:
        times = [datetime.strptime(f"{one.date} {one.time}", "%d.%m.%y %H.%M.%S") for one in (later, earlier)]  # noqa: DTZ007  # both by the recorder's own clock
    except ValueError:
        return None
    return (times[0] - times[1]).total_seconds()

"""Every opened sum on disk before anybody is told: what lets a study go on after a crash without drawing again.

One file for each purpose and round of a study, to which records are only added:

    4 bytes    length of the head
    8 bytes    length of the body
    head       JSON: attempt, step, contributors, kind of number
    body       the sum, little-endian int32 where it fits, else int64; nothing for a sum that was given up
    32 bytes   SHA-256 of all that

A record that is cut off or does not hash is where the file ends: the crash came while it was written, and nobody was
told of it. Attempts only grow. A sum of step k that was opened again, in a later attempt, stands in place of every
earlier sum from k on, since those follow from another state.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from dura_common.errors import HostError
from dura_common.runtime.files import private_folder
from dura_common.secagg import Opened
from dura_server.home import CoordinatorHome

_LENGTHS = struct.Struct("<IQ")
_MARK_BYTES = 32
MAX_HEAD_BYTES = 65_536
"""500 names of 31 letters are below 20 kB."""
NARROW, WIDE = "<i4", "<i8"


@dataclass(frozen=True, slots=True)
class Kept:
    """An opened sum, or one that was given up, and the attempt in which that happened."""

    attempt: int
    step: int
    opened: Opened | None
    """None: it was lost, and sites had no draw left to make it again."""

    @classmethod
    def of(cls, attempt: int, opened: Opened) -> Self:
        """Return an opened sum of an attempt."""
        return cls(attempt, opened.step, opened)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a record lies in its file."""

    begin: int
    end: int
    attempt: int
    step: int


class SumLog:
    """The opened sums of one study.

    Args:
        folder: for its files, below the study's own.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(cls, home: CoordinatorHome, study: str) -> Self:
        """Return the log of a study by its digest."""
        return cls(home.studies / study / "sums")

    def writer(self, purpose: str, round_number: int) -> SumWriter:
        """Return a writer of many sums in one file, which stays open until the writer is closed."""
        return SumWriter(self._path(purpose, round_number))

    def append(self, purpose: str, round_number: int, kept: Kept) -> None:
        """Add a single sum durably; see :meth:`SumWriter.append`."""
        with closing(self.writer(purpose, round_number)) as writer:
            writer.append(kept)

    def sums(self, purpose: str, round_number: int) -> Iterator[Kept]:
        """Return the sums that stand, by step without a gap; one at a time is in memory.

        Raises:
            HostError: the file cannot be read.
        """
        path = self._path(purpose, round_number)
        if not path.exists():
            return
        try:
            with path.open("rb") as stream:
                for place in _standing(_places(stream)):
                    yield _read(stream, place)
        except OSError as error:
            raise HostError(f"the opened sums cannot be read: {path}: {error.strerror}") from error

    def drop(self, purpose: str, round_number: int) -> None:
        """Forget the sums of a round: what came of them is kept elsewhere."""
        self._path(purpose, round_number).unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget all sums: the study has ended."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, purpose: str, round_number: int) -> Path:
        return self._folder / f"{purpose}-{round_number:05d}.log"


class SumWriter:
    """Adds sums to one file. The file stays open, so that a sum costs one write and one flush of the disk.

    Args:
        path: of the file; it and its folder come into being with the first sum.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None
        self._end = -1
        """Of the records, as this writer has seen them; -1 before it has looked."""
        self._lock = threading.Lock()
        """Against closing while another thread adds the last sum of a session that has ended."""

    def append(self, kept: Kept) -> None:
        """Add a sum durably; once this returns, a crash does not lose it.

        Raises:
            HostError: the disk is full, or the file cannot be written. What stood there before still does.
        """
        try:
            with self._lock, _locked(self._open()) as stream:
                self._find_end(stream)
                self._write(stream.fileno(), _record(kept))
        except OSError as error:
            raise HostError(
                f"an opened sum cannot be kept in {self._path.parent}: {error.strerror}",
                hint="Free space on the coordinator's disk; then `dura study resume` goes on.",
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._end = None, -1

    def _open(self) -> BinaryIO:
        if self._stream is not None and os.fstat(self._stream.fileno()).st_nlink:
            return self._stream
        self._let_go()  # it was dropped
        private_folder(self._path.parent.parent)
        private_folder(self._path.parent)
        self._stream = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        _sync(self._path.parent)
        return self._stream

    def _find_end(self, stream: BinaryIO) -> None:
        """Look through the file if this writer has not, or if another one has added to it."""
        size = os.fstat(stream.fileno()).st_size
        if size != self._end:
            self._end = _end(stream)
            if size != self._end:
                stream.truncate(self._end)  # what a crash has cut off

    def _write(self, descriptor: int, record: Sequence[bytes]) -> None:
        try:
            _write_all(descriptor, record, self._end)
            os.fdatasync(descriptor)  # with the size, without the times
            self._end += sum(map(len, record))
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, self._end)
            raise


def _write_all(descriptor: int, parts: Sequence[bytes], place: int) -> None:
    """Write parts one after another; a body of many megabytes is not copied, unless the disk takes it in pieces."""
    written = os.pwritev(descriptor, parts, place)
    if written < sum(map(len, parts)):
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            count = os.pwrite(descriptor, rest, place + written)
            rest, written = rest[count:], written + count


@contextmanager
def _locked(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Keep other writers away: a session that was given up may write its last sum just now."""
    fcntl.flock(stream, fcntl.LOCK_EX)
    try:
        yield stream
    finally:
        fcntl.flock(stream, fcntl.LOCK_UN)


def _standing(places: Iterator[_Place]) -> list[_Place]:
    """Return the records that hold, see the module."""
    found: list[_Place] = []
    highest = 0
    for place in places:
        if place.attempt < highest:
            continue  # of a session that was given up before the present one began
        highest = place.attempt
        found = [before for before in found if before.step < place.step]
        if place.step == len(found) + 1:
            found.append(place)
    return found


def _end(stream: BinaryIO) -> int:
    return max((place.end for place in _places(stream)), default=0)


def _places(stream: BinaryIO) -> Iterator[_Place]:
    """Return the whole records of a file in order; it ends at the first that is none."""
    end = 0
    size = stream.seek(0, os.SEEK_END)
    while size - end >= _LENGTHS.size:
        stream.seek(end)
        head_length, body_length = _LENGTHS.unpack(stream.read(_LENGTHS.size))
        begin, end = end, end + _LENGTHS.size + head_length + body_length + _MARK_BYTES
        if head_length > MAX_HEAD_BYTES or end > size:
            return
        stream.seek(begin)
        content = stream.read(end - begin - _MARK_BYTES)
        if hashlib.sha256(content).digest() != stream.read(_MARK_BYTES):
            return
        head = json.loads(content[_LENGTHS.size : _LENGTHS.size + head_length])
        yield _Place(begin, end, int(head["attempt"]), int(head["step"]))


def _record(kept: Kept) -> tuple[bytes, ...]:
    head: dict[str, object] = {"attempt": kept.attempt, "step": kept.step}
    body = b""
    if kept.opened is not None:
        kind = NARROW if _narrow(kept.opened.total) else WIDE
        head |= {"contributors": list(kept.opened.contributors), "kind": kind}
        body = np.ascontiguousarray(kept.opened.total, dtype=kind).tobytes()
    words = json.dumps(head).encode()
    parts = (_LENGTHS.pack(len(words), len(body)) + words, body)
    mark = hashlib.sha256()
    for part in parts:
        mark.update(part)
    return (*parts, mark.digest())


def _narrow(total: NDArray[np.int64]) -> bool:
    limits = np.iinfo(np.int32)
    return bool(total.size == 0 or (limits.min <= total.min() and total.max() <= limits.max))


def _read(stream: BinaryIO, place: _Place) -> Kept:
    stream.seek(place.begin)
    head_length, body_length = _LENGTHS.unpack(stream.read(_LENGTHS.size))
    head = json.loads(stream.read(head_length))
    if "kind" not in head:
        return Kept(place.attempt, place.step, None)
    values = np.frombuffer(stream.read(body_length), dtype=head["kind"]).astype(np.int64)
    return Kept.of(place.attempt, Opened(place.step, values, tuple(head["contributors"])))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

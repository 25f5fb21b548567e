"""SHA-256 of the files of a data set, remembered as long as size, times and number of the file stay the same.

A change that keeps size and time of modification still changes the time of the change itself (ctime), which no program
can set. A file that was changed in the last two seconds is not remembered, since clocks of file systems are coarse.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import lzma
import time
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO

from dura_common.errors import DuraError
from dura_common.runtime.files import private_folder, write_atomic

PIECE = 1 << 20
FRESH_NANOSECONDS = 2_000_000_000
MOST_BYTES = 1 << 28
ABSENT = "absent"
ARRAYS = ".npz"
Stamp = tuple[int, int, int, int]


UNPACKABLE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, KeyError, OSError, RuntimeError)
"""What taking an array out of an ``.npz`` file may end with: it is damaged, absent or encrypted, or packed in a way
that zipfile does not know (the last two are a RuntimeError)."""


class FileDigests:
    """Digests of files; names of files are kept as keyed hashes only.

    Args:
        memory: folder to remember digests in; None remembers nothing.
        name: of the data set's folder, so that each has a memory of its own.
        key: the site's secret for pseudonyms.
    """

    def __init__(self, memory: Path | None, name: str, key: bytes) -> None:
        self._key = key
        self._path = None if memory is None else memory / f"{self._hidden(name)}.json"
        self._known = _read(self._path)
        self._stamps: dict[Path, Stamp] = {}
        self._changed = False

    def watch(self, path: Path) -> None:
        """Remember how a file is now, for :meth:`same`; it is not read."""
        with suppress(OSError):
            self._stamps.setdefault(path, _stamp(path))

    def of(self, path: Path, member: str = "") -> str:
        """Return the digest of a file, hex; of one that cannot be read, a word.

        Args:
            path: of the file.
            member: name of an array in an ``.npz`` file, if the digest is to be of that array alone.
        """
        try:
            stamp = _stamp(path)
            self._stamps.setdefault(path, stamp)
            name = self._hidden(f"{path}\0{member}" if member else str(path))
            before = self._known.get(name)
            if before is not None and tuple(before[:-1]) == stamp:
                return str(before[-1])
            digest = _digest(path, member)
        except OSError:
            return ABSENT
        if time.time_ns() - max(stamp[1], stamp[2]) > FRESH_NANOSECONDS:
            self._known[name] = [*stamp, digest]
            self._changed = True
        return digest

    def same(self, path: Path) -> bool:
        """Tell whether a file is still the one whose digest was returned first."""
        try:
            return self._stamps.get(path) == _stamp(path)
        except OSError:
            return path not in self._stamps

    def save(self) -> None:
        """Remember what was learned. Without it, files are only read again, so a full disk is no error here."""
        if self._path is None or not self._changed:
            return
        try:
            private_folder(self._path.parent)
            write_atomic(self._path, json.dumps(self._known).encode())
        except DuraError:
            return
        self._changed = False

    def _hidden(self, name: str) -> str:
        return hmac.new(
            self._key, b"dura file v1\0" + name.encode(errors="surrogateescape"), hashlib.sha256
        ).hexdigest()


def _read(path: Path | None) -> dict[str, list[int | str]]:
    """Return what is remembered; a broken memory is none."""
    try:
        if path is None or path.stat().st_size > MOST_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(isinstance(item, list) for item in found.values()) else {}


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _digest(path: Path, member: str) -> str:
    if member and path.suffix.lower() == ARRAYS:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as stream:
                return _of_stream(stream)
        except UNPACKABLE:
            pass  # of what cannot be taken out, the whole file tells whether it changed
    with path.open("rb") as stream:
        return _of_stream(stream)


def _of_stream(stream: IO[bytes]) -> str:
    hasher = hashlib.sha256()
    while piece := stream.read(PIECE):
        hasher.update(piece)
    return hasher.hexdigest()

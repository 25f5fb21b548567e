"""Files that are complete or absent, private where they must be, and never read without a limit."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dura_common.errors import HostError, InputError, StateError

PRIVATE_FILE = 0o600
SHARED_FILE = 0o644
PRIVATE_FOLDER = 0o700

PROBE_BYTES = 65_536
MAX_DOCUMENT_BYTES = 1_048_576
"""Largest card, admission, roster, study or policy that is read (1 MiB: 500 sites fit with room to spare)."""


def private_folder(path: Path) -> Path:
    """Create ``path`` (mode 0700) if needed and return it."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    except OSError as error:
        raise HostError(f"cannot create the folder {path}: {error.strerror}") from error
    return path


def closed_folder(path: Path) -> Path:
    """Create a folder that nobody else can enter, or close one that exists.

    Raises:
        HostError: it cannot be made, or belongs to somebody else.
    """
    try:
        private_folder(path).chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise HostError(f"cannot make the folder {path} unreadable for others: {error.strerror}") from error
    return path


def write_atomic(path: Path, content: bytes, *, mode: int = PRIVATE_FILE, replace: bool = True) -> None:
    """Write ``content`` durably: after a crash ``path`` holds the old or the new content, never a part.

    Raises:
        StateError: ``replace`` is false and the file exists.
        HostError: the disk is full or the folder cannot be written.
    """
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            Path(temporary).replace(path)
        else:
            os.link(temporary, path)  # link fails if the target exists: no window between check and write
            Path(temporary).unlink()
        temporary = None
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise StateError(f"{path} exists already and is not overwritten") from error
    except OSError as error:
        raise HostError(f"cannot write {path}: {error.strerror}", hint="Check free space and permissions.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def require_space(folder: Path) -> None:
    """Write a file and remove it.

    Raises:
        HostError: the disk is full or the folder cannot be written.
    """
    probe = folder / "space"
    try:
        write_atomic(probe, bytes(PROBE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file for the length of a block. If another process has the lock, wait for it.

    A process loses its locks when it ends, even by a crash.

    Raises:
        HostError: the file cannot be opened.
    """
    private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise HostError(f"cannot open {path}: {error.strerror}", hint="Check free space and permissions.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_limited(path: Path, *, what: str, limit: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a file of at most ``limit`` bytes; ``what`` names it in errors ("the site card").

    Raises:
        InputError: missing, unreadable, a folder, or too large.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except FileNotFoundError as error:
        raise InputError(f"{what} was not found: {path}") from error
    except OSError as error:
        raise InputError(f"{what} cannot be read: {path}: {error.strerror}") from error
    if len(content) > limit:
        raise InputError(f"{what} is larger than {limit} bytes: {path}")
    return content


def parse_json(content: bytes, *, what: str) -> dict[str, Any]:
    """Parse a JSON object; duplicate keys and anything but an object are refused.

    Raises:
        InputError: not JSON, not an object, or a key twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise InputError(f"{what} has the same key twice")
        return result

    try:
        value = json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        raise InputError(f"{what} is not valid JSON") from error
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object")
    return value

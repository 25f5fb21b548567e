"""Locks that show which process works on a study. A process loses its locks when it ends, even by a crash."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dura_common.errors import HostError
from dura_common.runtime.files import private_folder


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file for the length of a block. If another process has the lock, wait for it.

    Raises:
        HostError: the file cannot be opened.
    """
    private_folder(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HostError(f"cannot open {path}: {error.strerror}", hint="Check free space and permissions.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""Who works in the store: several processes that prepare, or one that cleans up, by a lock that dies with them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dura_common.errors import HostError
from dura_common.runtime.files import PRIVATE_FILE, private_folder

LOCK = "lock"


@contextmanager
def preparing(cache: Path) -> Iterator[None]:
    """Hold the store so that nobody cleans it up; a cleaning that is under way is waited for.

    Raises:
        HostError: the store cannot be written.
    """
    with _opened(cache) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def cleaning(cache: Path) -> Iterator[bool]:
    """Hold the store alone if nobody else works in it; False says that somebody does.

    Raises:
        HostError: the store cannot be written.
    """
    with _opened(cache) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _opened(cache: Path) -> Iterator[int]:
    path = private_folder(cache) / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise HostError(f"cannot open {path}: {error.strerror}", hint="Check free space and permissions.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)

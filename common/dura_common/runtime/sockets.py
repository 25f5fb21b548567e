"""Unix sockets in a home's folder: the processes of one account use them to talk to each other, and nobody else can.

Every account of a machine may connect to a TCP port on loopback. A socket has an owner and a mode, and so has its
folder.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from dura_common.errors import StateError

MAX_PATH = 107
"""Longest path of a Unix socket on Linux, in bytes."""
OWNER_ONLY = 0o177
ADDRESS = "localhost:80"
"""The address that an HTTP client is given. It only appears in a header; nothing resolves it."""
PROBE_SECONDS = 0.5


def socket_path(folder: Path, name: str) -> Path:
    """Return the path of a socket in a home's run folder.

    Raises:
        StateError: the folder's path is too long for a socket in it.
    """
    path = folder.resolve() / name
    if len(os.fsencode(path)) > MAX_PATH:
        raise StateError(
            f"the path of the home is too long for a socket in it: {path}",
            hint=f"Choose a --home so that this path has at most {MAX_PATH} bytes.",
        )
    return path


def listen(path: Path) -> socket.socket:
    """Return a socket bound to a path; only this account may connect. A socket of a killed process is removed first."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(OWNER_ONLY)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener


def listens(path: Path) -> bool:
    """Tell whether somebody accepts connections at a path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, suppress(OSError):
        probe.settimeout(PROBE_SECONDS)
        probe.connect(str(path))
        return True
    return False

"""Unix sockets in the folder of a home: what its processes say to each other, heard by its own account alone.

A TCP port on loopback has no users: every account of the machine may connect. A socket has an owner and a mode, and so
has the folder that it lies in.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from dura_common.errors import StateError

MAX_PATH = 107
"""Bytes that Linux takes for the path of a Unix socket."""
OWNER_ONLY = 0o177
ADDRESS = "localhost:80"
"""What a client of HTTP is told: it stands in a header, and nobody looks it up."""
PROBE_SECONDS = 0.5


def socket_path(folder: Path, name: str) -> Path:
    """Return where a socket lies in a home's run folder.

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
    """Return a socket that is bound to a path; nobody but this account may connect. What a killed process left goes."""
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

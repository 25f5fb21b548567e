"""Which machine this is: a home that was copied to another one must not spend the same budget there a second time."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")


def host_id() -> str:
    """Return what tells this machine from others, hex; it names no machine.

    The system's machine-id, which survives reboots and differs on every installation (systemd, machine-id(5)); where
    there is none, the host's name.
    """
    text = ""
    with suppress(OSError):
        text = MACHINE_ID.read_text().strip()
    return hashlib.sha256(b"dura host v1\0" + (text or platform.node()).encode()).hexdigest()

"""Identifies this machine. A home that was copied to another machine must not spend the same budget again there."""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")


def host_id() -> str:
    """Return a hexadecimal value that distinguishes this machine from others, without its name.

    It is computed from the system's machine-id, which survives reboots and differs on every installation (systemd,
    machine-id(5)). Without a machine-id, it is computed from the host's name.
    """
    text = ""
    with suppress(OSError):
        text = MACHINE_ID.read_text().strip()
    return hashlib.sha256(b"dura host v1\0" + (text or platform.node()).encode()).hexdigest()

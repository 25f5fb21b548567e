"""Processes of this machine: which ones live, and what a process that was killed has left behind.

A number alone does not name a process: it may belong to another one later. The boot, and the tick in which a process
began, do.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

TICK_SECONDS = 0.1
_ENDED = {"Z", "X"}
_STATE, _BEGUN = 0, 19
"""Places in /proc/PID/stat behind the name (proc(5): fields 3 and 22)."""


def mark_of(process: int) -> str | None:
    """Return what no other process ever has, its boot and the tick in which it began; None if it does not live."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in _ENDED else f"{_boot()}:{fields[_BEGUN]}"


def how_ended(code: int) -> str:
    """Return how a process ended, in words; ``code`` is as :attr:`subprocess.Popen.returncode` says it."""
    return f"was ended by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"ended with exit code {code}"


def group_lives(group: int, patience: float) -> bool:
    """Wait until a process group is empty; True if it is not after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(TICK_SECONDS)
    return True


def end_left_behind(leaders: Mapping[int, str], patience: float) -> None:
    """End the process groups of a supervisor that was killed; whoever led them was told to end when it died.

    Args:
        leaders: the mark of each process that led a group. If it has ended, its number is no other process's as long as
            the group lives.
        patience: seconds until what still lives is killed.
    """
    for leader, mark in leaders.items():
        if mark_of(leader) in {None, mark} and group_lives(leader, patience) and mark_of(leader) in {None, mark}:
            with suppress(ProcessLookupError):
                os.killpg(leader, signal.SIGKILL)
            group_lives(leader, patience)


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()

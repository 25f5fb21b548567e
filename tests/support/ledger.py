"""What the tests of the ledger share: patients, events, caps, and a process that can die."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dura_client.ledger.ledger import Ledger
from dura_common.privacy import Event, Gaussian, SampledGaussian

DELTA = 1e-3
STEP = SampledGaussian(participation=0.2, noise_multiplier=4, steps=10)
QUERY = Gaussian(noise_multiplier=6)


def key(number: int) -> str:
    """Return the key of an invented patient."""
    return f"{number:064x}"


def keys(*numbers: int) -> tuple[str, ...]:
    """Return the keys of invented patients."""
    return tuple(key(number) for number in numbers)


def reserve(ledger: Ledger, number: int, patients: Sequence[str] = keys(1, 2), **changes: Any) -> int:
    """Reserve training round ``number`` of a study under generous caps; ``changes`` replace arguments."""
    arguments: dict[str, Any] = {
        "study": "a" * 64,
        "round": number,
        "purpose": "train",
        "patients": patients,
        "event": STEP,
        "epsilon_per_study": 50.0,
        "epsilon_total": 50.0,
        "delta": DELTA,
    }
    return ledger.reserve(**{**arguments, **changes})


def releases(ledger: Ledger) -> list[tuple[str, int | None, str | None, Event | None]]:
    """Return kind, round, purpose and event of every row."""
    return [(entry.kind, entry.round, entry.purpose, entry.event) for entry in ledger.entries()]


def rows(path: Path) -> list[tuple[Any, ...]]:
    """Return the rows as they lie on disk, read without dura."""
    connection = sqlite3.connect(path)
    try:
        tables = ("cohort", "entry")
        return [row for table in tables for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")]  # noqa: S608
    finally:
        connection.close()


FORKER = """
import os, resource, signal, sys
from pathlib import Path
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from dura_client.ledger.ledger import Ledger
from dura_common.errors import HostError

COHORT = [f"{number:064x}" for number in range(20)]

def reserve(path, number):
    return Ledger(path).reserve(
        study="a" * 64, round=number, purpose="train", patients=COHORT, event=None,
        epsilon_per_study=8.0, epsilon_total=8.0, delta=1e-3,
    )

def settle(path, entry):
    Ledger(path).settle(entry)

def refund(path):
    # Only the process that reserved can refund: the killed one does both.
    ledger = Ledger(path)
    entry = ledger.reserve(
        study="a" * 64, round=2, purpose="train", patients=COHORT, event=None,
        epsilon_per_study=8.0, epsilon_total=8.0, delta=1e-3, refundable=True,
    )
    ledger.refund(entry)

def withdraw(path):
    Ledger(path).withdraw(COHORT[0])

def child(work):
    # Runs work in a process of its own; tells how it ended: exit status, or minus the signal.
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        except HostError:
            os._exit(15)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def strike_at(point):
    # Kills this process at the given point of its write path: around every statement and system call that counts.
    seen = 0
    def strike(*_):
        nonlocal seen
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
    for name in ("begin", "before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(Engine, name, strike)
    for name in ("link", "fsync", "close"):
        def around(*arguments, _real=getattr(os, name)):
            strike()
            result = _real(*arguments)
            strike()
            return result
        setattr(os, name, around)
"""


def run_forked(script: str, *arguments: object) -> Any:
    """Run the forker with ``script`` and return what it printed as JSON."""
    command = [sys.executable, "-c", FORKER + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)

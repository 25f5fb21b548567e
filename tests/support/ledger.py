"""What the tests of the ledger share: patients, events, caps, and a process that can die."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dura_client.ledger.ledger import Begun, Caps, Identity, Ledger
from dura_common.privacy import Gaussian, SampledGaussian
from dura_common.privacy.blocks import AnyEvent, Block, BlockName, Purpose

DELTA = 1e-3
STEP = SampledGaussian(participation=0.2, noise_multiplier=4, steps=10)
QUERY = Gaussian(noise_multiplier=6)
LAST_DAY = date(2100, 1, 1)
IDENTITY = Identity(check="c" * 64, held_out=0.5)


def key(number: int) -> str:
    """Return the key of an invented patient."""
    return f"{number:064x}"


def keys(*numbers: int) -> tuple[str, ...]:
    """Return the keys of invented patients."""
    return tuple(key(number) for number in numbers)


def block(name: BlockName = "train", draws: int = 8, event: AnyEvent | None = STEP, round_number: int = 0) -> Block:
    """Return one block whose vectors carry all their noise by themselves."""
    return Block(name, round_number, draws, event, event)


def allocate(
    ledger: Ledger,
    patients: Sequence[str] = keys(1, 2),
    *,
    study: str = "a" * 64,
    blocks: Sequence[Block] = (block(),),
    held_out: Sequence[str] = keys(3, 4),
    **changes: Any,
) -> None:
    """Set a study aside under generous caps; ``changes`` replace them, or other arguments."""
    limits = {name: changes.pop(name, 50.0) for name in ("epsilon_total", "epsilon_if_broken")}
    arguments: dict[str, Any] = {
        "manifest": "9" * 64,
        "caps": Caps(**limits, delta=changes.pop("delta", DELTA)),
        "expires": LAST_DAY,
        "identity": IDENTITY,
    }
    purposes = {item.purpose for item in blocks}
    cohorts = {"train": patients, "evaluate": held_out}
    ledger.allocate(
        study=study,
        blocks=blocks,
        cohorts={purpose: cohorts[purpose] for purpose in purposes},
        **{**arguments, **changes},
    )


def begin(ledger: Ledger, number: int, *, study: str = "a" * 64, purpose: Purpose = "train", epoch: int = 0) -> Begun:
    """Begin one draw of a ledger that nobody serves."""
    return ledger.begin(study, purpose, number, manifest="9" * 64, epoch=epoch, round_number=number, step=1)


def releases(ledger: Ledger) -> list[tuple[str, int | None, str | None, int | None]]:
    """Return kind, round, block and draw of every row but the one that names the pseudonyms."""
    return [(row.kind, row.round, row.purpose, row.repeat) for row in ledger.entries() if row.kind != "identity"]


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
from datetime import date
from dura_client.ledger.ledger import Caps, Identity, Ledger
from dura_common.errors import HostError
from dura_common.privacy.blocks import Block

COHORT = [f"{number:064x}" for number in range(20)]

CAPS = Caps(epsilon_total=8.0, epsilon_if_broken=8.0, delta=1e-3)

def allocate(path, number=1, draws=100_000, event=None, caps=CAPS, patients=COHORT):
    block = Block("train", 0, draws, event, event)
    Ledger(path).allocate(
        study=f"{number:064x}", blocks=(block,), cohorts={"train": patients}, manifest="9" * 64, caps=caps,
        expires=date(2100, 1, 1), identity=Identity(check="c" * 64, held_out=0.5),
    )

def begin(path, number, study=1):
    return Ledger(path).begin(f"{study:064x}", "train", number, manifest="9" * 64, epoch=0, round_number=number, step=1)

def close(path):
    Ledger(path).close(f"{1:064x}")

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

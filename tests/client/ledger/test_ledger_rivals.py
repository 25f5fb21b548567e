"""The ledger against other processes on the same file: none overdraws, none gets a round twice."""

from __future__ import annotations

import json
import math
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.ledger import DELTA, FORKER, QUERY, allocate, begin, block, keys, run_forked

from dura_client.ledger.ledger import Ledger
from dura_common.errors import BudgetError, HostError
from dura_common.privacy.gdp import epsilon_of_mu

RIVAL = """
import json
from dura_common.errors import BudgetError
from dura_common.privacy import Gaussian
path, first, cap = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
accepted = []
caps = Caps(epsilon_total=cap, epsilon_if_broken=cap, delta=1e-3)
for number in range(first, 17, 2):
    try:
        allocate(path, number, draws=1, event=Gaussian(noise_multiplier=2), caps=caps, patients=COHORT[:2])
        accepted.append(number)
    except BudgetError:
        pass
print(json.dumps(accepted), flush=True)
"""


def test_two_processes_never_overdraw_together(tmp_path: Path) -> None:
    """Two processes spend from one budget at once, on a ledger that neither has made yet: exactly the cap fits."""
    path = tmp_path / "ledger.db"
    affordable = 7
    cap = epsilon_of_mu(math.sqrt(affordable * 0.25), DELTA * 0.875) * 1.001
    rivals = [
        subprocess.Popen(
            [sys.executable, "-c", FORKER + RIVAL, str(path), str(first), repr(cap)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (1, 2)
    ]
    accepted: list[int] = []
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    for rival in rivals:
        answer, _ = rival.communicate(timeout=100)
        assert rival.returncode == 0
        accepted += json.loads(answer)
    ledger = Ledger(path)
    ledger.verify()
    assert len(accepted) == affordable
    assert {entry.study for entry in ledger.entries() if entry.kind == "allocate"} == {f"{n:064x}" for n in accepted}
    with pytest.raises(BudgetError, match="over all studies"):
        allocate(ledger, keys(0), epsilon_total=cap, blocks=(block(draws=1, event=QUERY),))


SAME_DRAW = """
path = Path(sys.argv[1])
import json
from dura_client.ledger.refusals import NoDrawLeft
allocate(path)
gate = os.pipe()
processes = []
for _ in range(4):
    process = os.fork()
    if process == 0:
        os.read(gate[0], 1)
        try:
            begin(path, 1)
            os._exit(0)
        except NoDrawLeft:
            os._exit(14)
        except BaseException:
            os._exit(1)
    processes.append(process)
os.write(gate[1], b"goto")
print(json.dumps(sorted(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes)))
"""


def test_of_four_processes_one_gets_the_draw(tmp_path: Path) -> None:
    """Asked for one draw at once, exactly one process may compute it."""
    assert run_forked(SAME_DRAW, tmp_path / "ledger.db") == [0, 14, 14, 14]
    kinds = [entry.kind for entry in Ledger(tmp_path / "ledger.db").entries()]
    assert kinds == ["identity", "allocate", "begin"]


def test_a_stuck_rival_is_a_host_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the ledger for too long is reported, and nothing is written."""
    path = tmp_path / "ledger.db"
    allocate(Ledger(path))
    monkeypatch.setattr("dura_client.ledger.sqlite.WAIT_SECONDS", 0.2)
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(HostError, match="cannot be used"):
        begin(Ledger(path), 1)
    assert time.monotonic() - began < 5
    rival.execute("ROLLBACK")
    rival.close()
    assert len(Ledger(path).entries()) == 2

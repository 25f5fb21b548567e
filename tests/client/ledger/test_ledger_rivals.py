"""The ledger against other processes on the same file: none overdraws, none gets a round twice."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.ledger import DELTA, FORKER, QUERY, keys, reserve, run_forked

from dura_client.ledger.ledger import Ledger
from dura_common.errors import BudgetError, HostError
from dura_common.privacy import Gaussian, epsilon_of

RIVAL = """
import json
from dura_common.errors import BudgetError
from dura_common.privacy import Gaussian
path, first, cap = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
accepted = []
for number in range(first, 17, 2):
    try:
        Ledger(path).reserve(
            study="a" * 64, round=number, purpose="train", patients=COHORT[:2],
            event=Gaussian(noise_multiplier=6), epsilon_per_study=cap, epsilon_total=cap, delta=1e-3,
        )
        accepted.append(number)
    except BudgetError:
        pass
print(json.dumps(accepted), flush=True)
"""


def test_two_processes_never_overdraw_together(tmp_path: Path) -> None:
    """Two processes spend from one budget at once, on a ledger that neither has made yet: exactly the cap fits."""
    path = tmp_path / "ledger.db"
    affordable = 7
    cap = epsilon_of([Gaussian(noise_multiplier=6, count=affordable)], DELTA)
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
    assert {entry.round for entry in ledger.entries()} == set(accepted)
    assert ledger.spent(DELTA) == cap
    with pytest.raises(BudgetError, match="for all studies together"):
        reserve(ledger, 99, keys(0), event=QUERY, epsilon_total=cap)


SAME_ROUND = """
path = Path(sys.argv[1])
import json
from dura_client.ledger.ledger import RepeatedRound
gate = os.pipe()
processes = []
for _ in range(4):
    process = os.fork()
    if process == 0:
        os.read(gate[0], 1)
        try:
            reserve(path, 1)
            os._exit(0)
        except RepeatedRound:
            os._exit(14)
        except BaseException:
            os._exit(1)
    processes.append(process)
os.write(gate[1], b"goto")
print(json.dumps(sorted(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in processes)))
"""


def test_of_four_processes_one_gets_the_round(tmp_path: Path) -> None:
    """Asked for one round at once, exactly one process may answer it."""
    assert run_forked(SAME_ROUND, tmp_path / "ledger.db") == [0, 14, 14, 14]
    assert len(Ledger(tmp_path / "ledger.db").entries()) == 1


def test_a_stuck_rival_is_a_host_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the ledger for too long is reported, and nothing is written."""
    path = tmp_path / "ledger.db"
    reserve(Ledger(path), 1, event=None)
    monkeypatch.setattr("dura_client.ledger.sqlite.WAIT_SECONDS", 0.2)
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(HostError, match="cannot be used"):
        reserve(Ledger(path), 2, event=None)
    assert time.monotonic() - began < 5
    rival.execute("ROLLBACK")
    rival.close()
    assert len(Ledger(path).entries()) == 1

"""The ledger against dying processes: a row is there completely or not at all."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.support.ledger import DELTA, keys, releases, reserve, run_forked

from dura_client.ledger.ledger import Ledger, RepeatedRound
from dura_common.errors import StateError

KILLED = -9


KILL_EVERYWHERE = """
import json, shutil
folder, action = Path(sys.argv[1]), sys.argv[2]
results = []
for point in range(300):
    home = folder / str(point)
    home.mkdir()
    path = home / "ledger.db"
    if action != "first":
        shutil.copy(folder / "start.db", path)
    def work():
        strike_at(point)
        if action in ("refund", "withdraw"):
            globals()[action](path)
        else:
            settle(path, 1) if action == "settle" else reserve(path, 2)
        (home / "acknowledged").touch()
    results.append(child(work))
    if results[-1] == 0:
        break
print(json.dumps(results))
"""


@pytest.mark.parametrize("action", ["first", "reserve", "settle"])
def test_kill_9_at_every_point_of_the_write_path(tmp_path: Path, action: str) -> None:
    """Killed around any statement or system call, the ledger verifies, holds the row or not, and goes on."""
    if action != "first":
        reserve(Ledger(tmp_path / "start.db"), 1, event=None)
    results = run_forked(KILL_EVERYWHERE, tmp_path, action)
    assert results[-1] == 0
    assert set(results[:-1]) == {KILLED}
    assert len(results) > 15
    before = [] if action == "first" else [("reserve", 1, "train", None)]
    written = ("settle", 1, "train", None) if action == "settle" else ("reserve", 2, "train", None)
    found = []
    for point in range(len(results)):
        ledger = Ledger(tmp_path / str(point) / "ledger.db")
        ledger.verify()
        complete = releases(ledger) == [*before, written]
        assert complete or releases(ledger) == before
        assert complete or not (tmp_path / str(point) / "acknowledged").exists()
        found.append(complete)
        if complete and action != "settle":  # a crash counts as spent: the round is never given again
            with pytest.raises(RepeatedRound, match="was recorded before"):
                reserve(ledger, 2, event=None)
        reserve(ledger, 3, event=None)
        ledger.verify()
    assert found == sorted(found), "once written, a row stays at all later points"
    assert found[-1]
    assert not found[0]


@pytest.mark.parametrize("action", ["refund", "withdraw"])
def test_kill_9_at_every_point_of_a_refund_and_of_a_withdrawal(tmp_path: Path, action: str) -> None:
    """Killed anywhere, the rows are a whole beginning of what was meant: without its refund a round stays spent."""
    reserve(Ledger(tmp_path / "start.db"), 1, event=None)
    results = run_forked(KILL_EVERYWHERE, tmp_path, action)
    assert results[-1] == 0
    assert set(results[:-1]) == {KILLED}
    meant = ["reserve", "reserve", "refund"] if action == "refund" else ["reserve", "withdraw"]
    lengths = []
    for point in range(len(results)):
        ledger = Ledger(tmp_path / str(point) / "ledger.db")
        ledger.verify()
        kinds = [kind for kind, *_ in releases(ledger)]
        assert kinds == meant[: len(kinds)]
        assert len(kinds) == len(meant) or not (tmp_path / str(point) / "acknowledged").exists()
        lengths.append(len(kinds))
        if action == "refund":
            (study,) = ledger.studies(DELTA)
            assert study.unfinished == (2 if len(kinds) == 2 else 1)
            with pytest.raises(StateError, match="stays spent"):  # another process than the one that died
                ledger.refund(2)
        else:
            assert ledger.withdrawn() == ({keys(0)[0]} if len(kinds) == 2 else set())
    assert lengths == sorted(lengths), "once written, a row stays at all later points"
    assert set(lengths) == set(range(1, len(meant) + 1))


FORKED_REFUND = """
import json
path = Path(sys.argv[1])
ledger = Ledger(path)
entry = ledger.reserve(
    study="a" * 64, round=1, purpose="train", patients=COHORT, event=None,
    epsilon_per_study=8.0, epsilon_total=8.0, delta=1e-3, refundable=True,
)
print(json.dumps(child(lambda: ledger.refund(entry))))
"""


def test_a_child_process_cannot_refund_what_its_parent_reserved(tmp_path: Path) -> None:
    """The right to refund is not inherited: the child may not know what its parent computes meanwhile."""
    assert run_forked(FORKED_REFUND, tmp_path / "ledger.db") == 1
    assert [row[0] for row in releases(Ledger(tmp_path / "ledger.db"))] == ["reserve"]


KILL_AT_RANDOM = """
import json, threading, time
folder = Path(sys.argv[1])
results = []
for trial in range(12):
    path = folder / str(trial) / "ledger.db"
    path.parent.mkdir()
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        for number in range(1, 100000):
            entry = reserve(path, number)
            os.write(writer, b"%d " % number)
            settle(path, entry)
    os.close(writer)
    time.sleep(0.05 + 0.037 * trial)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    results.append([int(word) for word in os.read(reader, 1 << 16).split()])
print(json.dumps(results))
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process that reserves as fast as it can dies; all that it had confirmed is there, and at most one more."""
    acknowledged = run_forked(KILL_AT_RANDOM, tmp_path)
    assert any(acknowledged)
    for trial, numbers in enumerate(acknowledged):
        ledger = Ledger(tmp_path / str(trial) / "ledger.db")
        ledger.verify()
        kept = [entry.round for entry in ledger.entries() if entry.kind == "reserve"]
        assert kept[: len(numbers)] == numbers
        assert len(kept) <= len(numbers) + 1
        assert sum(study.unfinished for study in ledger.studies(DELTA)) <= 1


def test_a_torn_write_is_no_write(tmp_path: Path) -> None:
    """With the write-ahead log cut anywhere, as after a power cut, the ledger holds whole rows and verifies."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    reserve(ledger, 1, event=None)
    reader = sqlite3.connect(path)  # an open reader keeps the log from being merged into the file
    reader.execute("SELECT count(*) FROM entry").fetchall()
    reserve(ledger, 2, keys(3, 4), event=None)
    ledger.settle(2)
    log = (tmp_path / "ledger.db-wal").read_bytes()
    expected = releases(ledger)
    torn = tmp_path / "torn"
    torn.mkdir()
    seen = set()
    for size in sorted({*range(0, len(log), 509), len(log) - 1, len(log)}):
        shutil.copy(path, torn / "ledger.db")
        (torn / "ledger.db-wal").write_bytes(log[:size])
        copy = Ledger(torn / "ledger.db")
        copy.verify()
        assert releases(copy) == expected[: len(copy.entries())]
        seen.add(len(copy.entries()))
        for file in torn.iterdir():
            file.unlink()
    reader.close()
    assert seen == {1, 2, 3}

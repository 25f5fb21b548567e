"""The ledger against dying processes: a row is there completely or not at all."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.support.ledger import DELTA, allocate, begin, block, keys, releases, run_forked

from dura_client.ledger.ledger import Ledger
from dura_client.ledger.refusals import NoDrawLeft

KILLED = -9
STUDY = f"{1:064x}"
ALLOCATED = ("allocate", 0, "train", 0)
WRITTEN = {"allocate": ALLOCATED, "begin": ("begin", 0, "train", 2), "close": ("close", 0, "", 0)}


KILL_EVERYWHERE = """
import json, shutil
folder, action = Path(sys.argv[1]), sys.argv[2]
results = []
for point in range(300):
    home = folder / str(point)
    home.mkdir()
    path = home / "ledger.db"
    if action != "allocate":
        shutil.copy(folder / "start.db", path)
    def work():
        strike_at(point)
        begin(path, 2) if action == "begin" else globals()[action](path)
        (home / "acknowledged").touch()
    results.append(child(work))
    if results[-1] == 0:
        break
print(json.dumps(results))
"""


def start(path: Path) -> None:
    """Make a ledger in which one study without noise is set aside and its first draw has begun."""
    ledger = Ledger(path)
    allocate(ledger, keys(*range(20)), study=STUDY, blocks=(block(draws=10, event=None),))
    begin(ledger, 1, study=STUDY)


@pytest.mark.parametrize("action", ["allocate", "begin", "close", "withdraw"])
def test_kill_9_at_every_point_of_the_write_path(tmp_path: Path, action: str) -> None:
    """Killed around any statement or system call, the ledger verifies, holds the row or not, and goes on."""
    if action != "allocate":
        start(tmp_path / "start.db")
    results = run_forked(KILL_EVERYWHERE, tmp_path, action)
    assert results[-1] == 0
    assert set(results[:-1]) == {KILLED}
    assert len(results) > 15
    before = [] if action == "allocate" else [ALLOCATED, ("begin", 0, "train", 1)]
    found = []
    for point in range(len(results)):
        ledger = Ledger(tmp_path / str(point) / "ledger.db")
        ledger.verify()
        rows = releases(ledger)
        complete = len(rows) == len(before) + 1
        assert rows[: len(before)] == before
        if complete and action in WRITTEN:
            assert rows[-1] == WRITTEN[action]
        assert complete or rows == before
        assert complete or not (tmp_path / str(point) / "acknowledged").exists()
        found.append(complete)
        if complete and action == "begin":  # a crash counts as spent: the draw is never given again
            with pytest.raises(NoDrawLeft, match="spare"):
                begin(ledger, 2, study=STUDY)
        if action == "withdraw":
            assert ledger.withdrawn() == ({keys(0)[0]} if complete else set())
        allocate(ledger, keys(8, 9), study="e" * 64)
        ledger.verify()
    assert found == sorted(found), "once written, a row stays at all later points"
    assert found[-1]
    assert not found[0]


KILL_AT_RANDOM = """
import json, threading, time
folder = Path(sys.argv[1])
results = []
for trial in range(12):
    path = folder / str(trial) / "ledger.db"
    path.parent.mkdir()
    allocate(path)
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        for number in range(1, 100000):
            begin(path, number)
            os.write(writer, b"%d " % number)
    os.close(writer)
    time.sleep(0.05 + 0.037 * trial)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    results.append([int(word) for word in os.read(reader, 1 << 16).split()])
print(json.dumps(results))
"""


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process that begins draws as fast as it can dies; all that it had confirmed is there, and at most one more."""
    acknowledged = run_forked(KILL_AT_RANDOM, tmp_path)
    assert any(acknowledged)
    for trial, numbers in enumerate(acknowledged):
        ledger = Ledger(tmp_path / str(trial) / "ledger.db")
        ledger.verify()
        kept = [entry.repeat for entry in ledger.entries() if entry.kind == "begin"]
        assert kept[: len(numbers)] == numbers
        assert len(kept) <= len(numbers) + 1


def test_a_torn_write_is_no_write(tmp_path: Path) -> None:
    """With the write-ahead log cut anywhere, as after a power cut, the ledger holds whole rows and verifies."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    allocate(ledger)
    reader = sqlite3.connect(path)  # an open reader keeps the log from being merged into the file
    reader.execute("SELECT count(*) FROM entry").fetchall()
    begin(ledger, 1)
    ledger.withdraw(keys(3)[0])
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
        found = releases(copy)
        assert found == expected[: len(found)]
        assert copy.spent(DELTA) == ledger.spent(DELTA)  # set aside before
        seen.add(len(found))
        for file in torn.iterdir():
            file.unlink()
    reader.close()
    assert seen == {1, 2, 3}

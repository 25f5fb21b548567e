"""The ledger against dying processes, rivals and full disks: a row is there completely or not at all."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.ledger_world import DELTA, FORKER, QUERY, keys, releases, reserve

from dura_client.ledger.ledger import Ledger, RepeatedRound
from dura_common.errors import BudgetError, HostError, StateError
from dura_common.privacy import Gaussian, epsilon_of

KILLED = -9


def run(script: str, *arguments: object) -> Any:
    """Run the forker with ``script`` and return what it printed as JSON."""
    command = [sys.executable, "-c", FORKER + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


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
    results = run(KILL_EVERYWHERE, tmp_path, action)
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
            with pytest.raises(RepeatedRound):
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
    results = run(KILL_EVERYWHERE, tmp_path, action)
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
            with pytest.raises(StateError):  # another process than the one that died
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
    assert run(FORKED_REFUND, tmp_path / "ledger.db") == 1
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
    acknowledged = run(KILL_AT_RANDOM, tmp_path)
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
    with pytest.raises(BudgetError):
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
    assert run(SAME_ROUND, tmp_path / "ledger.db") == [0, 14, 14, 14]
    assert len(Ledger(tmp_path / "ledger.db").entries()) == 1


FULL_DISK = """
import json
folder = Path(sys.argv[1])
results = {}
for limit in (0, 100, 4096, 9000, 20000, 33000, 45000, 60000):
    path = folder / str(limit) / "ledger.db"
    path.parent.mkdir()
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        for number in range(1, 400):
            entry = reserve(path, number)
            os.write(log, b"r%d " % number)
            settle(path, entry)
            os.write(log, b"s%d " % number)
    reader, log = os.pipe()
    status = child(work)
    os.close(log)
    results[limit] = [status, os.read(reader, 1 << 16).decode().split()]
print(json.dumps(results))
"""


def test_a_full_disk_stops_the_ledger_and_writes_no_half_row(tmp_path: Path) -> None:
    """Whatever the size at which files stop growing, the refusal is HostError and the rows are the confirmed ones."""
    results = run(FULL_DISK, tmp_path)
    assert any(acknowledged for _, acknowledged in results.values())
    for limit, (status, acknowledged) in results.items():
        assert status == HostError.exit_code, limit
        folder = tmp_path / limit
        ledger = Ledger(folder / "ledger.db")
        ledger.verify()
        assert [f"{row.kind[0]}{row.round}" for row in ledger.entries()] == acknowledged
        if not acknowledged:
            assert list(folder.glob(".ledger*")) == []
        ledger.settle(reserve(ledger, 1000, event=None))  # with space again it goes on
        ledger.verify()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 256 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("mounting a tiny file system needs mount")
    command = [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tiny file system needs root")
    yield folder
    subprocess.run([unmount, str(folder)], check=True)


def test_a_file_system_without_space_left(tiny_disk: Path) -> None:
    """On a real full file system the ledger refuses with HostError, keeps what it had, and recovers with space."""
    ledger = Ledger(tiny_disk / "ledger.db")
    reserve(ledger, 1, event=None)
    ballast = tiny_disk / "ballast"
    with pytest.raises(OSError, match="space"):
        ballast.write_bytes(bytes(1 << 20))
    with pytest.raises(HostError) as refusal:
        reserve(ledger, 2, keys(*range(500)), event=None)
    assert keys(1)[0] not in str(refusal.value)
    with pytest.raises(HostError):
        Ledger(tiny_disk / "second" / "ledger.db").settle(1)
    ballast.unlink()
    assert releases(ledger) == [("reserve", 1, "train", None)]
    reserve(ledger, 2, keys(*range(500)), event=None)
    assert ledger.verify().entries == 2


def test_a_folder_that_cannot_be_made_is_a_host_error(tmp_path: Path) -> None:
    """A file where the site's folder should be is said as such, and stays."""
    (tmp_path / "site").write_text("in the way")
    with pytest.raises(HostError):
        reserve(Ledger(tmp_path / "site" / "ledger.db"), 1, event=None)
    assert (tmp_path / "site").read_text() == "in the way"


def test_a_stuck_rival_is_a_host_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the ledger for too long is reported, and nothing is written."""
    path = tmp_path / "ledger.db"
    reserve(Ledger(path), 1, event=None)
    monkeypatch.setattr("dura_client.ledger.sqlite.WAIT_SECONDS", 0.2)
    rival = sqlite3.connect(path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    with pytest.raises(HostError):
        reserve(Ledger(path), 2, event=None)
    assert time.monotonic() - began < 5
    rival.execute("ROLLBACK")
    rival.close()
    assert len(Ledger(path).entries()) == 1

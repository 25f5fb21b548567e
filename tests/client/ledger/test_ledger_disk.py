"""The ledger against full disks: a row is there completely or not at all."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.ledger import allocate, begin, keys, releases, run_forked

from dura_client.ledger.ledger import Ledger
from dura_common.errors import HostError

FULL_DISK = """
import json
folder = Path(sys.argv[1])
results = {}
for limit in (0, 100, 4096, 9000, 20000, 33000, 45000, 60000):
    path = folder / str(limit) / "ledger.db"
    path.parent.mkdir()
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        allocate(path)
        os.write(log, b"a ")
        for number in range(1, 800):
            begin(path, number)
            os.write(log, b"%d " % number)
    reader, log = os.pipe()
    status = child(work)
    os.close(log)
    results[limit] = [status, os.read(reader, 1 << 16).decode().split()]
print(json.dumps(results))
"""


def test_a_full_disk_stops_the_ledger_and_writes_no_half_row(tmp_path: Path) -> None:
    """Whatever the size at which files stop growing, the refusal is HostError and the rows are the confirmed ones."""
    results = run_forked(FULL_DISK, tmp_path)
    assert any(acknowledged for _, acknowledged in results.values())
    for limit, (status, acknowledged) in results.items():
        assert status == HostError.exit_code, limit
        folder = tmp_path / limit
        ledger = Ledger(folder / "ledger.db")
        ledger.verify()
        rows = [row for row in ledger.entries() if row.kind != "identity"]
        assert ["a" if row.kind == "allocate" else str(row.repeat) for row in rows] == acknowledged
        if not acknowledged:
            assert list(folder.glob(".ledger*")) == []
        allocate(ledger, study="e" * 64)  # with space again it goes on
        begin(ledger, 1, study="e" * 64)
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
    allocate(ledger)
    ballast = tiny_disk / "ballast"
    with pytest.raises(OSError, match="space"):
        ballast.write_bytes(bytes(1 << 20))
    with pytest.raises(HostError, match="cannot be used") as refusal:
        allocate(ledger, keys(*range(500)), study="b" * 64)
    assert keys(1)[0] not in str(refusal.value)
    with pytest.raises(HostError, match="cannot be used"):
        allocate(Ledger(tiny_disk / "second" / "ledger.db"))
    ballast.unlink()
    assert releases(ledger) == [("allocate", 0, "train", 0)]
    allocate(ledger, keys(*range(500)), study="b" * 64)
    assert ledger.verify().entries == 3


def test_a_folder_that_cannot_be_made_is_a_host_error(tmp_path: Path) -> None:
    """A file where the site's folder should be is said as such, and stays."""
    (tmp_path / "site").write_text("in the way")
    with pytest.raises(HostError, match=r"cannot be|cannot create"):
        allocate(Ledger(tmp_path / "site" / "ledger.db"))
    assert (tmp_path / "site").read_text() == "in the way"

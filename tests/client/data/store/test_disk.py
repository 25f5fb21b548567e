"""The store on disk: killed in the middle, encrypted, cleaned up."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.data.store.helpers import DAY, OwnCopy, Registered, digests

from dura_client.data.prepare import PreparedData
from dura_client.data.store.clean import clean, stored
from dura_client.data.store.entry import ABOUT, TEMPORARY
from dura_client.data.store.seal import MAGIC, Damaged, Seal, reading, writing
from dura_common.study import SignalContract

CHILD = """
import sys
from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from dura_common.study import SignalContract
if __name__ == "__main__":
    dataset = DataSet.model_validate_json(sys.argv[1])
    contract = SignalContract.model_validate_json(sys.argv[2])
    for _ in range(1000):
        prepare(dataset, contract, workers=2, pseudonym_key=b"k" * 32, cache=__import__("pathlib").Path(sys.argv[3]),
                progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.long
def test_a_kill_in_the_middle_leaves_nothing_half(
    make: Callable[..., PreparedData], own_copy: OwnCopy, registered: Registered, contract: SignalContract, cache: Path
) -> None:
    """After SIGKILL no entry is half, the workers end by themselves, and the next run goes on from what is there."""
    root = own_copy("west")
    words = [registered(root).model_dump_json(), contract.model_dump_json(), str(cache)]
    child = subprocess.Popen([sys.executable, "-c", CHILD, *words], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "1"
    below = [int(pid) for pid in Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()]
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 60
    while any(_alive(pid) for pid in below):
        assert time.monotonic() < deadline, "the workers outlive the process that gave them work"
        time.sleep(0.1)
    whole = len([path for path in cache.glob("*/*/*") if (path / ABOUT).exists() and path.name[0] != "."])
    again = make(root)
    assert again.made == 3 - whole
    assert again.mended == 0
    drafts = list(cache.glob(f"*/*/{TEMPORARY}*"))
    later = time.time() + 2 * DAY
    clean(
        cache, {(again.folder, key, digest) for key, digest in digests(again).items()}, days=1, most_bytes=0, now=later
    )
    assert not [path for path in drafts if path.exists()]
    assert digests(make(root)) == digests(again)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_encrypted_at_rest(make: Callable[..., PreparedData], own_copy: OwnCopy, cache: Path) -> None:
    """Sealed patients are the same, no array lies readable on the disk, and another key or none does not open them."""
    root = own_copy("west")
    plain = make(root)
    shutil.rmtree(cache)
    sealed = make(root, seal=Seal(b"s" * 32))
    assert digests(sealed) == digests(plain)
    files = list(cache.glob("*/*/*/*.npy"))
    assert len(files) == 18
    assert all(path.read_bytes().startswith(MAGIC) for path in files)
    assert make(root, seal=Seal(b"s" * 32)).made == 0
    assert make(root, seal=Seal(b"t" * 32)).mended == 3
    assert make(root).mended == 3


@given(
    content=st.binary(max_size=3000), pieces=st.integers(1, 700), place=st.integers(0, 10_000), bit=st.integers(0, 7)
)
@settings(max_examples=60, deadline=None)
def test_a_sealed_file_gives_back_exactly_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, pieces: int, place: int, bit: int
) -> None:
    """Whatever is written in whatever steps comes back; any changed bit, cut or key is noticed."""
    path = tmp_path_factory.mktemp("sealed") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dura_client.data.store.seal.PIECE", pieces)
        seal = Seal(b"s" * 32)
        with writing(path, seal) as stream:
            for begin in range(0, len(content), 97):
                stream.write(content[begin : begin + 97])
        with reading(path, seal) as stream:
            assert stream.read() == content
        written = path.read_bytes()
        spoiled = bytearray(written)
        spoiled[place % len(spoiled)] ^= 1 << bit
        for other in (bytes(spoiled), written[: place % len(written)]):
            path.write_bytes(other)
            with pytest.raises(Damaged, match="the file "), reading(path, seal) as stream:
                stream.read()
        path.write_bytes(written)
        with pytest.raises(Damaged, match="the file "), reading(path, Seal(b"x" * 32)) as stream:
            stream.read()


def test_cleaning_by_age_and_size_spares_what_is_in_use(
    make: Callable[..., PreparedData], own_copy: OwnCopy, cache: Path
) -> None:
    """Old entries go, then the oldest until the rest fits; never those of an approved study or of the last day."""
    root = own_copy("west")
    prepared = make(root)
    keys = [patient.key for patient in prepared.patients]
    now = time.time()
    for number, item in enumerate(sorted(stored(cache), key=lambda item: keys.index(item.name[1]))):
        used = now - (100 - 30 * number) * DAY  # 100, 70 and 40 days ago
        os.utime(item.path / ABOUT, (used, used))
    sizes = {item.name[1]: item.size for item in stored(cache)}
    in_use = {(prepared.folder, keys[0], digests(prepared)[keys[0]])}

    def left() -> set[str]:
        return {item.name[1] for item in stored(cache)}

    done = clean(cache, in_use, days=90, most_bytes=1e12, now=now)
    assert (done.removed, left()) == (0, set(keys))
    done = clean(cache, in_use, days=1000, most_bytes=sizes[keys[0]] + sizes[keys[2]], now=now)
    assert (done.removed, done.freed, left()) == (1, sizes[keys[1]], {keys[0], keys[2]})
    done = clean(cache, in_use, days=30, most_bytes=1e12, now=now)
    assert (done.removed, left()) == (1, {keys[0]})
    assert make(root).made == 2  # and opening the first notes its use
    done = clean(cache, (), days=0, most_bytes=0, now=now)
    assert (done.removed, left()) == (0, set(keys))
    assert clean(cache, (), days=0, most_bytes=0, now=now + 2 * DAY).removed == 3
    assert not [path for path in cache.glob("*") if path.name not in {"files", "lock"}]

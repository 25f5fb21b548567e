"""The bell between processes: a ring wakes, a ring from before counts, a ring that nobody hears hurts nobody."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from dura_common.runtime.bell import NOW, SOON, Bell, ring


def test_a_ring_wakes_and_is_heard_once(tmp_path: Path) -> None:
    """Ten rings before or during a wait end it, and the next wait is a new one."""
    bell = Bell(tmp_path / "bell")
    for _ in range(10):
        ring(tmp_path / "bell")
    assert bell.wait(60)
    assert not bell.wait(0)
    later = threading.Timer(0.1, ring, (tmp_path / "bell",))
    later.start()
    assert bell.wait(60)
    later.join()
    bell.close()


def test_what_was_rung_is_told_apart(tmp_path: Path) -> None:
    """Work now, work soon, or both; looking whether somebody rang takes nothing away."""
    bell = Bell(tmp_path / "bell")
    assert not bell.rung()
    ring(tmp_path / "bell", SOON)
    assert bell.rung()
    assert bell.rung()
    assert bell.wait(0) == {SOON}
    for word in (NOW, SOON, NOW):
        ring(tmp_path / "bell", word)
    assert bell.wait(0) == {NOW, SOON}
    assert bell.wait(0) == frozenset()
    bell.close()


def test_only_its_owner_may_ring(tmp_path: Path) -> None:
    """The pipe is for one account, also when it was there before."""
    for _ in range(2):
        Bell(tmp_path / "bell").close()
        assert stat.S_IMODE((tmp_path / "bell").stat().st_mode) == 0o600


def test_a_ring_without_anybody_to_hear_it_passes(tmp_path: Path) -> None:
    """Nobody waits, there is no bell, or something else is in its place: nothing is written, and nothing fails."""
    ring(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    Bell(tmp_path / "bell").close()
    ring(tmp_path / "bell")
    (tmp_path / "file").write_bytes(b"before")
    ring(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"before"
    with pytest.raises(OSError, match="is not a pipe"):
        Bell(tmp_path / "file")


def test_more_rings_than_a_pipe_holds_block_nobody(tmp_path: Path) -> None:
    """A process that does not listen for long is woken once by all of them."""
    bell = Bell(tmp_path / "bell")
    full = os.open(tmp_path / "bell", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(full, b"!" * 4096)
    os.close(full)
    ring(tmp_path / "bell")
    assert bell.wait(60)
    assert not bell.wait(0)
    bell.close()

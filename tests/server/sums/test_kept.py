"""Opened sums on disk: what was written whole is read back, whatever a crash has cut off, and the rules of attempts."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dura_common.errors import HostError
from dura_common.secagg import Opened
from dura_server.sums.kept import Kept, SumLog

NAMES = ("east", "north")


def kept(attempt: int, step: int, *values: int) -> Kept:
    """Return an opened sum."""
    return Kept.of(attempt, Opened(step, np.array(values or (attempt, step), dtype=np.int64), NAMES))


def told(log: SumLog) -> list[tuple[int, int]]:
    """Return attempt and step of each sum that stands."""
    return [(one.attempt, one.step) for one in log.sums("train", 1)]


def filled(folder: Path, sums: Iterable[Kept]) -> SumLog:
    """Return a log in a folder, with sums in it."""
    log = SumLog(folder / "sums")
    for one in sums:
        log.append("train", 1, one)
    return log


@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40),
    names=st.lists(st.text("abc-", min_size=1, max_size=31), unique=True, max_size=5),
)
def test_a_sum_is_read_back_as_it_was(values: list[int], names: list[str]) -> None:
    """Every int64, narrow or wide, with its contributors."""
    total: NDArray[np.int64] = np.array(values, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        log = filled(Path(folder), [Kept.of(3, Opened(1, total, tuple(names)))])
        (found,) = log.sums("train", 1)
    assert found.opened is not None
    assert found.opened.total.dtype == np.int64
    assert np.array_equal(found.opened.total, total)
    assert (found.attempt, found.step, found.opened.contributors) == (3, 1, tuple(names))


def test_rounds_and_purposes_are_kept_apart(tmp_path: Path) -> None:
    """What was dropped is gone, and nothing else."""
    log = SumLog(tmp_path / "sums")
    log.append("train", 1, kept(1, 1))
    log.append("evaluate", 1, kept(2, 1))
    log.append("train", 2, kept(3, 1))
    log.drop("train", 1)
    assert told(log) == []
    assert [one.attempt for one in log.sums("evaluate", 1)] == [2]
    assert [one.attempt for one in log.sums("train", 2)] == [3]
    log.clear()
    assert list(log.sums("train", 2)) == []


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 600), again=st.booleans())
def test_whatever_a_crash_cuts_off_the_sums_before_it_stand(cut: int, again: bool) -> None:
    """A file that ends anywhere holds the whole records before that place, and takes new ones after them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = filled(folder, [kept(1, 1), kept(1, 2), kept(1, 3)])
        (path,) = (folder / "sums").iterdir()
        size = path.stat().st_size
        assert size % 3 == 0
        whole = min(cut, size) // (size // 3)
        os.truncate(path, min(cut, size))
        log = log if again else SumLog(folder / "sums")  # the process that wrote it, or the next one
        assert told(log) == [(1, step) for step in range(1, whole + 1)]
        log.append("train", 1, kept(2, whole + 1))
        assert told(log) == [*((1, step) for step in range(1, whole + 1)), (2, whole + 1)]


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_record_that_was_altered_ends_the_file(place: int, bit: int) -> None:
    """One bit: that record and what follows are not believed; nothing is raised, nothing else is read."""
    with tempfile.TemporaryDirectory() as name:
        log = filled(Path(name), [kept(1, 1), kept(1, 2), kept(1, 3)])
        (path,) = (Path(name) / "sums").iterdir()
        content = bytearray(path.read_bytes())
        place %= len(content)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        assert told(log) == [(1, step) for step in range(1, place // (len(content) // 3) + 1)]


@pytest.mark.parametrize(
    ("written", "stands"),
    [
        ([kept(1, 1), kept(1, 2), kept(2, 2)], [(1, 1), (2, 2)]),
        ([kept(1, 1), kept(1, 2), kept(1, 3), kept(2, 2)], [(1, 1), (2, 2)]),
        ([kept(1, 1), kept(3, 2), kept(2, 2), kept(2, 3)], [(1, 1), (3, 2)]),
        ([kept(1, 1), kept(1, 3)], [(1, 1)]),
        ([kept(1, 2)], []),
        ([kept(1, 1), Kept(1, 2, None), kept(2, 3)], [(1, 1), (1, 2), (2, 3)]),
        ([kept(2, 1), kept(1, 1), kept(1, 2)], [(2, 1)]),
    ],
    ids=["again", "what-followed-goes", "late", "gap", "begins-later", "given-up", "a-dead-session"],
)
def test_a_later_attempt_stands_in_place_of_an_earlier_one(
    tmp_path: Path, written: list[Kept], stands: list[tuple[int, int]]
) -> None:
    """From the step that it opened again on. An earlier attempt that still speaks is not heard; no gap is jumped."""
    assert told(filled(tmp_path, written)) == stands


def test_a_sum_that_was_given_up_is_none(tmp_path: Path) -> None:
    """It has a step and an attempt, and no numbers."""
    found = list(filled(tmp_path, [kept(1, 1), Kept(2, 2, None)]).sums("train", 1))
    assert found[1] == Kept(2, 2, None)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum is not kept, and that is said; the next one finds the file whole."""
    log = filled(tmp_path, [kept(1, 1)])
    (path,) = (tmp_path / "sums").iterdir()
    before = path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("dura_server.sums.kept.os.fdatasync", full)
        with pytest.raises(HostError, match=r"an opened sum cannot be kept.*No space left") as caught:
            log.append("train", 1, kept(1, 2))
    assert "Free space" in caught.value.hint
    assert path.read_bytes() == before
    log.append("train", 1, kept(2, 2))
    assert told(log) == [(1, 1), (2, 2)]


def test_two_writers_of_one_file_lose_nothing(tmp_path: Path) -> None:
    """A session that was given up may add its last sums while the next one adds its first: all records are whole."""
    log = SumLog(tmp_path / "sums")
    first, second = log.writer("train", 1), log.writer("train", 1)
    first.append(kept(1, 1))
    second.append(kept(2, 1))
    first.append(kept(1, 2))
    second.append(kept(2, 2))
    first.close()
    second.append(kept(2, 3))
    assert told(log) == [(2, 1), (2, 2), (2, 3)]
    second.close()
    (path,) = (tmp_path / "sums").iterdir()
    assert path.stat().st_size % 5 == 0
    assert told(log) == [(2, 1), (2, 2), (2, 3)]


def test_a_file_that_was_dropped_begins_again(tmp_path: Path) -> None:
    """Nothing is added to a file that no longer has a name."""
    log = SumLog(tmp_path / "sums")
    writer = log.writer("train", 1)
    writer.append(kept(1, 1))
    log.drop("train", 1)
    writer.append(kept(2, 1))
    writer.close()
    assert told(log) == [(2, 1)]


def test_a_disk_that_takes_a_record_in_pieces_keeps_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that was cut short goes on where it stopped."""
    whole = os.pwrite
    monkeypatch.setattr("dura_server.sums.kept.os.pwritev", lambda fd, parts, at: whole(fd, b"".join(parts)[:7], at))
    monkeypatch.setattr("dura_server.sums.kept.os.pwrite", lambda fd, rest, at: whole(fd, rest[:11], at))
    log = filled(tmp_path, [kept(1, 1, *range(50)), kept(1, 2)])
    assert told(log) == [(1, 1), (1, 2)]
    first = next(iter(log.sums("train", 1))).opened
    assert first is not None
    assert first.total.tolist() == list(range(50))

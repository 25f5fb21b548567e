"""Checkpoints: the whole state is read back, the newest two are kept, and one that cannot be read is said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dura_common.errors import HostError, InputError
from dura_common.models import TrainingState
from dura_server.rounds.checkpoint import RESERVE_BYTES, Checkpoint, Checkpoints, require_room


def state(steps: int, *, moments: int = 2) -> TrainingState:
    """Return a state of five parameters that nothing else has."""
    rows = np.random.default_rng(steps).normal(size=(1 + moments, 5)).astype(np.float32)
    return TrainingState(rows[0], tuple(rows[1:]), steps)


@pytest.mark.parametrize("moments", [0, 1, 2])
def test_a_state_is_read_back_to_the_last_bit(tmp_path: Path, moments: int) -> None:
    """Parameters, moments, steps, and what was given up: the digest that sites compare is the same."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.newest(moments=moments) is None
    checkpoints.save(Checkpoint(1, state(10, moments=moments), given_up=1))
    found = checkpoints.newest(moments=moments)
    assert found is not None
    assert (found.round, found.given_up) == (1, 1)
    assert found.state.digest() == state(10, moments=moments).digest()


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    """A study of many rounds does not fill the disk."""
    checkpoints = Checkpoints(tmp_path)
    for number in range(1, 13):
        checkpoints.save(Checkpoint(number, state(number)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["round-00011.safetensors", "round-00012.safetensors"]
    found = checkpoints.newest(moments=2)
    assert found is not None
    assert found.round == 12


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Cut short, or of other moments: one error says which file, and what removing it costs."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Checkpoint(1, state(3, moments=0)))
    with pytest.raises(InputError, match="round-00001"):
        checkpoints.newest(moments=2)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError, match="round-00001") as caught:
        checkpoints.newest(moments=0)
    assert "go on from the one before" in caught.value.hint


def test_little_space_is_a_reason_not_to_begin(tmp_path: Path) -> None:
    """What is needed and what is free stand in the message."""
    require_room(tmp_path, 0)
    with pytest.raises(HostError, match=r"disk is nearly full: .* MB are free, and .* MB are needed"):
        require_room(tmp_path, (1 << 62) - RESERVE_BYTES)

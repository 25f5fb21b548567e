"""What a study needs to go on after a crash, beside the opened sums of the round under way: its state after each round.

A crash loses nothing that was opened: the newest checkpoint and the sums kept since (:mod:`dura_server.sums.kept`) lead
to the very state that every site has, since everybody makes the same steps from the same sums.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dura_common.errors import HostError, InputError
from dura_common.models import TrainingState
from dura_common.runtime.files import private_folder, write_atomic

KEPT_CHECKPOINTS = 2
"""The newest one, and the one before it."""
RESERVE_BYTES = 16 << 20
"""Free space that is left alone: state files and logs need some."""
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The training state after a round; round 0 is the beginning."""

    round: int
    state: TrainingState
    given_up: int = 0
    """Sums of the training up to here that were lost and could not be drawn again."""


class Checkpoints:
    """The checkpoints of one study, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint durably, and the one before it.

        Raises:
            HostError: the disk is full or the folder cannot be written.
        """
        state = checkpoint.state
        tensors = {"parameters": state.parameters}
        tensors |= {f"moment-{number}": moment for number, moment in enumerate(state.moments)}
        said = {"steps": str(state.steps), "given-up": str(checkpoint.given_up)}
        private_folder(self._folder)
        write_atomic(self._path(checkpoint.round), save(tensors, metadata=said))
        for old in self._numbers()[:-KEPT_CHECKPOINTS]:
            self._path(old).unlink(missing_ok=True)

    def newest(self, *, moments: int) -> Checkpoint | None:
        """Return the newest checkpoint, of so many moments; None if there is none yet.

        Raises:
            InputError: the file is not what :meth:`save` wrote.
        """
        numbers = self._numbers()
        if not numbers:
            return None
        path = self._path(numbers[-1])
        try:
            with safe_open(path, framework="numpy") as file:
                said = file.metadata()
                found = tuple(file.get_tensor(f"moment-{number}") for number in range(moments))
                state = TrainingState(file.get_tensor("parameters"), found, int(said["steps"]))
                return Checkpoint(numbers[-1], state, int(said["given-up"]))
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"the checkpoint {path} cannot be read",
                hint="Remove it to go on from the one before: what the study learnt since then is lost.",
            ) from error

    def _numbers(self) -> list[int]:
        return sorted(int(path.stem.removeprefix("round-")) for path in self._folder.glob("round-*.safetensors"))

    def _path(self, number: int) -> Path:
        return self._folder / f"round-{number:05d}.safetensors"


def require_room(folder: Path, needed: int) -> None:
    """Refuse to ask sites for what could not be kept: they would pay for nothing.

    Raises:
        HostError: the disk has less free space than ``needed`` bytes and a reserve.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE_BYTES:
        raise HostError(
            f"the coordinator's disk is nearly full: {free / MEGABYTE:.0f} MB are free, "
            f"and {(needed + RESERVE_BYTES) / MEGABYTE:.0f} MB are needed to go on",
            hint="Free space there; then `dura study resume` goes on.",
        )

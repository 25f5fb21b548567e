"""The draws of one round: what each costs, and what may go out again without cost.

A draw is one sample of patients with its noise; its vector leaves the site masked. A round is reserved in the ledger
as a whole before anything is computed, and that covers one draw of each step. How far the draws have come is written
durably before a vector is sent; a step that is drawn again, because a sum was lost, is a second release whatever
the coordinator says happened to the first, and is paid for by itself.

A vector whose noise is this site's own keeps its promise against everybody, so the very same vector may go out any
number of times, and is kept for that. A share of common noise is not kept on disk: within a session the aggregation
plane resends it unchanged to unchanged members, and nothing else may.

A lost record of a round that was reserved ends the round for this site.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.ledger.ledger import RepeatedRound
from dura_client.site.home import SiteHome
from dura_common.errors import InputError, StateError
from dura_common.runtime.files import private_folder, read_limited, write_atomic

Reserve = Callable[[int], int]
"""Writes the ledger and returns the entry: given 0, for the whole round; given a number above, for one draw more."""
MAX_RECORD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Record:
    step: int
    """Highest step of which a vector was drawn; 0 before the first."""
    position: str
    """Digest of the state that it was computed from."""


def _nothing(_entry: int) -> None:
    """Stand for a ledger before :meth:`RoundDraws.begin`."""


class RoundDraws:
    """The draws of one purpose in one round of one study.

    Args:
        home: the site's folder.
        study: digest of the study.
        purpose: ``train`` or ``evaluate``.
        round_number: round of the study.
        own_noise: whether a vector has all the noise of the study, or none because its data are public.
    """

    def __init__(self, home: SiteHome, study: str, purpose: str, round_number: int, *, own_noise: bool) -> None:
        self._path: Path = home.sums / study / f"{purpose}-{round_number:05d}"
        self._own_noise = own_noise
        self._record = _Record(0, "")
        self._vector: NDArray[np.signedinteger] = np.zeros(0, dtype=np.int64)
        self._reserve: Reserve | None = None
        self._computing: Callable[[int], None] = _nothing
        self._repeats = 0
        self.untouched = True
        """Whether nothing was computed yet: what was reserved may be given back."""
        self.entries: list[int] = []
        """Entries of the ledger to settle in the end."""

    def begin(self, reserve: Reserve, computing: Callable[[int], None], *, first_step: int, repeated: bool) -> None:
        """Reserve the round unless that was done before.

        Args:
            reserve: writes the ledger.
            computing: tells the ledger that from now on a reservation cannot be given back.
            first_step: the first step that is asked for; earlier ones are not covered any more.
            repeated: whether the coordinator says that this is not the first attempt.

        Raises:
            RepeatedRound: the round was reserved before and this is no further attempt.
            StateError: the record of a reserved round is lost.
            DuraError: the ledger refuses.
        """
        self._reserve, self._computing = reserve, computing
        try:
            self.entries.append(reserve(0))
        except RepeatedRound:
            if not repeated:
                raise
            self._read()
            return
        self._keep(_Record(first_step - 1, ""), np.zeros(0, dtype=np.int64))

    def vector(
        self, step: int, position: str, draw: Callable[[], NDArray[np.signedinteger]]
    ) -> NDArray[np.signedinteger]:
        """Return the vector of a step, noted durably: a fresh one that is paid for, or one that may go out again.

        Args:
            step: within the round.
            position: digest of the state that it is computed from.
            draw: draws a fresh vector of integers.

        Raises:
            DuraError: the ledger refuses to pay for a fresh draw.
        """
        if step <= self._record.step:
            if self._own_noise and self._record == _Record(step, position):
                return self._vector
            self._pay()
        self.untouched = False
        for entry in self.entries:
            self._computing(entry)
        vector = draw()
        self._keep(_Record(max(step, self._record.step), position), vector if self._own_noise else vector[:0])
        return vector

    def _pay(self) -> None:
        """Reserve one draw more; a number that was used before belongs to a draw that was interrupted."""
        if self._reserve is None:
            raise RuntimeError("a draw was asked for before its round began")
        while True:
            self._repeats += 1
            try:
                self.entries.append(self._reserve(self._repeats))
            except RepeatedRound:
                continue
            return

    def _keep(self, record: _Record, vector: NDArray[np.signedinteger]) -> None:
        private_folder(self._path.parent.parent)
        private_folder(self._path.parent)
        write_atomic(self._path, json.dumps(asdict(record)).encode() + b"\n" + vector.astype("<i8").tobytes())
        self._record, self._vector = record, vector

    def _read(self) -> None:
        try:
            content = read_limited(self._path, what="the record of draws", limit=MAX_RECORD_BYTES)
            head, _, body = content.partition(b"\n")
            self._record = _Record(**json.loads(head))
            self._vector = np.frombuffer(body, dtype="<i8").astype(np.int64)
        except (InputError, ValueError, TypeError) as error:
            raise StateError("the record of this round's draws is lost, so nothing more may be drawn in it") from error

"""The draws of one round: what each costs, and when a vector may go out again.

A draw is one sample of patients with its noise; its vector leaves the site masked. A round is reserved in the ledger
as a whole before anything is computed, and that covers one draw of each step. Every vector is kept durably before it
is sent. When a sum was lost and the coordinator asks again, it gives the draw a number:

- the same number: every site sends the very vector that it sent before, to the very same members, from the very
  same state, and nothing new is learnt. A site that cannot refuses: a fresh vector among old ones would thin the
  noise that the others count on. A vector whose mask was given away (a round sum that was opened, perhaps without
  somebody) never goes out again: the difference of two such sums would be one site's vector alone;
- a higher number: everybody draws afresh, and every site pays for one draw more, whatever the coordinator says
  happened to the first.

The number is bound into the session, so sites that were told different ones share no mask. A lost record of a round
that was reserved ends the round for this site.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.home import SiteHome
from dura_client.ledger import RepeatedRound
from dura_common.errors import InputError, StateError
from dura_common.messages import RefusalReason
from dura_common.runtime.files import private_folder, read_limited, write_atomic

Reserve = Callable[[int], int]
"""Writes the ledger and returns the entry: given 0, for the whole round; given a number above, for one draw more."""
MAX_RECORD_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Record:
    step: int
    """Highest step of which a vector was drawn; 0 before the first."""
    number: int
    """Of that draw."""
    key: str
    """Digest of the state and the members that the vector is for."""
    spent: bool = False
    """Whether what takes its mask off may have left the site."""


class DrawPassed(StateError):
    """The vector that was asked for cannot go out again; a fresh draw can."""

    reason = RefusalReason.AGGREGATION


class RoundDraws:
    """The draws of one purpose in one round of one study.

    Args:
        home: the site's folder.
        study: digest of the study.
        purpose: ``train`` or ``evaluate``.
        round_number: round of the study.
    """

    def __init__(self, home: SiteHome, study: str, purpose: str, round_number: int) -> None:
        self._path: Path = home.sums / study / f"{purpose}-{round_number:05d}"
        self._record = _Record(0, 0, "")
        self._vector: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._reserve: Reserve | None = None
        self._repeats = 0
        self.entries: list[int] = []
        """Entries of the ledger to settle in the end."""

    def begin(self, reserve: Reserve, *, first_step: int, repeated: bool) -> None:
        """Reserve the round unless that was done before.

        Args:
            reserve: writes the ledger.
            first_step: the first step that is asked for; earlier ones are not covered any more.
            repeated: whether the coordinator says that this is not the first attempt.

        Raises:
            RepeatedRound: the round was reserved before and this is no further attempt.
            StateError: the record of a reserved round is lost.
            DuraError: the ledger refuses.
        """
        self._reserve = reserve
        try:
            self.entries.append(reserve(0))
        except RepeatedRound:
            if not repeated:
                raise
            self._read()
            return
        self._keep(_Record(first_step - 1, 1, "", spent=True), np.zeros(0, dtype=np.int64))

    def vector(self, step: int, number: int, key: str, draw: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the vector of a step, kept durably: the one from before, or a fresh one that is paid for.

        Args:
            step: within the round.
            number: of the draw.
            key: digest of the state and the members that the vector is for.
            draw: draws a fresh vector, int64.

        Raises:
            DrawPassed: the same draw for other members or from another state, or one whose vector is spent or passed.
            DuraError: the ledger refuses to pay for a fresh draw.
        """
        record = self._record
        if step <= record.step:
            if (step, number) == (record.step, record.number):
                if record.spent or key != record.key:
                    raise DrawPassed("this draw was made before, and its vector cannot go out again")
                return self._vector
            if number <= (record.number if step == record.step else 1):
                raise DrawPassed("this draw was made before and is passed")
            self._pay()
        vector = draw()
        self._keep(_Record(step, number, key), vector)
        return vector

    def releasing(self) -> None:
        """Note durably that what takes the last vector's mask off is about to leave."""
        self._keep(replace(self._record, spent=True), np.zeros(0, dtype=np.int64))

    def _pay(self) -> None:
        """Reserve one draw more; a number that was used before belongs to a draw that a crash interrupted."""
        if self._reserve is None:
            raise RuntimeError("a draw was asked for before its round began")
        while True:
            self._repeats += 1
            try:
                self.entries.append(self._reserve(self._repeats))
            except RepeatedRound:
                continue
            return

    def _keep(self, record: _Record, vector: NDArray[np.int64]) -> None:
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

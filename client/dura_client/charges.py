"""Which draws of a round are paid for: the rule between a round's reservation and a vector that leaves.

A round is reserved as a whole before anything is computed. A draw (one sample of patients with its noise) is covered
by that reservation if no vector of its step was drawn before; how far the draws have come is written durably before
the vector is made. Whatever is drawn a second time is a second release, whatever the coordinator says happened to
the first, and is reserved by itself. A lost record counts as everything drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from dura_client.home import SiteHome
from dura_client.ledger import RepeatedRound
from dura_common.errors import InputError
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import Frozen

Reserve = Callable[[int], int]
"""Reserves and returns the ledger's entry: given 0, the whole round; given a number above, one repeated draw."""


class _Record(Frozen):
    drawn: Annotated[int, Field(ge=0)]
    """Highest step of the round of which a vector was drawn."""
    repeats: Annotated[int, Field(ge=0)]
    """Draws that were paid for by themselves."""


class RoundCharges:
    """The draws of one purpose in one round of one study.

    Args:
        home: the site's folder.
        study: digest of the study.
        purpose: ``train`` or ``evaluate``.
        round_number: round of the study.
        steps: draws that the round's reservation covers.
    """

    def __init__(self, home: SiteHome, study: str, purpose: str, round_number: int, *, steps: int) -> None:
        self._path: Path = home.sums / study / f"{purpose}-{round_number:05d}.json"
        self._steps = steps
        self._record = _Record(drawn=0, repeats=0)
        self._reserve: Reserve | None = None

    def begin(self, reserve: Reserve, *, first_step: int, repeated: bool) -> list[int]:
        """Reserve the round unless that was done before, and return the entries to settle in the end.

        Args:
            reserve: writes the ledger.
            first_step: the first step that is asked for; those before it are not covered any more.
            repeated: whether the coordinator says that this is not the first attempt.

        Raises:
            RepeatedRound: the round was reserved before and this is no further attempt.
            DuraError: the ledger refuses.
        """
        self._reserve = reserve
        self._entries: list[int] = []
        try:
            self._entries.append(reserve(0))
            self._keep(drawn=first_step - 1)
        except RepeatedRound:
            if not repeated:
                raise
            self._record = self._read()
        return self._entries

    def pay(self, step: int) -> None:
        """Make sure that a draw of this step is paid for, durably, before it is made.

        Raises:
            DuraError: the ledger refuses; nothing may be drawn.
            RuntimeError: called before :meth:`begin`.
        """
        if self._reserve is None:
            raise RuntimeError("a draw was asked for before its round began")
        if step > self._record.drawn:
            self._keep(drawn=step)
            return
        repeats = self._record.repeats + 1
        self._keep(repeats=repeats)
        self._entries.append(self._reserve(repeats))

    def _keep(self, **changes: int) -> None:
        self._record = self._record.model_copy(update=changes)
        private_folder(self._path.parent)
        write_atomic(self._path, self._record.model_dump_json().encode())

    def _read(self) -> _Record:
        try:
            return _Record.model_validate_json(read_limited(self._path, what="the record of draws"))
        except (InputError, ValidationError):
            return _Record(drawn=self._steps, repeats=0)

"""A site's part in the sums of one request: whatever it draws is paid for before it is drawn."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_client.release.draws import RoundDraws
from dura_common.secagg import Opened


class Work(Protocol):
    """What is computed for a request, before anybody asks what it costs."""

    @property
    def position(self) -> str:
        """Digest of the state that the next vector is computed from."""
        ...

    def compute(self) -> NDArray[np.signedinteger]:
        """Draw afresh: sample, compute, add noise."""
        ...

    def opened(self, opened: Opened) -> None:
        """Go on from an opened sum."""
        ...


class PaidPart:
    """A part whose vectors are paid for (:mod:`dura_client.release.draws`)."""

    def __init__(self, work: Work, draws: RoundDraws, *, members: tuple[str, ...], first_step: int) -> None:
        self._work = work
        self._draws = draws
        self.members = members
        """Who adds to the next sum: at first those who were asked for, then those who added to the last one."""
        self.next_step = first_step

    def draw(self, step: int) -> NDArray[np.signedinteger]:
        """Return a vector that is paid for."""
        return self._draws.vector(step, self._work.position, self._work.compute)

    def opened(self, opened: Opened) -> None:
        """Go on from an opened sum."""
        self._work.opened(opened)
        self.members = opened.contributors
        self.next_step = opened.step + 1

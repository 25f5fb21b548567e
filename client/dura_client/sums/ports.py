"""What a secure sum asks of this site, and what this site asks of secure sums: the two ports between them.

The gate speaks to :class:`Sums` alone, which is the aggregation plane (:mod:`dura_client.sums.plane`) or, in tests, a
simulation of it in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_common.secagg import Opened, SessionParameters


class Peers(Protocol):
    """What a session tells the other members of this site, and hears from them; one thread calls all of it."""

    def note(self) -> bytes:
        """Return what this site says of itself (:mod:`dura_common.sums.heads`)."""
        ...

    def heard(self, notes: Mapping[str, bytes]) -> None:
        """Judge what the other members say of themselves, before anything leaves under masks.

        Raises:
            TrustError: one of them went back, or follows another roster: the session ends.
        """
        ...

    def opened(self, opened: Opened) -> None:
        """Note who added to a sum."""
        ...


class Part(Protocol):
    """What a session asks of this site."""

    @property
    def peers(self) -> Peers:
        """What passes between the members apart from vectors."""
        ...

    def draw(self, step: int) -> NDArray[np.signedinteger]:
        """Return a fresh vector for a step, integers (length,), which is paid for; asked again, another one."""
        ...

    def opened(self, opened: Opened) -> None:
        """Take note of an opened sum."""
        ...


class Sums(Protocol):
    """The way to the other sites' vectors: the aggregation plane, or a simulation of it in tests."""

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take part in one session to its end.

        Raises:
            DuraError: the session ended early, or a draw was refused.
        """
        ...

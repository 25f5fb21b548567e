"""What a secure sum asks of this site, and what this site asks of secure sums: the two ports between them.

The gate speaks to :class:`Sums` alone, which is the aggregation plane (:mod:`dura_client.sums.plane`) or, in tests, a
simulation of it in memory.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_common.secagg import Opened, SessionParameters


class Part(Protocol):
    """What a session asks of this site."""

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

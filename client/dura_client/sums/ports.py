"""The two ports between this site and secure sums.

The gate uses only :class:`Sums`. This is the aggregation plane (:mod:`dura_client.sums.plane`) or, in tests, a
simulation of it in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_common.secagg import Opened, SessionParameters


class Peers(Protocol):
    """The exchange of reports between this site and the other members; a single thread calls all of it."""

    def note(self, members: tuple[str, ...]) -> bytes:
        """Return this site's report to the members of a session (:mod:`dura_common.sums.heads`)."""
        ...

    def heard(self, members: tuple[str, ...], notes: Mapping[str, bytes]) -> None:
        """Check the other members' reports, before anything leaves under masks.

        Raises:
            TrustError: a member or this site returned to an older state, or a member follows another roster: the
                session ends.
        """
        ...


class Part(Protocol):
    """The part of this site in a session."""

    @property
    def peers(self) -> Peers:
        """The exchange between the members, except vectors."""
        ...

    def draw(self, step: int) -> NDArray[np.signedinteger]:
        """Return a new vector for a step, integers (length,), which is paid for. Every call returns another vector."""
        ...

    def opened(self, opened: Opened) -> None:
        """Process an opened sum."""
        ...


class Sums(Protocol):
    """Adds the vectors of all sites: the aggregation plane, or a simulation of it in tests."""

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take part in one session to its end.

        Raises:
            DuraError: the session ended early, or a draw was refused.
        """
        ...

"""The port through which a run reaches the sites: Flower's messages, or a simulation in tests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_common.messages import Reply, Request

Vector = NDArray[np.float32]


class Replies(Protocol):
    """The answers to one request. Some of them may still be on their way."""

    def refused(self) -> int:
        """Return how many sites have refused or failed so far: their vectors will not come."""
        ...

    def absent(self) -> frozenset[str]:
        """Return the sites that were not connected when they were asked."""
        ...

    def collect(self, seconds: float, *, but: Collection[str] = ()) -> Mapping[str, Reply | None]:
        """Wait for missing answers, at most so long, and not at all for ``but``; None for a site without an answer."""
        ...


class Sites(Protocol):
    """Carries messages to the sites."""

    def ask(self, names: tuple[str, ...], request: Request, vector: Vector | None) -> Replies:
        """Send one request to the named sites."""
        ...

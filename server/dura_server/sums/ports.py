"""The port through which a run uses secure sums: the aggregation service, or a simulation in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from dura_common.errors import HostError
from dura_common.secagg import Opened, SessionParameters


class Lost(HostError):
    """A session ended early."""

    def __init__(self, message: str, gone: tuple[str, ...]) -> None:
        super().__init__(message, hint="`dura study status` shows every site; `dura study run` continues the study.")
        self.gone = gone
        """The lost sites, as far as the service knows them."""


class Sessions(Protocol):
    """The aggregation service. It opens sums and never shows a masked vector."""

    def run(self, params: SessionParameters, *, stop: Callable[[], bool]) -> AbstractContextManager[Iterator[Opened]]:
        """Open a session for the sites, and iterate over the sums as they are opened.

        Args:
            params: parameters of the session.
            stop: called regularly; True ends the session.

        Raises:
            Lost: while iterating, if the session ends early.
        """
        ...

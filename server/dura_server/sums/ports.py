"""What a run asks of secure sums: the port behind which the aggregation service stands, or a simulation in tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from dura_common.errors import HostError
from dura_common.secagg import Opened, SessionParameters


class Lost(HostError):
    """A session ended early."""

    def __init__(self, message: str, gone: tuple[str, ...]) -> None:
        super().__init__(message, hint="`dura study status` shows every site; `dura study run` goes on from here.")
        self.gone = gone
        """Sites that were lost, as far as the service knows."""


class Sessions(Protocol):
    """The aggregation service: opens sums and never shows a masked vector."""

    def run(self, params: SessionParameters, *, stop: Callable[[], bool]) -> AbstractContextManager[Iterator[Opened]]:
        """Open a session that sites may attend; iterate over the sums as they are opened.

        Args:
            params: of the session.
            stop: asked now and then; True ends the session.

        Raises:
            Lost: while iterating, if the session ends early.
        """
        ...

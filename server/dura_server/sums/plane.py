"""The coordinator's access to secure sums: sessions of the aggregation service, which end early if sites refuse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dura_common.errors import HostError
from dura_common.secagg import Opened, SessionParameters
from dura_server.home import CoordinatorHome
from dura_server.sums.client import RunningSession, SessionFailed, open_session
from dura_server.sums.events import Timing
from dura_server.sums.ports import Lost

TIMING = Timing(join=120.0, step=1800.0, rejoin=15.0)
"""A busy node may fetch a message seconds late, and a site trains during a step. A site that hangs or dies is
noticed at once."""
POLL_SECONDS = 0.2
NOT_KEPT = "NOT_KEPT"


class PlaneSessions:
    """See :class:`dura_server.sums.ports.Sessions`."""

    def __init__(self, home: CoordinatorHome, timing: Timing = TIMING) -> None:
        self._home = home
        self._timing = timing

    @contextmanager
    def run(self, params: SessionParameters, *, stop: Callable[[], bool]) -> Iterator[Iterator[Opened]]:
        """Open a session; iterate over its sums.

        Raises:
            Lost: while iterating, if the session ends early.
            HostError: the service does not answer.
        """
        done = threading.Event()
        with open_session(self._home, params, self._timing) as session:
            watcher = threading.Thread(target=_watch, args=(stop, done, session.close), daemon=True)
            watcher.start()
            try:
                yield _sums(session)
            finally:
                done.set()
                watcher.join()


def _watch(stop: Callable[[], bool], done: threading.Event, close: Callable[[], None]) -> None:
    while not done.wait(POLL_SECONDS):
        if stop():
            close()
            return


def _sums(session: RunningSession) -> Iterator[Opened]:
    try:
        for opened in session:
            yield Opened(opened.step, opened.values, opened.contributors)
    except SessionFailed as error:
        if error.word == NOT_KEPT:
            raise HostError(
                "an opened sum could not be kept: the coordinator's disk is full or broken",
                hint="Free space there; then `dura study resume` goes on.",
            ) from error
        raise Lost(error.message, error.lost) from error

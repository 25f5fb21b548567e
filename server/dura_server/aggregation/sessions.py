"""The ServerApp's way to the aggregation service: one call a session, over a socket of the coordinator's own user."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import numpy as np

from dura_common.errors import DuraError
from dura_common.proto.aggregation_pb2 import SessionEvent, SessionRequest
from dura_common.proto.aggregation_pb2_grpc import SessionsStub
from dura_common.runtime.files import read_limited
from dura_common.secagg import Opened, SessionParameters
from dura_server.home import CoordinatorHome
from dura_server.rounds import Lost

log = logging.getLogger(__name__)

JOIN_SECONDS = 120.0
"""How long the sites of a session have to come: a busy node fetches a message seconds late."""
STAGE_SECONDS = 1800.0
"""How long a stage may take: a site trains in it. Sites that hang or die are noticed in seconds."""
POLL_SECONDS = 0.5
SUM_BYTES = 512 << 20


class AggregationSessions:
    """See :class:`dura_server.rounds.Sessions`."""

    def __init__(
        self, home: CoordinatorHome, *, join_seconds: float = JOIN_SECONDS, stage_seconds: float = STAGE_SECONDS
    ) -> None:
        self._home = home
        self._join = join_seconds
        self._stage = stage_seconds

    @contextmanager
    def run(self, params: SessionParameters, *, stop: Callable[[], bool]) -> Iterator[Iterator[Opened]]:
        """Open a session; iterate over its sums.

        Raises:
            Lost: while iterating, if the session ends early or the service is out of reach.
        """
        try:
            address = read_limited(self._home.run / "aggregation.address", what="the aggregation service's address")
        except DuraError as error:
            raise Lost("the aggregation service does not run", ()) from error
        request = SessionRequest(parameters=params.encode(), join_seconds=self._join, stage_seconds=self._stage)
        done = threading.Event()
        with grpc.insecure_channel(
            address.decode(), options=[("grpc.max_receive_message_length", SUM_BYTES)]
        ) as channel:
            call = SessionsStub(channel).Run(request)  # type: ignore[no-untyped-call]  # generated
            watcher = threading.Thread(target=_watch, args=(stop, done, call.cancel), daemon=True)
            watcher.start()
            try:
                yield _sums(call)
            finally:
                done.set()
                watcher.join()
                call.cancel()


def _watch(stop: Callable[[], bool], done: threading.Event, cancel: Callable[[], object]) -> None:
    while not done.wait(POLL_SECONDS):
        if stop():
            cancel()
            return


def _sums(call: Iterator[SessionEvent]) -> Iterator[Opened]:
    try:
        for event in call:
            if event.WhichOneof("kind") == "lost":
                raise Lost(event.lost.message, tuple(event.lost.gone))
            total = np.frombuffer(event.opened.total, dtype="<i8").astype(np.int64)
            yield Opened(event.opened.step, total, tuple(event.opened.contributors))
    except grpc.RpcError as error:
        code = error.code()
        if code is grpc.StatusCode.CANCELLED:
            raise Lost("too many sites refused or were not there", ()) from None
        raise Lost(f"the aggregation service ended the session ({code.name.lower()})", ()) from None

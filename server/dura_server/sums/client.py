"""The ServerApp's side: ask the aggregation service for a session and take its opened sums.

    with open_session(home, params) as session:      # before the sites are told to train
        ... send the round's messages over Flower ...
        for opened in session:                       # one OpenedSum for each step, in order
            values, sites = opened.values, opened.contributors

Leaving the block ends a session that has not finished. :class:`SessionFailed` says why a session ended early and
who was not there; the study goes on with a new session (new ``attempt`` in its parameters), and sites that sent
something for the failed one draw and pay anew. A session does not survive the service: after a crash the
supervisor starts it again within a second, the running sessions fail with the word ``SERVICE_LOST``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from dura_common.errors import HostError
from dura_common.messages.proto import aggregation_pb2 as wire
from dura_common.messages.proto.aggregation_pb2_grpc import SessionsStub
from dura_common.secagg import SessionParameters
from dura_common.sums.attempts import Series, decode_values
from dura_common.sums.plane import MESSAGE_BYTES
from dura_server.home import CoordinatorHome
from dura_server.sums.door import socket_path
from dura_server.sums.events import Timing

SERVICE_LOST = "SERVICE_LOST"
WAIT_SECONDS = 20.0
"""For the service to be there: its supervisor may be starting it again."""


class SessionFailed(HostError):
    """A session ended before all its sums were opened.

    Attributes:
        word: why, a name of ``Reason`` in aggregation.proto, or SERVICE_LOST.
        lost: members that were not there at the end.
    """

    code = "aggregation"

    def __init__(self, word: str, lost: tuple[str, ...] = ()) -> None:
        missing = f"; not there at the end: {', '.join(lost)}" if lost else ""
        super().__init__(
            f"the secure sum ended early ({word.lower().replace('_', ' ')}{missing})",
            hint="The coordinator's log/aggregator.log says more.",
        )
        self.word = word
        self.lost = lost


@dataclass(frozen=True, slots=True)
class OpenedSum:
    """One sum over sites."""

    step: int
    values: NDArray[np.int64]
    """int64 (length,)."""
    contributors: tuple[str, ...]
    draw: int
    """0 if the first vectors are in it; sites that had sent one before drew anew."""


class RunningSession:
    """A session on its way; iterate over it once. Made by :func:`open_session`."""

    def __init__(self, channel: Any, call: Any, params: SessionParameters) -> None:
        self.params = params
        self.attempts = 0
        """Attempts that the session took; known when it has finished."""
        self._channel = channel
        self._call = call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[OpenedSum]:
        """Return the opened sums as they come.

        Raises:
            SessionFailed: the session ended early.
        """
        parts: list[bytes] = []
        try:
            for event in self._call:
                kind = event.WhichOneof("kind")
                if kind == "failed":
                    raise SessionFailed(wire.Reason.Name(event.failed.reason), tuple(event.failed.lost))
                if kind == "finished":
                    self.attempts = event.finished.attempts
                    return
                parts.append(event.opened.data)
                if event.opened.last:
                    values = decode_values(b"".join(parts), self.params.length)
                    parts = []
                    last = event.opened
                    yield OpenedSum(last.step, values, tuple(last.contributors), last.draw)
        except grpc.RpcError as error:
            raise SessionFailed(SERVICE_LOST) from error
        raise SessionFailed(SERVICE_LOST)

    def close(self) -> None:
        """End the session if it still runs."""
        self._call.cancel()
        self._channel.close()


def open_session(
    home: CoordinatorHome, params: SessionParameters, timing: Timing | None = None, *, sums: int | None = None
) -> RunningSession:
    """Ask for a session with all its members in ``params``; it waits for them from now on.

    ``sums`` is for round sums that follow one another over the same streams; step sums say it in ``params``.

    Raises:
        HostError: the service does not answer.
        StateError: the path of the home is too long for a socket.
        SessionFailed: it refuses.
    """
    timing = timing or Timing()
    channel = _channel(home)
    call = SessionsStub(channel).Run(
        wire.SessionRequest(
            parameters=params.encode(),
            join_seconds=timing.join,
            step_seconds=timing.step,
            rejoin_seconds=timing.rejoin,
            sums=Series.of(params, sums).sums,
        )
    )
    return RunningSession(channel, call, params)


def standings(home: CoordinatorHome) -> list[wire.Standing]:
    """Return the sessions that run now and who attends them.

    Raises:
        HostError: the service does not answer.
    """
    channel = _channel(home, patience=2.0)
    try:
        return list(SessionsStub(channel).Look(wire.LookRequest(), timeout=5.0).sessions)
    except grpc.RpcError as error:
        raise HostError("the aggregation service does not answer") from error
    finally:
        channel.close()


def _channel(home: CoordinatorHome, patience: float = WAIT_SECONDS) -> Any:
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(f"unix:{socket_path(home)}", options=options)
    try:
        grpc.channel_ready_future(channel).result(timeout=patience)
    except grpc.FutureTimeoutError as error:
        channel.close()
        raise HostError(
            "the coordinator's aggregation service does not answer",
            hint="Is it running? `dura coordinator status`, `dura coordinator start`.",
        ) from error
    return channel

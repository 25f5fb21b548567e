"""The ServerApp's side: ask the aggregation service for a session and take its opened sums.

    with open_session(home, params) as session:      # before the sites are told to train
        ... send the round's messages over Flower ...
        for opened in session:                       # one OpenedSum for each step, in order
            values, sites = opened.values, opened.contributors

Leaving the block ends a session that has not finished. :class:`SessionFailed` says why a session ended early and which
sites were missing. The study continues with a new session (with a new ``attempt`` in its parameters). Sites that sent
something in the failed session draw and pay again. A session does not survive the service: after a crash, the
supervisor starts the service again within a second, and running sessions fail with the word ``SERVICE_LOST``.
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
from dura_server.sums.events import Timing

SERVICE_LOST = "SERVICE_LOST"
WAIT_SECONDS = 20.0
"""Time to wait for the service, because its supervisor may be starting it again."""


class SessionFailed(HostError):
    """A session ended before all its sums were opened.

    Attributes:
        word: the reason: a name of ``Reason`` in aggregation.proto, or SERVICE_LOST.
        lost: members that were missing at the end.
    """

    code = "aggregation"

    def __init__(self, word: str, lost: tuple[str, ...] = ()) -> None:
        missing = f"; missing at the end: {', '.join(lost)}" if lost else ""
        super().__init__(
            f"the secure sum ended early ({word.lower().replace('_', ' ')}{missing})",
            hint="See log/aggregator.log in the coordinator's folder.",
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
    """0 if the sum contains the first vectors; otherwise sites that had sent a vector before made a new draw."""


class RunningSession:
    """A running session, made by :func:`open_session`. Iterate over it once."""

    def __init__(self, channel: Any, call: Any, params: SessionParameters) -> None:
        self.params = params
        self.attempts = 0
        """Number of attempts that the session needed; known when the session has finished."""
        self._channel = channel
        self._call = call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[OpenedSum]:
        """Return the opened sums as they arrive.

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
                    values = decode_values(b"".join(parts), self.params.length, self.params.ring_bits)
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
    """Ask for a session with the members in ``params``. From now on, the session waits for them.

    ``sums`` is the number of round sums over the same streams. For step sums, ``params`` contains this number.

    Raises:
        HostError: the service does not answer.
        StateError: the path of the home is too long for a socket.
        SessionFailed: the service refuses.
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
    """Return the running sessions and the sites that attend them.

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
    channel = grpc.insecure_channel(f"unix:{home.sums_socket}", options=options)
    try:
        grpc.channel_ready_future(channel).result(timeout=patience)
    except grpc.FutureTimeoutError as error:
        channel.close()
        raise HostError(
            "the coordinator's aggregation service does not answer",
            hint="Is it running? `dura coordinator status`, `dura coordinator start`.",
        ) from error
    return channel

"""The entrance for the ServerApp: it asks for sessions on a Unix socket in the coordinator's own folder.

Nobody else can open the folder (0700), so no secret has to be passed on. Opened sums pass here, and never masked
vectors. When a call ends, its session ends too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc

from dura_common.errors import StateError
from dura_common.messages.proto import aggregation_pb2 as wire
from dura_common.messages.proto.aggregation_pb2_grpc import SessionsServicer
from dura_common.secagg import SessionParameters
from dura_common.sums.attempts import Series, encode_values
from dura_common.sums.plane import PIECE_BYTES
from dura_server.sums.events import Over, Sum, Timing
from dura_server.sums.service import RunningSessions
from dura_server.sums.session import Session


class SessionsDoor(SessionsServicer):
    """See the module."""

    def __init__(self, sessions: RunningSessions) -> None:
        self._sessions = sessions

    async def Run(self, request: wire.SessionRequest, context: Any) -> AsyncIterator[wire.SessionEvent]:  # noqa: N802  # the name in the protocol
        """Run one session, and report its sums and its end as they happen."""
        session = await self._begin(request, context)
        over = False
        try:
            while not over:
                event = await session.results.get()
                over = isinstance(event, Over)
                for message in _messages(event, session.params.ring_bits):
                    yield message
        finally:
            if not over:
                self._sessions.cancel(session)

    async def Look(self, _request: wire.LookRequest, _context: Any) -> wire.LookReply:  # noqa: N802  # the name in the protocol
        """Report the running sessions."""
        return wire.LookReply(
            sessions=[
                wire.Standing(
                    study=session.params.study,
                    round=session.params.round,
                    opened=session.opened,
                    attempt=session.attempt,
                    attending=session.attending,
                    purpose=session.params.purpose,
                    members=session.params.names,
                    sums=session.series.sums,
                )
                for session in self._sessions.all()
            ]
        )

    async def _begin(self, request: wire.SessionRequest, context: Any) -> Session:
        try:
            series = Series(SessionParameters.decode(request.parameters), request.sums)
            timing = Timing(request.join_seconds, request.step_seconds, request.rejoin_seconds)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        try:
            return self._sessions.open(series, timing)
        except StateError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, error.message)
        raise AssertionError  # abort never returns


def _messages(event: Sum | Over, ring_bits: int) -> Iterator[wire.SessionEvent]:
    if isinstance(event, Over):
        if event.reason == wire.Reason.FINISHED:
            yield wire.SessionEvent(finished=wire.Finished(attempts=event.attempts))
        else:
            yield wire.SessionEvent(failed=wire.Failed(reason=event.reason, lost=event.lost))
        return
    content = encode_values(event.opened.total, ring_bits)
    for begin in range(0, len(content), PIECE_BYTES):
        message = wire.SessionEvent(opened={"data": content[begin : begin + PIECE_BYTES]})
        if begin + PIECE_BYTES >= len(content):
            part = message.opened
            part.last, part.step, part.draw = True, event.opened.step, event.draw
            part.contributors.extend(event.opened.contributors)
        yield message

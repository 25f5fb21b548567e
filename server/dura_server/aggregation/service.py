"""The two sides of the aggregation service: streams of sites (public, mutual TLS) and the ServerApp (Unix socket).

A stream, in order, and closed at the first step that fails:

1. the certificate's one URI names a site on the present roster (:mod:`dura_server.aggregation.identity`);
2. the first message comes in time, and the site's identity has signed this connection's certificate;
3. it names a session that the ServerApp has opened, of which the site is a member;
4. frames, each no larger than the session's parameters allow; the roster is looked at again with every one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator

import grpc

from dura_common.errors import DuraError, InputError, StateError, TrustError
from dura_common.plane import HELLO_BYTES, Assembler, pieces
from dura_common.proto.aggregation_pb2 import End, FromSite, Hello, SessionEvent, SessionRequest, ToSite
from dura_common.proto.aggregation_pb2 import Lost as LostEvent
from dura_common.proto.aggregation_pb2 import Opened as OpenedEvent
from dura_common.proto.aggregation_pb2 import Reason as EndReason
from dura_common.proto.aggregation_pb2_grpc import AggregationServicer, SessionsServicer
from dura_common.secagg import Opened, SessionParameters, max_frame
from dura_server.aggregation.identity import Peer, RosterWatch, identify
from dura_server.aggregation.live import LiveSession, Seat

log = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
"""How long a stream may say nothing."""
OPENING_SECONDS = 30.0
"""How long a site waits for the ServerApp to open a session: their requests travel over different planes."""
POLL_SECONDS = 0.05
STREAMS_A_SITE = 3


class Book:
    """The sessions that run, by id."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, LiveSession] = {}

    def enter(self, session: LiveSession) -> None:
        """Keep a session.

        Raises:
            StateError: one with the very same parameters runs.
        """
        if session.params.session_id in self._sessions:
            raise StateError("this session runs already")
        self._sessions[session.params.session_id] = session

    def remove(self, session: LiveSession) -> None:
        """Forget a session."""
        self._sessions.pop(session.params.session_id, None)

    async def find(self, session_id: bytes) -> LiveSession | None:
        """Return a session, waiting a while for it to be opened."""
        deadline = asyncio.get_running_loop().time() + OPENING_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            found = self._sessions.get(session_id)
            if found is not None:
                return found
            await asyncio.sleep(POLL_SECONDS)
        return None


class Streams(AggregationServicer):
    """The public side."""

    def __init__(self, book: Book, watch: RosterWatch) -> None:
        self._book = book
        self._watch = watch
        self._open: Counter[str] = Counter()

    async def Attend(  # noqa: N802  # the method's name in the protocol
        self, request_iterator: AsyncIterator[FromSite], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[ToSite]:
        """Carry one site's frames in one session."""
        try:
            peer = identify(context.auth_context(), self._watch.now())
        except DuraError as error:
            log.warning("a stream was refused: %s", error.message)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a site of this consortium")
            return
        name = peer.site.name
        if self._open[name] >= STREAMS_A_SITE:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams of one site")
            return
        self._open[name] += 1
        try:
            async for message in self._serve(peer, request_iterator):
                yield message
        finally:
            self._open[name] -= 1

    async def _serve(self, peer: Peer, incoming: AsyncIterator[FromSite]) -> AsyncIterator[ToSite]:
        try:
            hello = await _hello(incoming)
            peer.check_hello(hello.binding)
        except (TrustError, InputError) as error:
            log.warning("a stream of %s was closed: %s", peer.site.name, error.message)
            yield _end(EndReason.MALFORMED)
            return
        session = await self._book.find(hello.session)
        if session is None:
            yield _end(EndReason.UNKNOWN_SESSION)
            return
        try:
            seat = session.attend(peer.site.name)
        except StateError:
            yield _end(EndReason.NOT_A_MEMBER)
            return
        reader = asyncio.create_task(self._read(peer, incoming, session))
        try:
            async for message in self._write(seat, reader):
                yield message
        finally:
            reader.cancel()
            await session.leave(peer.site.name)

    async def _read(self, peer: Peer, incoming: AsyncIterator[FromSite], session: LiveSession) -> None:
        """Hand frames to the session until the stream ends; whoever breaks a rule has left."""
        assembler = Assembler(max_frame(session.params))
        async for message in incoming:
            if message.WhichOneof("kind") != "piece":
                raise InputError("expected a piece of a frame")
            frame = assembler.add(message.piece)
            if frame is None:
                continue
            if not self._watch.still(peer):
                raise TrustError(f"{peer.site.name} is not on the roster any more")
            await session.receive(peer.site.name, frame)

    async def _write(self, seat: Seat, reader: asyncio.Task[None]) -> AsyncIterator[ToSite]:
        """Yield the site's frames until its session or its own stream is over."""
        while True:
            getter = asyncio.create_task(seat.outgoing.get())
            await asyncio.wait({getter, reader}, return_when=asyncio.FIRST_COMPLETED)
            if not getter.done():
                getter.cancel()
                if not reader.cancelled() and (error := reader.exception()) is not None:
                    text = error.message if isinstance(error, DuraError) else type(error).__name__
                    log.warning("a stream was closed: %s", text)
                    yield _end(EndReason.MALFORMED)
                return
            frame = getter.result()
            if frame is None:
                yield _end(EndReason.FINISHED)
                return
            for piece in pieces(frame):
                yield ToSite(piece=piece)


async def _hello(incoming: AsyncIterator[FromSite]) -> Hello:
    try:
        message = await asyncio.wait_for(anext(incoming), HELLO_SECONDS)
    except (TimeoutError, StopAsyncIteration) as error:
        raise InputError("the first message did not come") from error
    if message.WhichOneof("kind") != "hello" or message.ByteSize() > HELLO_BYTES:
        raise InputError("the first message is not a greeting")
    return message.hello


def _end(reason: EndReason) -> ToSite:
    return ToSite(end=End(reason=reason))


class SessionDesk(SessionsServicer):
    """The ServerApp's side."""

    def __init__(self, book: Book, watch: RosterWatch) -> None:
        self._book = book
        self._watch = watch

    async def Run(  # noqa: N802  # the method's name in the protocol
        self, request: SessionRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[SessionEvent]:
        """Open a session and tell what it opens; it ends with the call."""
        try:
            params = SessionParameters.decode(request.parameters)
            self._check_members(params)
            session = LiveSession(params, join_seconds=request.join_seconds, stage_seconds=request.stage_seconds)
            self._book.enter(session)
        except (ValueError, DuraError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            return
        try:
            while (event := await session.events.get()) is not None:
                yield _event(event)
                if not isinstance(event, Opened):
                    return
        finally:
            self._book.remove(session)
            await session.end("the run was cancelled")

    def _check_members(self, params: SessionParameters) -> None:
        roster = self._watch.now()
        for member in params.members:
            site = roster.site(member.name)
            if site is None or site.identity_key().public_bytes_raw() != member.identity:
                raise TrustError(f"{member.name} is not on the present roster with these keys")


def _event(event: object) -> SessionEvent:
    if isinstance(event, Opened):
        total = event.total.astype("<i8").tobytes()
        return SessionEvent(opened=OpenedEvent(step=event.step, contributors=event.contributors, total=total))
    return SessionEvent(lost=LostEvent(message=event.message, gone=event.gone))  # type: ignore[attr-defined]  # the other kind

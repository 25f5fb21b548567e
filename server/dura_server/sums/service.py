"""The public port of the aggregation plane: mutual TLS, with one stream for each site in a session.

A stream must pass these checks before a session sees it. Each check is limited in size and time:

1. TLS 1.3 with a certificate of the consortium's authority (by gRPC; otherwise, the connection is closed);
2. the certificate names one site on the current roster;
3. this site has only a few open streams;
4. the first message is a Hello. It comes soon and is small, and the identity on the roster has signed the certificate;
5. the session exists, and the site is a member of it with this identity.

Instead of a session, a site may name :data:`~dura_common.sums.plane.APPROVED`: an officer has approved a study there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc

from dura_common.errors import InputError, StateError, TrustError
from dura_common.messages.proto.aggregation_pb2 import End, Hello, Reason, ToSite
from dura_common.messages.proto.aggregation_pb2_grpc import AggregationServicer
from dura_common.secagg import Opened, SessionParameters, max_frame
from dura_common.sums.attempts import Position, Series
from dura_common.sums.plane import APPROVED, HELLO_BYTES
from dura_server.home import CoordinatorHome
from dura_server.sums.events import Timing
from dura_server.sums.identity import RELOAD_SECONDS, Peer, RosterWatch, admitted, identify
from dura_server.sums.kept import Kept, SumLog, SumWriter
from dura_server.sums.session import Session
from dura_server.sums.stream import SiteStream

log = logging.getLogger(__name__)

STREAMS_PER_SITE = 4
"""One stream in use, one that replaces it, one of an earlier session that is just ending, and one in reserve."""
HELLO_SECONDS = 5.0
SESSIONS = 16
"""Number of sessions at a time, of studies that run side by side. Every session holds one vector in memory."""


class RunningSessions:
    """The running sessions, by id."""

    def __init__(self, home: CoordinatorHome, roster: RosterWatch) -> None:
        self.roster = roster
        self._home = home
        self._sessions: dict[bytes, Session] = {}
        self._tasks: dict[bytes, asyncio.Task[None]] = {}

    def open(self, series: Series, timing: Timing) -> Session:
        """Begin a session; one of the same study that still runs ends, since nobody waits for it any more.

        Raises:
            StateError: this session is already running, or too many sessions are.
        """
        if series.key in self._sessions:
            raise StateError("this session is already running")
        for other in self.all():
            if other.params.study == series.params.study:
                self.cancel(other)
        if len(self._sessions) >= SESSIONS:
            raise StateError(f"at most {SESSIONS} sessions run at a time")
        params = series.params
        writer = SumLog.of(self._home, params.study).writer(params.purpose, params.round)

        def keep(opened: Opened) -> None:
            writer.append(Kept.of(params.attempt, opened))

        session = Session(series, timing, still=self.roster.still, keep=keep)
        self._sessions[series.key] = session
        task = asyncio.create_task(session.run())
        self._tasks[series.key] = task
        task.add_done_callback(lambda done: self._forget(series.key, done, writer))
        return session

    def cancel(self, session: Session) -> None:
        """End a session for which nobody is waiting any more."""
        task = self._tasks.get(session.series.key)
        if task is not None:
            task.cancel()

    def find(self, key: bytes) -> Session | None:
        """Return a running session."""
        return self._sessions.get(key)

    def note_approval(self, site: str) -> None:
        """Note that approvals may be asked for now."""
        log.info("%s has approved a study", site)
        with suppress(OSError):  # a full disk: approvals are asked for now and then in any case
            self._home.approved.touch()

    def all(self) -> list[Session]:
        """Return the running sessions."""
        return list(self._sessions.values())

    def _forget(self, key: bytes, task: asyncio.Task[None], writer: SumWriter) -> None:
        del self._sessions[key], self._tasks[key]
        writer.close()
        if not task.cancelled() and task.exception() is not None:
            log.error("a session failed inside the service", exc_info=task.exception())


class AggregationService(AggregationServicer):
    """See the module."""

    def __init__(self, sessions: RunningSessions) -> None:
        self._sessions = sessions
        self._open: Counter[str] = Counter()
        self._streams: set[SiteStream] = set()

    async def Attend(self, _requests: object, context: Any) -> None:  # noqa: N802  # the name in the protocol
        """Serve one stream from Hello to End."""
        peer = await admitted(context, identify, self._sessions.roster)  # steps 1 and 2
        name = peer.site.name
        if self._open[name] >= STREAMS_PER_SITE:  # step 3
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams of this site")
        with self._counted(name):
            hello = await self._hello(peer, context)  # step 4
            if hello.session == APPROVED:
                self._sessions.note_approval(name)
                await context.write(ToSite(end=End(reason=Reason.FINISHED)))
                return
            session = self._sessions.find(hello.session)  # step 5
            if session is None:
                await context.write(ToSite(end=End(reason=Reason.UNKNOWN_SESSION)))
                return
            if not _is_member(session.params, peer):
                await context.write(ToSite(end=End(reason=Reason.NOT_A_MEMBER)))
                return
            await self._serve(session, SiteStream(peer, context, limit=max_frame(session.params)), hello)

    async def watch_roster(self) -> None:
        """End the streams of sites that were removed from the roster. This task runs as long as the service."""
        while True:
            await asyncio.sleep(RELOAD_SECONDS)
            for stream in list(self._streams):
                if not self._sessions.roster.still(stream.peer):
                    log.warning("%s is not on the roster any more", stream.name)
                    stream.end(Reason.REVOKED)

    async def _hello(self, peer: Peer, context: Any) -> Hello:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                message = await context.read()
        except TimeoutError:
            log.warning("refused %s: no Hello within %.0f s", peer.site.name, HELLO_SECONDS)
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no Hello")
        if message is grpc.aio.EOF or message.WhichOneof("kind") != "hello" or message.ByteSize() > HELLO_BYTES:
            log.warning("refused %s: its first message is not a Hello", peer.site.name)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no Hello")
        hello: Hello = message.hello
        try:
            peer.check_hello(hello.binding)
        except TrustError as error:
            log.warning("refused %s: %s", peer.site.name, error.message)
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not admitted")
        return hello

    async def _serve(self, session: Session, stream: SiteStream, hello: Hello) -> None:
        self._streams.add(stream)
        session.joined(stream, Position(hello.opened, hello.draw, hello.sent))
        reason: Reason | None = None
        try:
            reason = await stream.serve(lambda attempt, frame: session.arrived(stream, attempt, frame))
        except InputError as error:
            log.warning("%s broke the protocol: %s", stream.name, error.message)
            reason = Reason.PROTOCOL
        finally:
            self._streams.discard(stream)
            session.left(stream, reason)

    @contextmanager
    def _counted(self, name: str) -> Iterator[None]:
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1


def _is_member(params: SessionParameters, peer: Peer) -> bool:
    identity = peer.site.identity_key().public_bytes_raw()
    return any((member.name, member.identity) == (peer.site.name, identity) for member in params.members)

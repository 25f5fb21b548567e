"""The gateway's doorkeeper: strangers get few connections for a short time, members keep their connections.

A connection belongs to a stranger until a member's node key has signed a request on it. From the first packet on, all
strangers together have a fixed number of connections, each for a fixed number of seconds. One more stranger takes the
place of the oldest. So a crowd of strangers pushes out its own connections only. A member signs within milliseconds and
gets through.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

STRANGERS = 64
"""Most connections of strangers. Each takes about 100 KiB: its TLS state and the unfinished head of a request."""
SECONDS = 10.0
"""A stranger's time for TLS and the first signed request together."""
EACH = 16
"""Most connections of one member. Flower's node has one or two, and a few more while it uploads."""
PAUSE_SECONDS = 0.1


@dataclass(eq=False, slots=True)
class Visit:
    """One connection.

    Attributes:
        key: node key of the member that signed a request on this connection; None for a stranger.
    """

    greeting: asyncio.Task[None] | None = None
    transport: asyncio.Transport | None = None
    key: bytes | None = None

    def end(self) -> None:
        """Close the connection without an answer, in any state."""
        if self.transport is not None:
            self.transport.abort()
        elif self.greeting is not None:
            self.greeting.cancel()


class Doorkeeper:
    """Accepts connections and bounds how many there are."""

    def __init__(self, *, strangers: int = STRANGERS, seconds: float = SECONDS, each: int = EACH) -> None:
        self._most, self._seconds, self._each = strangers, seconds, each
        self._strangers: OrderedDict[Visit, None] = OrderedDict()
        self._members: dict[bytes, list[Visit]] = {}

    async def open(
        self, listener: socket.socket, tls: ssl.SSLContext, protocol: Callable[[Visit], VisitProtocol]
    ) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, for instance
                log.warning("no connection can be accepted: %s", error.strerror)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            while len(self._strangers) >= self._most:
                oldest, _ = self._strangers.popitem(last=False)
                oldest.end()
            visit = Visit()
            self._strangers[visit] = None
            visit.greeting = loop.create_task(self._greet(visit, accepted, tls, protocol(visit)))
            visit.greeting.add_done_callback(partial(self._greeted, visit, accepted))
            await asyncio.sleep(0)  # close those that must give way before the next one is accepted

    def recognise(self, visit: Visit, key: bytes) -> None:
        """Note that a member has signed a request; if the member has too many connections, end its oldest one."""
        self.forget(visit)
        visit.key = key
        own = self._members.setdefault(key, [])
        own.append(visit)
        if len(own) > self._each:
            own.pop(0).end()

    def forget(self, visit: Visit) -> None:
        """Note that a connection has ended."""
        self._strangers.pop(visit, None)
        own = self._members.get(visit.key or b"", [])
        if visit in own:
            own.remove(visit)
            if not own:
                del self._members[visit.key or b""]

    async def _greet(self, visit: Visit, accepted: socket.socket, tls: ssl.SSLContext, made: VisitProtocol) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._seconds, self._end_if_strange, visit)
        with suppress(OSError):  # the other side refused TLS or took too long
            await loop.connect_accepted_socket(lambda: made, accepted, ssl=tls, ssl_handshake_timeout=self._seconds)

    def _greeted(self, visit: Visit, accepted: socket.socket, _done: asyncio.Task[None]) -> None:
        if visit.transport is None:  # TLS failed, or the connection had to give way first
            accepted.close()
            self.forget(visit)

    def _end_if_strange(self, visit: Visit) -> None:
        if visit in self._strangers:
            self.forget(visit)
            visit.end()


class VisitProtocol(H11Protocol):
    """HTTP/1.1 on one connection. It tells the doorkeeper when the connection begins and ends.

    The parser limits the size of a request's head.
    """

    visit: Visit
    doorkeeper: Doorkeeper

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Note the transport."""
        self.visit.transport = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.doorkeeper.forget(self.visit)
        super().connection_lost(exc)

"""The coordinator's only public entrance to Flower: it forwards POST /v1/fleet/NAME from members, and nothing else.

The SuperLink serves hospitals, operators and its own helpers on one port, and its Control and Runtime APIs authenticate
nobody. So the SuperLink listens on a socket that only its own account may open, and this gateway forwards only the
requests that a node makes. For each request, in this order:

1. the path is compared as it arrived, before it is decoded;
2. the first request on a connection must be signed by the node key of a member (the SuperLink checks every request);
3. a question for messages waits if the last answer was empty and nothing was sent since (a long poll);
4. the body is passed on in pieces, up to a maximum size, so that the gateway stores nothing; so is the answer.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from flwr.supercore.error import ApiErrorCode
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from dura_common.errors import DuraError
from dura_common.runtime.bell import Bell
from dura_common.runtime.sockets import ADDRESS
from dura_server.consortium.enrolment import load_settings
from dura_server.home import CoordinatorHome
from dura_server.services.doorkeeper import Doorkeeper, Visit, VisitProtocol
from dura_server.services.pulls import PULL, Pulls
from dura_server.services.signatures import signed_by
from dura_server.sums.identity import RosterWatch

FLEET_PATH = re.compile(rb"/v1/fleet/[a-z][a-z-]{0,63}")
ACTIVATE = b"/v1/fleet/activate-node"
NOT_ACTIVATED = {
    "code": int(ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED),
    "detail": "Failed to activate SuperNode.",
    "extra": "The coordinator's roster does not list this node's key, or the clocks differ by minutes.",
}
MAX_REQUEST_BYTES = 32 * 1_048_576
"""Flower cuts arrays into objects of 5 MiB; nothing that a node sends is larger than a few of them."""
MAX_HEAD_BYTES = 16_384
BODY_SECONDS = 60.0
"""Longest time between two pieces of a body."""
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=64)
DROPPED = frozenset({b"host", b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"})
BACKLOG = 256


class TooLarge(Exception):
    """A body is longer than anything that a node sends."""


class Gateway:
    """An ASGI application in front of one SuperLink; ``roster`` tells who is a member, ``pulls`` who waits."""

    def __init__(self, upstream: httpx.AsyncClient, roster: RosterWatch, doorkeeper: Doorkeeper, pulls: Pulls) -> None:
        self._upstream = upstream
        self._roster = roster
        self._doorkeeper = doorkeeper
        self._pulls = pulls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a node's request, and refuse everything else."""
        if scope["type"] != "http":
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope.get("raw_path") or b""
        if request.method != "POST" or request.scope["query_string"] or not FLEET_PATH.fullmatch(path):  # step 1
            return Response(status_code=404)
        if not self._is_member(request):  # step 2
            return _unknown(path)
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
            return Response(status_code=413, headers={"connection": "close"})
        if path != PULL:
            return await self._forward(request, path.decode("ascii"))  # step 4
        key = request.state.visit.key
        rings = await self._pulls.hold(key)  # step 3
        answer = await self._forward(request, path.decode("ascii"))
        self._pulls.answered(key, rings, empty=answer.headers.get("content-length") == "0")
        return answer

    def _is_member(self, request: Request) -> bool:
        """Tell whether a connection belongs to a member's node; its first signed request decides that."""
        visit: Visit = request.state.visit
        if visit.key is None:
            try:
                key = signed_by(request.headers, self._roster.now())
            except DuraError:  # without a roster there are no members
                key = None
            if key is None:
                return False
            self._doorkeeper.recognise(visit, key)
        return True

    async def _forward(self, request: Request, path: str) -> Response:
        headers = [(key, value) for key, value in request.headers.raw if key.lower() not in DROPPED]
        passed = self._upstream.build_request("POST", path, content=_pieces(request), headers=headers)
        try:
            answer = await self._upstream.send(passed, stream=True)
        except TooLarge:
            return Response(status_code=413, headers={"connection": "close"})
        except (ClientDisconnect, TimeoutError):
            return Response(status_code=408, headers={"connection": "close"})
        except httpx.HTTPError:
            return Response(status_code=503)
        kept = {key: value for key, value in answer.headers.items() if key.lower().encode() not in DROPPED}
        content, status = answer.aiter_raw(), answer.status_code
        return StreamingResponse(content, status, headers=kept, background=BackgroundTask(answer.aclose))


def _unknown(path: bytes) -> Response:
    """Answer a stranger. A node that is starting understands the first form and writes it to its log."""
    if path == ACTIVATE:
        return JSONResponse(NOT_ACTIVATED, status_code=412, headers={"connection": "close"})
    return Response(status_code=401, headers={"connection": "close"})


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the pieces of a body as they arrive.

    Raises:
        TooLarge: the body is longer than the limit.
        TimeoutError: nothing arrived for a minute.
    """
    total, pieces = 0, request.stream()
    while True:
        async with asyncio.timeout(BODY_SECONDS):
            piece = await anext(pieces, None)
        if piece is None:
            return
        total += len(piece)
        if total > MAX_REQUEST_BYTES:
            raise TooLarge
        yield piece


async def serve(home: CoordinatorHome) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = load_settings(home)
    doorkeeper, pulls = Doorkeeper(), Pulls(Bell(home.bell))
    pulls.listen()
    transport = httpx.AsyncHTTPTransport(uds=str(home.superlink_socket), limits=LIMITS)
    async with httpx.AsyncClient(base_url=f"http://{ADDRESS}", transport=transport, timeout=TIMEOUT) as upstream:
        config = uvicorn.Config(
            Gateway(upstream, RosterWatch(home), doorkeeper, pulls),
            http=VisitProtocol,
            ws="none",
            lifespan="off",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        config.load()
        server = _Server(config)

        def protocol(visit: Visit) -> VisitProtocol:
            state: dict[str, Any] = {"visit": visit}
            made = VisitProtocol(config, server.server_state, state)
            made.visit, made.doorkeeper = visit, doorkeeper
            return made

        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(home.keys / "server.pem", home.keys / "server.key")
        with listening(settings.bind, settings.port) as listener:
            door = asyncio.create_task(doorkeeper.open(listener, tls, protocol))
            server.at_the_end = [pulls.end, door.cancel]
            await server.serve(sockets=[])


class _Server(uvicorn.Server):
    """Before it waits for what is under way, it does what makes an end of that."""

    at_the_end: Sequence[Callable[[], object]] = ()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        for act in self.at_the_end:
            act()
        await super().shutdown(sockets)


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.create_server(address[:2], family=family, backlog=BACKLOG)
    listener.setblocking(False)
    return listener


def main(arguments: list[str]) -> None:
    """Serve until the process is stopped: HOME."""
    asyncio.run(serve(CoordinatorHome(Path(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])

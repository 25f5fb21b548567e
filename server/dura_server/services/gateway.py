"""The coordinator's only public door for Flower: it lets POST /v1/fleet/NAME through and nothing else.

The SuperLink serves hospitals, operators and its own helpers on one port, and its Control and Runtime APIs know
no user. So the SuperLink listens on a socket that only its own account may open, and this gateway forwards exactly the
requests that a node makes. The path is compared as it came over the wire, before anybody decodes it.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dura_common.runtime.sockets import ADDRESS
from dura_server.consortium.enrolment import load_settings
from dura_server.home import CoordinatorHome

FLEET_PATH = re.compile(rb"/v1/fleet/[a-z][a-z-]{0,63}")
MAX_REQUEST_BYTES = 32 * 1_048_576
"""Flower cuts arrays into objects of 5 MiB; nothing that a node sends is larger than a few of them."""
TIMEOUT = httpx.Timeout(60.0, connect=5.0)
DROPPED = frozenset({b"host", b"connection", b"transfer-encoding", b"content-length", b"keep-alive", b"upgrade"})


class Gateway:
    """An ASGI application in front of one SuperLink."""

    def __init__(self, upstream: httpx.AsyncClient) -> None:
        self._upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a node's request, answer 404 to everything else without telling why."""
        if scope["type"] != "http":
            return
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope.get("raw_path") or b""
        if request.method != "POST" or request.scope["query_string"] or not FLEET_PATH.fullmatch(path):
            return Response(status_code=404)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return Response(status_code=413)
        headers = [(key, value) for key, value in request.headers.raw if key.lower() not in DROPPED]
        try:
            answer = await self._upstream.post(path.decode("ascii"), content=bytes(body), headers=headers)
        except httpx.HTTPError:
            return Response(status_code=503)
        kept = {key: value for key, value in answer.headers.items() if key.lower().encode() not in DROPPED}
        kept.pop("content-encoding", None)  # httpx has decoded the body
        return Response(answer.content, status_code=answer.status_code, headers=kept)


def build(home: CoordinatorHome) -> Starlette:
    """Return the application for one coordinator."""
    transport = httpx.AsyncHTTPTransport(uds=str(home.superlink_socket))
    upstream = httpx.AsyncClient(base_url=f"http://{ADDRESS}", transport=transport, timeout=TIMEOUT)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await upstream.aclose()

    app = Starlette(lifespan=lifespan)
    app.mount("/", Gateway(upstream))
    return app


def main(arguments: list[str]) -> None:
    """Serve until the process is stopped: HOME."""
    home = CoordinatorHome(Path(arguments[0]))
    settings = load_settings(home)
    config = uvicorn.Config(
        build(home),
        host=settings.bind,
        port=settings.port,
        ssl_certfile=str(home.keys / "server.pem"),
        ssl_keyfile=str(home.keys / "server.key"),
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main(sys.argv[1:])

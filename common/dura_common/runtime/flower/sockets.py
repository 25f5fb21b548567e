"""Flower's servers and clients on Unix sockets that only this account may open (flwr 1.41.0, pinned exactly).

Flower serves nodes, operators and its own helpers on one TCP port, and does not authenticate operators. Flower has no
setting for a Unix socket. So this module replaces Flower's references to uvicorn, its server, and to httpx, its client;
nothing else of Flower is changed. A contract test starts all of Flower's processes, so that it fails where another
version of Flower works differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

import httpx
import uvicorn
from flwr.supercore.protobuf import client as flower_client
from flwr.supercore.protobuf.client import ProtobufClient, ProtobufClientInterceptor
from flwr.supercore.retry import RetryInvoker

from dura_common.runtime.sockets import ADDRESS, listen

SECONDS = 30.0
REPLACED = frozenset({"host", "port", "ssl_keyfile", "ssl_certfile"})

Client = TypeVar("Client", bound=ProtobufClient)


def serve_at(command: ModuleType, path: Path) -> None:
    """Make the module of one of Flower's commands serve on a socket, without TLS, instead of on a port."""
    listener = listen(path)

    def instead(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(**settings: Any) -> Any:
            kept = {name: value for name, value in settings.items() if name not in REPLACED}
            return make(fd=listener.fileno(), **kept)

        return made

    namespace = SimpleNamespace(run=instead(uvicorn.run), Config=instead(uvicorn.Config), Server=uvicorn.Server)
    command.uvicorn = namespace  # type: ignore[attr-defined]  # a namespace in place of the module


def client_at(
    kind: type[Client],
    path: Path,
    *,
    interceptors: Sequence[ProtobufClientInterceptor],
    retry_invoker: RetryInvoker | None = None,
) -> Client:
    """Return one of Flower's clients, connected to a socket. It uses no proxy."""
    address = f"http://{ADDRESS}"
    client = kind(address, interceptors=interceptors, verify=False, retry_invoker=retry_invoker)
    client._client.close()  # noqa: SLF001  # Flower has no setting for it
    client._client = _client(path)  # noqa: SLF001  # idem
    return client


def ask_everything_at(path: Path) -> None:
    """Make every client that Flower creates in this process connect to a socket."""
    namespace = SimpleNamespace(**{name: getattr(httpx, name) for name in httpx.__all__})
    namespace.Client = lambda **_settings: _client(path)
    flower_client.httpx = namespace  # type: ignore[attr-defined,assignment]  # a namespace in place of the module


def _client(path: Path) -> httpx.Client:
    # There is no TLS, so there is no certificate to verify. httpx would load all public authorities: 25 ms a client.
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), timeout=SECONDS)

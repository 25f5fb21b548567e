"""Flower's servers and clients at Unix sockets of this account (flwr 1.41.0, pinned exactly).

Flower serves nodes, operators and its own helpers on one TCP port, and asks operators for nothing. It has no setting
for a Unix socket, so its references to uvicorn and httpx, with which it serves and asks, are replaced; nothing else of
it is changed. A contract test starts all of it, so that another version fails loudly.
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
    """Let the module of one of Flower's commands serve at a socket, without TLS, in place of its port."""
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
    """Return one of Flower's clients, which asks at a socket. No proxy comes between."""
    address = f"http://{ADDRESS}"
    client = kind(address, interceptors=interceptors, verify=False, retry_invoker=retry_invoker)
    client._client.close()  # noqa: SLF001  # Flower has no setting for it
    client._client = _client(path)  # noqa: SLF001  # idem
    return client


def ask_everything_at(path: Path) -> None:
    """Let every client that Flower makes in this process ask at a socket."""
    namespace = SimpleNamespace(**{name: getattr(httpx, name) for name in httpx.__all__})
    namespace.Client = lambda **_settings: _client(path)
    flower_client.httpx = namespace  # type: ignore[attr-defined,assignment]  # a namespace in place of the module


def _client(path: Path) -> httpx.Client:
    # Without TLS nothing is verified; httpx would load all public authorities, 25 ms for each client.
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(path), verify=False), timeout=SECONDS)

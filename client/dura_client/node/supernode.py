"""``python -m dura_client.node.supernode SOCKET ...``: Flower's SuperNode as dura starts it.

It serves its tasks at a Unix socket instead of a port, waits for less long where it is idle, and keeps no more than a
hospital can bear, whatever the coordinator answers: Flower bounds nothing of it. Flower (1.41.0, pinned exactly) has no
settings for all this, so references of its modules to other modules are replaced, and nothing else of it is changed.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx

from dura_common.runtime.flower_sockets import serve_at

log = logging.getLogger(__name__)

SHORTEST_IDLE = 0.2
MAX_ANSWER_BYTES = 32 << 20
"""Flower cuts arrays into objects of 5 MiB."""
MAX_MESSAGE_BYTES = 700 << 20
"""All objects of one message: a model of 150 million parameters with two moments, and what goes with it."""
MAX_OBJECTS = 2_000
MAX_BUNDLE_BYTES = 1 << 20
"""Of an app bundle, which is kept although nobody reads it; dura's has 500 bytes."""
REMEMBERED = {
    "run_store": 256,
    "run_series_context_store": 256,
    "fab_store": 16,
    "time_store": 4096,
    "task_store": 1024,
}
"""Entries of the tables that Flower never empties."""


class TooMuch(Exception):
    """The coordinator sends more than a coordinator would; what it sent is dropped."""


class _Bounded(httpx.SyncByteStream):
    """The body of an answer, up to a size."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        total = 0
        for piece in self._stream:
            total += len(piece)
            if total > MAX_ANSWER_BYTES:
                raise TooMuch(f"an answer has more than {MAX_ANSWER_BYTES} bytes")
            yield piece

    def close(self) -> None:
        """End the answer."""
        self._stream.close()


def bound_answer(response: httpx.Response) -> None:
    """Let the body of an answer come up to a size; one that would have to be unpacked does not come at all.

    Raises:
        TooMuch: it is packed: a few bytes could become gigabytes.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TooMuch("an answer is packed")
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Bounded(response.stream)


def bounded_pull(real: Callable[..., dict[str, bytes]], most: int = MAX_MESSAGE_BYTES) -> Callable[..., Any]:
    """Return Flower's function that pulls the objects of a message, up to a number and a size of all together."""

    def pull_objects(ids: list[str], pull_object_fn: Callable[[str], bytes], **settings: Any) -> dict[str, bytes]:
        if len(ids) > MAX_OBJECTS:
            raise TooMuch(f"a message has {len(ids)} objects; at most {MAX_OBJECTS} are expected")
        total, lock = 0, threading.Lock()

        def pull(identifier: str) -> bytes:
            nonlocal total
            content = pull_object_fn(identifier)
            with lock:
                total += len(content)
                if total > most:
                    raise TooMuch(f"a message has more than {most} bytes")
            return content

        return real(ids, pull_object_fn=pull, **settings)

    return pull_objects


class Recent(dict[Any, Any]):
    """A table that forgets its oldest entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        while len(self) > self._most:
            del self[next(iter(self))]


def bound_state(state: Any) -> None:
    """Let the tables of Flower's state forget their oldest entries, and refuse large bundles."""
    for name, most in REMEMBERED.items():
        setattr(state, name, Recent(most))
    keep = state.store_fab

    def store_fab(bundle: Any) -> str:
        if len(bundle.content) > MAX_BUNDLE_BYTES:
            raise TooMuch(f"an app bundle has more than {MAX_BUNDLE_BYTES} bytes")
        return str(keep(bundle))

    state.store_fab = store_fab


def _bound(client: Any) -> None:
    """Replace what Flower's client module calls; its clients also follow no other address than the coordinator's."""
    namespace = SimpleNamespace(**{name: getattr(httpx, name) for name in httpx.__all__})
    hooks = {"response": [bound_answer]}
    namespace.Client = lambda **given: httpx.Client(**{**given, "follow_redirects": False, "event_hooks": hooks})
    import_module("flwr.supercore.protobuf.client").httpx = namespace  # type: ignore[attr-defined]  # in place of httpx
    client.pull_objects = bounded_pull(client.pull_objects)
    pull_message = client._pull_and_store_message  # noqa: SLF001  # Flower has no setting for it

    def pull_one(**given: Any) -> Any:
        """One message is served at a time, so what is left of those before is left for ever."""
        if not given["state"].get_messages_legacy():
            given["object_store"].clear()
        try:
            return pull_message(**given)
        except TooMuch as error:
            log.warning("a message of the coordinator was dropped: %s", error)
            return None

    client._pull_and_store_message = pull_one  # noqa: SLF001  # idem


def _hurry(client: Any) -> None:
    """Cut idle sleeps of 3 s and 0.5 s to 0.2 s: a round costs seconds less."""
    shortened = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("__")})
    shortened.sleep = lambda seconds: time.sleep(min(seconds, SHORTEST_IDLE))
    client.time = shortened


def run_supernode(socket: Path) -> None:
    """Run the SuperNode until it is stopped; Flower reads the rest of the command line."""
    command: Any = import_module("flwr.supernode.cli.flower_supernode")
    client: Any = import_module("flwr.supernode.start_client_internal")
    serve_at(command, socket)
    _hurry(client)
    _bound(client)
    make = command.NodeStateFactory

    def bounded(**given: Any) -> Any:
        factory = make(**given)
        bound_state(factory.state())
        return factory

    command.NodeStateFactory = bounded
    command.flower_supernode()


if __name__ == "__main__":
    run_supernode(Path(sys.argv.pop(1)))

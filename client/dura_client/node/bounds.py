"""Bounds on what a node keeps of what its coordinator sends; Flower (1.41.0, pinned exactly) has none.

Flower has no settings for this, so names in its modules are replaced, as in
:mod:`~dura_client.node.supernode_adapter`:

- an answer has a largest size, and a compressed answer is refused: a few bytes could become gigabytes;
- all objects of a message together have a largest size, and so has an app bundle; tables forget their oldest entries;
- what is left of messages that were served is dropped before the next message is fetched;
- the node follows no redirection, which could lead to servers inside the hospital.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
from flwr.supercore.protobuf import client as flower_client
from flwr.supernode import start_client_internal

from dura_common.runtime.flower.waits import override

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 32 << 20
"""Flower cuts arrays into objects of 5 MiB."""
MAX_MESSAGE_BYTES = 700 << 20
"""All objects of one message: a model of 150 million parameters with two moments, and what goes with it."""
MAX_OBJECTS = 2_000
MAX_BUNDLE_BYTES = 1 << 20
"""Largest app bundle. Flower keeps the bundle although nobody reads it; that of dura has 500 bytes."""
PULL = "_pull_and_store_message"
REMEMBERED = {
    "run_store": 256,
    "run_series_context_store": 256,
    "fab_store": 16,
    "time_store": 4096,
    "task_store": 1024,
}
"""Most entries of the tables that Flower never empties."""


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
    """Bound the size of an answer's body, and refuse a compressed body.

    Raises:
        TooMuch: the body is compressed: a few bytes could become gigabytes.
    """
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TooMuch("an answer is compressed")
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Bounded(response.stream)


def bounded_pull(real: Callable[..., dict[str, bytes]], most: int = MAX_MESSAGE_BYTES) -> Callable[..., Any]:
    """Return Flower's function that pulls the objects of a message, with bounds on their number and total size."""

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
    """Make the tables of Flower's state forget their oldest entries and refuse large bundles."""
    for name, most in REMEMBERED.items():
        setattr(state, name, Recent(most))
    keep = state.store_fab

    def store_fab(bundle: Any) -> str:
        if len(bundle.content) > MAX_BUNDLE_BYTES:
            raise TooMuch(f"an app bundle has more than {MAX_BUNDLE_BYTES} bytes")
        return str(keep(bundle))

    state.store_fab = store_fab


def bound(command: Any) -> None:
    """Bound what the SuperNode of this process keeps; ``command`` is the module of Flower's command."""
    namespace = SimpleNamespace(**{name: getattr(httpx, name) for name in httpx.__all__})
    hooks = {"response": [bound_answer]}
    namespace.Client = lambda **given: httpx.Client(**{**given, "follow_redirects": False, "event_hooks": hooks})
    override(flower_client, "httpx", namespace)
    client: Any = start_client_internal
    override(client, "pull_objects", bounded_pull(client.pull_objects))
    override(client, PULL, _one(getattr(client, PULL)))
    override(command, "NodeStateFactory", _bounded_factory(command.NodeStateFactory))


def _one(pull_message: Callable[..., Any]) -> Callable[..., Any]:
    """Drop what is left of messages that were served, and messages that are too large."""

    def pull_one(**given: Any) -> Any:
        if not given["state"].get_messages_legacy():
            given["object_store"].clear()
        try:
            return pull_message(**given)
        except TooMuch as error:
            log.warning("a message of the coordinator was dropped: %s", error)
            return None

    return pull_one


def _bounded_factory(make: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(**given: Any) -> Any:
        factory = make(**given)
        bound_state(factory.state())
        return factory

    return bounded

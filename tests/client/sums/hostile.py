"""A coordinator with the real certificate that says what a script tells it, and the sites beside it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.plane.service import SITES, Plane, vector_of
from tests.support.plane.stream import identity_of

from dura_client.sums.session import Patience, Redraw, SumSession
from dura_common.errors import DuraError
from dura_common.messages.proto.aggregation_pb2 import Begin, FromSite, ToSite
from dura_common.secagg import SessionParameters, open_coordinator, open_site
from dura_common.sums.attempts import Attempt, LastSum, Series, attempt_parameters, encode_values
from dura_common.sums.plane import pieces

SHORT = Patience(join=3.0, step=3.0, rejoin=1.0)


@dataclass
class Hostile:
    """A coordinator with the real certificate that says what a script tells it; hears everything."""

    plane: Plane
    script: Callable[[Hostile], Iterable[ToSite]]
    heard: list[FromSite] = field(default_factory=list)
    frames: queue.SimpleQueue[bytes] = field(default_factory=queue.SimpleQueue)

    def __enter__(self) -> Self:
        keys = self.plane.coordinator.keys
        pair = ((keys / "server.key").read_bytes(), (keys / "server.pem").read_bytes())
        credentials = grpc.ssl_server_credentials([pair], (keys / "clients.pem").read_bytes(), True)
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods = {
            "Attend": grpc.stream_stream_rpc_method_handler(self._attend, FromSite.FromString, ToSite.SerializeToString)
        }
        service = grpc.method_handlers_generic_handler("dura.aggregation.v1.Aggregation", methods)
        self._server.add_generic_rpc_handlers((service,))
        self.address = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0)

    def _attend(self, requests: Iterator[FromSite], _context: Any) -> Iterator[ToSite]:
        self.heard.append(next(requests))

        def hear() -> None:
            with suppress(grpc.RpcError):  # the site went without a word
                for message in requests:
                    self.heard.append(message)
                    if message.WhichOneof("kind") == "piece":
                        self.frames.put(message.piece.data)

        threading.Thread(target=hear, daemon=True).start()
        yield from self.script(self)

    def sent(self) -> list[FromSite]:
        """Return what came after the Hellos."""
        return [message for message in self.heard if message.WhichOneof("kind") != "hello"]


def begin(number: int = 1, members: Iterable[str] = SITES, **more: Any) -> ToSite:
    """Return a Begin as an honest coordinator would say it, but for the changes."""
    return ToSite(begin=Begin(attempt=number, members=list(members), **more))


def frame(number: int, content: bytes) -> Iterator[ToSite]:
    """Return a frame in pieces."""
    return pieces(content, number, ToSite)


def take_part(plane: Plane, hostile: Hostile, params: SessionParameters, **options: Any) -> DuraError:
    """Let the north take part with a hostile coordinator and return how it ended."""
    options = {"patience": SHORT, "address": hostile.address, **options}
    with SumSession(plane.site("north"), params, **options) as sums:
        try:
            for step in range(1, params.steps + 1):
                sums.step(vector_of("north", step, params.length))
        except DuraError as error:
            return error
    return pytest.fail("a session with a hostile coordinator came to its end")


LONG = 100


KEYS_BYTES = 4 * LONG
"""A frame of keys is smaller than this, a masked vector of the test's length is not."""


PLAIN_SUM = encode_values(np.arange(LONG))


class Accomplices:
    """The coordinator's side of an attempt with two other sites, all driven by the hostile script."""

    def __init__(self, plane: Plane, params: SessionParameters, attempt: Attempt, last: LastSum | None = None) -> None:
        inner = attempt_parameters(Series.of(params), attempt, last)
        self.coordinator = open_coordinator(inner)
        others = [name for name in attempt.members if name != "north"]
        self.sites = {name: open_site(inner, name, identity_of(plane, name)) for name in others}
        self.attempt = attempt
        self.replies: dict[str, bytes] = {}
        """What the others answer to the keys: their shares, in a round sum."""

    def agree(self, hostile: Hostile) -> Iterator[ToSite]:
        """Go through the keys."""
        progress = self.coordinator.receive("north", hostile.frames.get(timeout=5))
        for name, site in self.sites.items():
            progress = self.coordinator.receive(name, site.advertise())
        for name, site in self.sites.items():
            self.replies[name] = site.receive(progress.outgoing[name]).reply or b""
        yield from frame(self.attempt.number, progress.outgoing["north"])

    def open(self, masked: bytes, step: int, length: int) -> tuple[bytes, np.ndarray]:
        """Add the others' vectors and return (frame for the north, sum)."""
        progress = self.coordinator.receive("north", masked)
        for name, site in self.sites.items():
            progress = self.coordinator.receive(name, site.mask(vector_of(name, step, length)))
        assert progress.opened is not None
        return progress.outgoing["north"], progress.opened.total


def run_site(plane: Plane, name: str, params: SessionParameters, address: str | None = None) -> None:
    """Be an honest site, which draws afresh after a loss."""

    def redraw(wanted: Redraw) -> NDArray[np.int64]:
        return vector_of(name, wanted.step, params.length, wanted.draw)

    with SumSession(plane.site(name), params, address=address, redraw=redraw) as sums:
        for step in range(1, params.steps + 1):
            sums.step(vector_of(name, step, params.length))

"""What a hostile coordinator can make a site keep, and pay, by saying things often."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import numpy as np
from tests.client.sums.hostile import Accomplices, Hostile, begin, frame, take_part
from tests.support.plane.service import SITES, Plane, vector_of
from tests.support.processes import wait_until

from dura_client.sums.link import WAITING_EVENTS
from dura_client.sums.session import Redraw
from dura_common.messages.proto.aggregation_pb2 import ToSite
from dura_common.secagg import Opened
from dura_common.sums.attempts import Attempt

LARGE = 250_000
FRAMES = 120


class Busy:
    """A site that is held up in the middle of a session: its ledger's disk is slow, for instance."""

    def __init__(self) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()

    def note(self, members: tuple[str, ...]) -> bytes:
        """Wait."""
        del members
        self.arrived.set()
        assert self.go_on.wait(60)
        return bytes(128)

    def heard(self, members: tuple[str, ...], notes: Mapping[str, bytes]) -> None:
        """Judge nothing."""

    def opened(self, opened: Opened) -> None:
        """Take note of nothing."""


def test_frames_for_a_busy_site_wait_at_the_coordinator(plane: Plane) -> None:
    """While the site is busy a few frames of a megabyte come in, however many are sent; the rest is never accepted."""
    params = plane.params(length=LARGE)
    busy, passed = Busy(), []

    def script(_hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1)
        for number in range(FRAMES):
            passed.append(number)
            yield from frame(1, bytes(4 * LARGE))

    def flood(hostile: Hostile) -> None:
        take_part(plane, hostile, params, peers=busy)

    with Hostile(plane, script) as hostile:
        site = threading.Thread(target=flood, args=(hostile,))
        site.start()
        assert busy.arrived.wait(20)
        wait_until(lambda: len(passed) > WAITING_EVENTS, "frames come in")
        seen = -1
        while seen != len(passed):  # until nothing moves any more
            seen = len(passed)
            threading.Event().wait(1.0)
        busy.go_on.set()
        site.join(60)
    assert not site.is_alive()
    assert WAITING_EVENTS < seen < WAITING_EVENTS + 8  # what waits here, and what lies in the buffers of gRPC


def test_beginning_again_and_again_costs_one_draw(plane: Plane) -> None:
    """Each Begin after a vector left could ask for another draw; only the first does, until a vector leaves again."""
    params = plane.params()
    asked: list[Redraw] = []
    drawn = threading.Event()

    def redraw(need: Redraw) -> np.ndarray:
        asked.append(need)
        drawn.set()
        return vector_of("north", need.step, params.length, need.draw)

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1)
        yield from Accomplices(plane, params, Attempt(1, SITES, 0, 0)).agree(hostile)
        hostile.frames.get(timeout=5)  # a vector has left
        for number in range(2, 400):
            yield begin(number, draw=number - 1)
            hostile.frames.get(timeout=5)  # fresh keys
            if number == 200:
                assert drawn.wait(10)
        yield begin(5000)
        wait_until(lambda: any(m.WhichOneof("kind") == "leave" for m in hostile.heard), "the site leaves", 20)

    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, params, redraw=redraw)
    assert "expected an attempt" in error.message
    assert [need.draw for need in asked] == [1]

"""The site's side of a secure sum: what a hostile coordinator can say to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.client.sums.hostile import KEYS_BYTES, LONG, SHORT, Accomplices, Hostile, begin, frame, take_part
from tests.support.plane.service import SITES, Plane, vector_of
from tests.support.processes import wait_until

from dura_client.sums.session import FreshDrawNeeded, Redraw, SumFailed, SumSession
from dura_common.errors import DuraError, StateError, TrustError
from dura_common.messages.proto.aggregation_pb2 import End, Piece, Reason, ToSite
from dura_common.secagg import Kind
from dura_common.sums.attempts import Attempt
from dura_common.sums.plane import PIECE_BYTES

HOSTILE_BEGINNINGS: dict[str, tuple[list[ToSite], str]] = {
    "attempt-zero": ([begin(0)], "expected an attempt"),
    "attempt-again": ([begin(2), begin(2)], "expected an attempt"),
    "attempt-back": ([begin(2), begin(1)], "expected an attempt"),
    "attempts-without-end": ([begin(1001)], "expected an attempt"),
    "ahead": ([begin(opened=1)], "begins after 1"),
    "far-ahead": ([begin(opened=2)], "begins after 2"),
    "without-me": ([begin(members=("east", "south"))], "members of the attempt"),
    "unsorted": ([begin(members=("south", "north", "east"))], "members of the attempt"),
    "twice": ([begin(members=("east", "north", "north"))], "members of the attempt"),
    "alone": ([begin(members=("north",))], "does not fit"),
    "stranger": ([begin(members=("east", "north", "stranger"))], "does not fit"),
    "nobody": ([begin(members=())], "members of the attempt"),
    "draw-back": ([begin(1, draw=3), begin(2, draw=2)], "expected a draw"),
    "frame-first": ([*frame(1, b"x")], "belongs to no attempt"),
    "frame-of-another-attempt": ([begin(1), *frame(2, b"x")], "belongs to no attempt"),
    "garbage": ([begin(), *frame(1, bytes(range(120)))], ""),
    "empty": ([begin(), *frame(1, b"")], ""),
}


@pytest.mark.parametrize("name", HOSTILE_BEGINNINGS)
def test_what_a_hostile_coordinator_cannot_begin(plane: Plane, name: str) -> None:
    """Each is refused before a vector leaves; the site says in one word that the protocol was broken."""
    messages, reason = HOSTILE_BEGINNINGS[name]

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield from messages
        wait_until(lambda: any(m.WhichOneof("kind") == "leave" for m in hostile.heard), "the site leaves", 5)

    params = plane.params(steps=5, length=LONG)
    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, params)
        assert isinstance(error, TrustError)
        assert reason in error.message
        wait_until(lambda: hostile.sent()[-1:] and hostile.sent()[-1].WhichOneof("kind") == "leave", "it left")
    *rest, last = hostile.sent()
    assert last.leave.reason == Reason.PROTOCOL
    assert all(len(message.piece.data) < KEYS_BYTES for message in rest)
    assert len(rest) <= len([m for m in messages if m.WhichOneof("kind") == "begin"])  # fresh public keys at most


@pytest.mark.parametrize(
    "pieces_sent",
    [
        [Piece(attempt=1, data=bytes(PIECE_BYTES), last=False)] * 3,
        [Piece(attempt=1, data=b"x", last=False)],
        [Piece(attempt=1, data=bytes(5000), last=True)],
    ],
    ids=["oversized", "drip", "too-large-for-the-study"],
)
def test_frames_that_no_coordinator_would_send(plane: Plane, pieces_sent: list[Piece]) -> None:
    """A frame beyond the study's size ends the stream; the site tries again, and then gives up."""

    def script(_hostile: Hostile) -> Iterator[ToSite]:
        yield begin()
        for piece in pieces_sent:
            yield ToSite(piece=piece)
        threading.Event().wait(2)

    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, plane.params(length=LONG))
    assert isinstance(error, DuraError)
    assert all(len(message.piece.data) < KEYS_BYTES for message in hostile.sent())


def test_the_same_vector_only_to_the_same_sites(plane: Plane) -> None:
    """Asked again in a smaller circle, under the same draw, the site refuses: nothing was sent a second time."""
    params = plane.params()

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1)
        yield from Accomplices(plane, params, Attempt(1, SITES, 0, 0)).agree(hostile)
        hostile.frames.get(timeout=5)  # the masked vector
        yield begin(2, members=("east", "north"))
        wait_until(lambda: any(m.WhichOneof("kind") == "leave" for m in hostile.heard), "the site leaves", 5)

    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, params)
    assert "expected a draw from 1 on" in error.message
    assert hostile.frames.empty()


def test_the_same_round_vector_never_again(plane: Plane) -> None:
    """A round sum names its survivors late, so even the same sites get no second upload of the same draw."""
    params = plane.params(kind=Kind.ROUND)

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1)
        others = Accomplices(plane, params, Attempt(1, SITES, 0, 0))
        yield from others.agree(hostile)
        progress = others.coordinator.receive("north", hostile.frames.get(timeout=5))
        for name in others.sites:
            progress = others.coordinator.receive(name, others.replies[name])
        yield from frame(1, progress.outgoing["north"])
        hostile.frames.get(timeout=5)  # the masked vector
        yield begin(2)
        wait_until(lambda: any(m.WhichOneof("kind") == "leave" for m in hostile.heard), "the site leaves", 5)

    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, params)
    assert "expected a draw from 1 on" in error.message
    assert hostile.frames.empty()


def test_a_fresh_draw_is_asked_of_the_caller(plane: Plane) -> None:
    """With the next draw the caller is asked, told the members, and its new vector goes; never the old one."""
    params = plane.params()
    asked: list[Redraw] = []
    opened: list[np.ndarray] = []

    def redraw(need: Redraw) -> np.ndarray:
        asked.append(need)
        return vector_of("north", need.step, params.length, need.draw)

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1)
        yield from Accomplices(plane, params, Attempt(1, SITES, 0, 0)).agree(hostile)
        hostile.frames.get(timeout=5)
        second = Accomplices(plane, params, Attempt(2, ("east", "north"), 0, 1))
        yield begin(2, members=("east", "north"), draw=1)
        yield from second.agree(hostile)
        content, total = second.open(hostile.frames.get(timeout=5), 1, params.length)
        opened.append(total)
        yield from frame(2, content)
        threading.Event().wait(0.5)

    with Hostile(plane, script) as hostile:
        options = {"patience": SHORT, "address": hostile.address, "redraw": redraw}
        with SumSession(plane.site("north"), params, **options) as sums:
            result = sums.step(vector_of("north", 1, params.length))
    assert asked == [Redraw(1, 1, ("east", "north"))]
    fresh = vector_of("north", 1, params.length, 1) + vector_of("east", 1, params.length)
    assert np.array_equal(result.total, fresh)
    assert np.array_equal(opened[0], fresh)
    assert result.contributors == ("east", "north")


@pytest.mark.parametrize("with_redraw", [False, True])
def test_a_fresh_draw_that_the_caller_does_not_give(plane: Plane, with_redraw: bool) -> None:
    """Without a redraw, or if the ledger refuses, the session ends and nothing more is sent."""
    params = plane.params()

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1)
        yield from Accomplices(plane, params, Attempt(1, SITES, 0, 0)).agree(hostile)
        hostile.frames.get(timeout=5)
        yield begin(2, members=("east", "north"), draw=1)
        wait_until(lambda: any(m.WhichOneof("kind") == "leave" for m in hostile.heard), "the site leaves", 5)

    def refuse(_need: Redraw) -> np.ndarray:
        raise StateError("the ledger refuses")

    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, params, redraw=refuse if with_redraw else None)
    assert isinstance(error, StateError if with_redraw else FreshDrawNeeded)
    assert hostile.frames.qsize() <= 1  # fresh public keys, no vector


@pytest.mark.parametrize("reason", [Reason.TOO_FEW_SITES, Reason.CANCELLED, Reason.NOT_A_MEMBER, Reason.FINISHED])
def test_the_coordinators_last_word(plane: Plane, reason: Reason) -> None:
    """Whatever the word, a session that did not open its sums has failed, also if it claims to have finished."""
    with Hostile(plane, lambda _: iter([ToSite(end=End(reason=reason))])) as hostile:
        error = take_part(plane, hostile, plane.params())
    assert isinstance(error, SumFailed)
    assert error.word == Reason.Name(reason)


def test_a_word_that_is_unknown(plane: Plane) -> None:
    """A number outside the list is a broken protocol."""
    end = End()
    end.reason = 99  # type: ignore[assignment]  # what a newer or hostile coordinator could send
    with Hostile(plane, lambda _: iter([ToSite(end=end)])) as hostile:
        error = take_part(plane, hostile, plane.params())
    assert isinstance(error, SumFailed)
    assert error.word == "PROTOCOL"


def test_a_coordinator_that_says_nothing(plane: Plane) -> None:
    """Patience is bounded while nobody else comes, and after the site's own vector was sent."""
    with Hostile(plane, lambda _: iter(threading.Event().wait, False)) as hostile:  # type: ignore[arg-type]  # blocks
        error = take_part(plane, hostile, plane.params(), patience=replace(SHORT, join=1.0))
    assert isinstance(error, SumFailed)
    assert "did not come" in error.message

"""Attacks on the aggregation plane from the network: what a stream may send."""

from __future__ import annotations

import contextlib
import time

import grpc
import numpy as np
import pytest
from tests.attacks.plane.intruders import begun, honest, stream
from tests.support.plane.service import QUICK, SITES, Plane, expected
from tests.support.plane.stream import Stream, identity_of, own

from dura_common.messages.proto.aggregation_pb2 import FromSite, Hello, Leave, Piece, Reason
from dura_common.sums.plane import HELLO_BYTES, MESSAGE_BYTES, PIECE_BYTES
from dura_server.sums.client import open_session


@pytest.mark.parametrize(
    "message",
    [
        FromSite(),
        FromSite(piece=Piece(attempt=1, data=b"x", last=True)),
        FromSite(leave=Leave(reason=Reason.FINISHED)),
        FromSite(hello=Hello(binding=bytes(HELLO_BYTES))),
    ],
    ids=["nothing", "piece", "leave", "too-large"],
)
def test_streams_that_begin_with_no_hello(plane: Plane, message: FromSite) -> None:
    """Only a Hello of a sensible size opens a stream."""
    with stream(plane, own(plane, "north")) as made:
        made.outgoing.put(message)
        assert made.refusal() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_beyond_grpcs_limit(plane: Plane) -> None:
    """No message larger than one piece is ever taken into memory."""
    with stream(plane, own(plane, "north")) as made:
        made.outgoing.put(FromSite(hello=Hello(binding=bytes(MESSAGE_BYTES))))
        assert made.refusal() == grpc.StatusCode.RESOURCE_EXHAUSTED


HOSTILE_FRAMES = {
    "oversized": [Piece(attempt=1, data=bytes(10_000), last=True)],
    "oversized-in-pieces": [Piece(attempt=1, data=bytes(PIECE_BYTES), last=False)],
    "drip": [Piece(attempt=1, data=b"x", last=False)],
    "truncated": [Piece(attempt=1, data=bytes(40), last=True)],
    "empty": [Piece(attempt=1, data=b"", last=True)],
    "garbage": [Piece(attempt=1, data=bytes(range(200)), last=True)],
}


@pytest.mark.parametrize("name", HOSTILE_FRAMES)
def test_frames_that_no_site_would_send(plane: Plane, name: str) -> None:
    """The sender is out of the session, and the others have their sum without it."""
    params = plane.params(number=100 + list(HOSTILE_FRAMES).index(name))
    others = ("east", "north")
    with honest(plane, params, others), open_session(plane.coordinator, params, QUICK) as session:
        made, _ = begun(plane, "south", params)
        for piece in HOSTILE_FRAMES[name]:
            made.outgoing.put(FromSite(piece=piece))
        (opened,) = list(session)
        made.close()
    assert opened.contributors == others
    assert np.array_equal(opened.values, expected(others, 1, params.length))


def test_a_frame_cut_off_by_a_lost_connection(plane: Plane) -> None:
    """Half a frame is nothing: its sender counts as lost, the others go on."""
    params = plane.params(number=120, length=700_000)
    others = ("east", "north")
    with honest(plane, params, others), open_session(plane.coordinator, params, QUICK) as session:
        made, _ = begun(plane, "south", params)
        made.outgoing.put(FromSite(piece=Piece(attempt=1, data=bytes(PIECE_BYTES), last=False)))
        time.sleep(0.2)
        made.call.cancel()
        made.channel.close()
        (opened,) = list(session)
    assert opened.contributors == others


@pytest.mark.full  # on a machine with no processor to spare a stream can be taken for a dead one and be replaced
def test_frames_of_another_attempt_are_ignored(plane: Plane) -> None:
    """What was on its way when an attempt ended changes nothing in the next one."""
    params = plane.params(number=121)
    with open_session(plane.coordinator, params, QUICK) as session, honest(plane, params):
        made = Stream(plane, own(plane, "north"))
        made.hello(params, identity_of(plane, "north"))
        with contextlib.suppress(StopIteration, grpc.RpcError):
            for _ in range(50):
                made.outgoing.put(FromSite(piece=Piece(attempt=77, data=b"late", last=True)))
            made.answer()
        made.close()
        (opened,) = list(session)
    assert opened.contributors == SITES

"""The site's side of a secure sum: what a hostile coordinator can say to it, and what a caller learns."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import grpc
import numpy as np
import pytest
from tests.plane import QUICK, SITES, Plane, expected, vector_of, wait_until
from tests.plane_stream import identity_of
from tests.relays import ConnectProxy, Relay

from dura_client.consortium import enrolment
from dura_client.sums.driver import _Vector
from dura_client.sums.link import Frame
from dura_client.sums.session import Endpoint, FreshDrawNeeded, Patience, Redraw, SumFailed, SumSession
from dura_common.errors import DuraError, StateError, TrustError
from dura_common.messages.proto.aggregation_pb2 import Begin, End, FromSite, Piece, Reason, ToSite
from dura_common.secagg import Abort, Kind, SessionParameters, open_coordinator, open_site
from dura_common.sums.attempts import Attempt, LastSum, Series, attempt_parameters, encode_values
from dura_common.sums.plane import PIECE_BYTES, pieces
from dura_server.sums.client import open_session

SHORT = Patience(join=3.0, step=3.0, rejoin=1.0)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Return a running service of three hospitals."""
    made = Plane(tmp_path_factory.mktemp("s"))
    made.make()
    made.start()
    try:
        yield made
    finally:
        made.stop()


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
    for piece in pieces(content, number):
        yield ToSite(piece=piece)


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

HOSTILE_BEGINNINGS: dict[str, tuple[list[ToSite], str]] = {
    "attempt-zero": ([begin(0)], "expected an attempt"),
    "attempt-again": ([begin(2), begin(2)], "expected an attempt"),
    "attempt-back": ([begin(2), begin(1)], "expected an attempt"),
    "attempts-without-end": ([begin(1001)], "expected an attempt"),
    "ahead": ([begin(opened=1)], "begins after 1"),
    "far-ahead": ([begin(opened=2, catch_up=True)], "begins after 2"),
    "back": ([begin(catch_up=True)], "begins after 0"),
    "without-me": ([begin(members=("east", "south"))], "members of the attempt"),
    "unsorted": ([begin(members=("south", "north", "east"))], "members of the attempt"),
    "twice": ([begin(members=("east", "north", "north"))], "members of the attempt"),
    "alone": ([begin(members=("north",))], "does not fit"),
    "stranger": ([begin(members=("east", "north", "stranger"))], "does not fit"),
    "nobody": ([begin(members=())], "members of the attempt"),
    "draw-back": ([begin(1, draw=3), begin(2, draw=2)], "expected a draw"),
    "frame-first": ([*frame(1, b"x")], "belongs to no attempt"),
    "frame-of-another-attempt": ([begin(1), *frame(2, b"x")], "belongs to no attempt"),
    "sum-too-short": (
        [begin(opened=1, catch_up=True, contributors=SITES), *frame(1, PLAIN_SUM[:-8])],
        "another length",
    ),
    "sum-of-one": ([begin(opened=1, catch_up=True, contributors=["east"]), *frame(1, PLAIN_SUM)], "fewer sites"),
    "sum-of-strangers": (
        [begin(opened=1, catch_up=True, contributors=["east", "evil"]), *frame(1, PLAIN_SUM)],
        "fewer sites",
    ),
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
    assert "other members than it was sent to" in error.message
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
    assert "other members" in error.message
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


def test_two_sites_that_are_told_different_sums(plane: Plane) -> None:
    """A false last sum is taken as told and enters the keys: the next attempt agrees with nobody who knows better."""
    params = plane.params(steps=2)
    false = LastSum(np.arange(8), SITES)

    def script(hostile: Hostile) -> Iterator[ToSite]:
        yield begin(1, opened=1, catch_up=True, contributors=SITES)
        yield from frame(1, encode_values(false.values))
        true = Accomplices(plane, params, Attempt(1, SITES, 1, 0), LastSum(np.arange(8) + 1, SITES))
        keys = hostile.frames.get(timeout=5)
        with pytest.raises(Abort, match="another session"):
            true.coordinator.receive("north", keys)
        yield ToSite(end=End(reason=Reason.PROTOCOL))

    with Hostile(plane, script) as hostile:
        error = take_part(plane, hostile, params)
    assert isinstance(error, SumFailed)
    assert error.word == "PROTOCOL"


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


# callers


def test_vectors_of_another_shape_are_refused_at_once(plane: Plane) -> None:
    """Wrong use is a ValueError before anything is sent."""
    params = plane.params(number=60)
    with SumSession(plane.site("north"), params, patience=SHORT) as sums:
        for wrong in (np.zeros(7, np.int64), np.zeros(8, np.int16), np.zeros((8, 1), np.int64), np.zeros(8)):
            with pytest.raises(ValueError, match="expected an int32 or int64 vector"):
                sums.step(wrong)  # type: ignore[arg-type]  # on purpose


def test_a_site_that_is_no_member(plane: Plane) -> None:
    """A session without this site is no session of this site."""
    params = plane.params()
    others = replace(params, members=params.members[:1] + params.members[2:], threshold=2)
    with pytest.raises(ValueError, match="north is no member"):
        SumSession(plane.site("north"), others)


def test_a_series_must_fit(plane: Plane) -> None:
    """Step sums say their number in the parameters, and nowhere else."""
    with pytest.raises(ValueError, match="do not fit"):
        SumSession(plane.site("north"), plane.params(steps=2), sums=3)
    with pytest.raises(ValueError, match="do not fit"):
        SumSession(plane.site("north"), plane.params(kind=Kind.ROUND), sums=0)


def test_more_steps_than_the_session_has(plane: Plane) -> None:
    """After the last sum there is no further one."""
    params = plane.params(number=61)
    threads = [threading.Thread(target=run_site, args=(plane, name, params)) for name in ("east", "south")]
    for thread in threads:
        thread.start()
    with open_session(plane.coordinator, params, QUICK) as session, SumSession(plane.site("north"), params) as sums:
        opened = sums.step(vector_of("north", 1, 8))
        with pytest.raises(RuntimeError, match="all sums"):
            sums.step(vector_of("north", 1, 8))
        list(session)
    for thread in threads:
        thread.join(20)
    assert np.array_equal(opened.total, expected(SITES, 1, 8))


def run_site(plane: Plane, name: str, params: SessionParameters, address: str | None = None) -> None:
    """Be an honest site."""
    with SumSession(plane.site(name), params, address=address) as sums:
        for step in range(1, params.steps + 1):
            sums.step(vector_of(name, step, params.length))


def test_a_site_that_has_not_joined(tmp_path: Path) -> None:
    """Without a consortium there is nobody to sum with."""
    made = Plane(tmp_path)
    enrolment.init(made.site("north"), "north", None, datetime.now(UTC))
    with pytest.raises(StateError, match="not joined"):
        Endpoint.of_site(made.site("north"), datetime.now(UTC))


def test_a_certificate_that_has_expired(tmp_path: Path) -> None:
    """A site does not go out with a certificate whose time is over."""
    made = Plane(tmp_path)
    made.make()
    with pytest.raises(TrustError, match="has expired"):
        Endpoint.of_site(made.site("north"), datetime.now(UTC) + timedelta(days=3000))


def test_keys_show_nowhere(plane: Plane) -> None:
    """No representation holds a key, a vector in the clear or a frame."""
    endpoint = Endpoint.of_site(plane.site("north"), datetime.now(UTC))
    assert b"PRIVATE" in endpoint.key
    assert "PRIVATE" not in repr(endpoint)
    assert "4711" not in repr(_Vector(0, np.full(3, 4711)))
    assert "secret" not in repr(Frame(1, b"secret"))


# between site and coordinator


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_resume_after_the_way_was_interrupted(plane: Plane, how: str) -> None:
    """Cut, or silently stalled: the same sites come together again at the last opened step, with the same vectors."""
    params = plane.params(steps=40, number=70 + (how == "cut"))
    with Relay(plane.port) as relay:
        ways = {name: relay.address if name == "north" else None for name in SITES}
        threads = [threading.Thread(target=run_site, args=(plane, name, params, way)) for name, way in ways.items()]
        with open_session(plane.coordinator, params, QUICK) as session:
            for thread in threads:
                thread.start()
            sums = []
            for opened in session:
                sums.append(opened)
                if opened.step == 10 and how == "cut":
                    relay.cut()
                if opened.step == 10 and how == "stall":
                    relay.stall()
                    threading.Timer(6.0, relay.resume).start()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive()
    assert [opened.step for opened in sums] == list(range(1, 41))
    assert {(opened.contributors, opened.draw) for opened in sums} == {(SITES, 0)}
    for opened in sums:
        assert np.array_equal(opened.values, expected(SITES, opened.step, params.length))
    assert session.attempts == 2
    assert relay.connections >= 2


def test_a_slow_line_is_not_a_frozen_site(plane: Plane) -> None:
    """A vector that takes seconds on its way does not hide the signs of life behind it."""
    params = plane.params(number=90, length=150_000)
    with Relay(plane.port, rate=190_000) as relay:
        ways = {name: relay.address if name == "north" else None for name in SITES}
        threads = [threading.Thread(target=run_site, args=(plane, name, params, way)) for name, way in ways.items()]
        with open_session(plane.coordinator, params, QUICK) as session:
            for thread in threads:
                thread.start()
            (opened,) = list(session)
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    assert (session.attempts, relay.connections) == (1, 1)
    assert np.array_equal(opened.values, expected(SITES, 1, params.length))


def test_through_an_http_proxy(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital behind an HTTP proxy reaches the coordinator by CONNECT, with TLS from end to end."""
    params = plane.params(number=80)
    with ConnectProxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("no_grpc_proxy", "")
        threads = [threading.Thread(target=run_site, args=(plane, name, params)) for name in SITES]
        with open_session(plane.coordinator, params, QUICK) as session:
            for thread in threads:
                thread.start()
            (opened,) = list(session)
        for thread in threads:
            thread.join(30)
        assert set(proxy.asked) == {f"CONNECT 127.0.0.1:{plane.port}"}
        assert len(proxy.asked) >= len(SITES)
    assert np.array_equal(opened.values, expected(SITES, 1, params.length))

"""Attacks on the aggregation plane from the network: how many streams, how slowly, and for how long."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from tests.attacks.plane.intruders import begun, honest, serves, stream
from tests.support.consortium import agree, local_settings
from tests.support.plane.service import QUICK, SITES, Plane, vector_of
from tests.support.plane.stream import Stream, own
from tests.support.processes import wait_until

from dura_client.sums.session import SumSession
from dura_common.errors import TrustError
from dura_common.messages.proto.aggregation_pb2 import Reason
from dura_server.consortium import authority as at_authority
from dura_server.sums.client import open_session


def test_a_flood_of_streams(plane: Plane) -> None:
    """One site can hold four streams; the rest are refused, and the other sites notice nothing."""
    params = plane.params(number=130)
    with open_session(plane.coordinator, params, QUICK):
        streams = [Stream(plane, own(plane, "north")) for _ in range(30)]
        try:
            wait_until(lambda: sum(made.call.done() for made in streams) >= 26, "most are refused", 4)
            assert {made.call.code() for made in streams if made.call.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            names = ("east", "south")
            other = replace(params, round=131, threshold=2, members=tuple(m for m in params.members if m.name in names))
            with honest(plane, other, names):
                (opened,) = plane.run(other)
            assert opened.contributors == names
        finally:
            for made in streams:
                made.close()


def test_a_stream_that_says_nothing(plane: Plane) -> None:
    """A site that opens a stream and sends no Hello is sent away after five seconds."""
    with stream(plane, own(plane, "north")) as made:
        begin = time.monotonic()
        assert made.refusal() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - begin < 8


def test_connections_that_never_get_through_tls(plane: Plane) -> None:
    """A hundred half-open connections are closed within seconds, and an honest session runs meanwhile."""
    idle = [socket.create_connection(("127.0.0.1", plane.port), timeout=20) for _ in range(100)]
    begin = time.monotonic()
    try:
        serves(plane, 140)
        for connection in idle:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        assert time.monotonic() - begin < 15
    finally:
        for connection in idle:
            connection.close()


def test_a_stream_that_never_answers(plane: Plane) -> None:
    """A member that attends and then sends nothing is out when the time of the stage is over."""
    params, others = plane.params(number=150), ("east", "north")
    timing = replace(QUICK, step=1.0)
    with honest(plane, params, others), open_session(plane.coordinator, params, timing) as session:
        made, _ = begun(plane, "south", params)
        (opened,) = list(session)
        assert made.answer().end.reason == Reason.TOO_LATE
        made.close()
    assert opened.contributors == others


def test_revoked_in_the_middle(tmp_path: Path) -> None:
    """A site that is taken off the roster loses its stream within seconds and is not admitted again."""
    made = Plane(tmp_path)
    made.make_all()
    made.start()
    try:
        params = made.params(steps=400)
        with open_session(made.coordinator, params, QUICK) as session:
            for name in SITES:
                made.start_site(name, params, pause=0.02)
            sums = iter(session)
            for _ in range(5):
                assert next(sums).contributors == SITES
            at_authority.remove(made.authority, "south", datetime.now(UTC))
            agree(made.coordinator, [made.site(name) for name in SITES if name != "south"])
            begin = time.monotonic()
            wait_until(lambda: made.sites["south"].poll() is not None, "south is out", 8)
            assert time.monotonic() - begin < 8
            assert next(opened for opened in sums if opened.contributors != SITES).contributors == ("east", "north")
        assert "removed this site from the roster" in (tmp_path / "south.log").read_text()
        with SumSession(made.site("south"), params) as again, pytest.raises(TrustError, match="does not admit"):
            again.step(vector_of("south", 1, params.length))
    finally:
        made.stop()


def test_two_services_never_share_the_port(plane: Plane) -> None:
    """A second service on the same port fails to start instead of taking half of the sites."""
    other = Plane(plane.root / "other", settings=local_settings(aggregation_port=plane.port))
    other.root.mkdir()
    other.make_all()
    command = [sys.executable, "-m", "dura_server.services.aggregator", str(other.coordinator.path)]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert b"cannot be used" in ended.stderr

"""Between site and coordinator: lines that break, stall or are slow, and an HTTP proxy."""

from __future__ import annotations

import shutil
import threading
from itertools import product

import numpy as np
import pytest
from tests.client.sums.hostile import run_site
from tests.support.plane.relays import ConnectProxy, Relay
from tests.support.plane.service import QUICK, SITES, Plane, expected, vector_of
from tests.support.processes import free_port

from dura_client.sums.session import Patience, SumFailed, SumSession
from dura_server.sums.client import SessionFailed, open_session
from dura_server.sums.kept import SumLog


@pytest.mark.parametrize("how", ["cut", "stall"])
def test_resume_after_the_way_was_interrupted(plane: Plane, how: str) -> None:
    """Cut, or silently stalled: the sites go on from the last opened step with fresh draws, and nothing is sent twice.

    A site that missed an opened sum is left out of the rest.
    """
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
    assert {opened.contributors for opened in sums} <= {SITES, tuple(name for name in SITES if name != "north")}
    for opened in sums:
        # A site that had not sent its vector yet sends its first one, the others send fresh ones.
        drawn = product(range(opened.draw + 1), repeat=len(opened.contributors))
        possible = (
            sum(
                vector_of(name, opened.step, params.length, draw)
                for name, draw in zip(opened.contributors, draws, strict=True)
            )
            for draws in drawn
        )
        assert any(np.array_equal(opened.values, total) for total in possible)
    assert session.attempts == 2


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


def test_a_session_that_nobody_knows_frees_the_site_soon(plane: Plane) -> None:
    """The coordinator opens a session before it asks a site: what it does not know after some seconds is over."""
    patience = Patience(join=600.0, step=600.0, rejoin=1.0)
    params = plane.params(number=91)
    with (
        SumSession(plane.site("north"), params, patience=patience) as sums,
        pytest.raises(SumFailed, match="knows no such session") as caught,
    ):
        sums.step(vector_of("north", 1, params.length))
    assert caught.value.word == "UNKNOWN_SESSION"


def test_a_coordinator_that_is_away_frees_the_site_soon(plane: Plane) -> None:
    """Whatever the site is ready to wait for others, it does not wait that long for a coordinator that is gone."""
    patience = Patience(join=600.0, step=600.0, rejoin=1.0)
    params = plane.params(number=92)
    with (
        SumSession(plane.site("north"), params, patience=patience, address=f"127.0.0.1:{free_port()}") as sums,
        pytest.raises(SumFailed, match="could not be reached for too long") as caught,
    ):
        sums.step(vector_of("north", 1, params.length))
    assert caught.value.word == "TOO_LATE"


def test_no_site_hears_of_a_sum_that_could_not_be_kept(plane: Plane) -> None:
    """The first sum is kept and told. Then the disk refuses: the session ends, and nobody was told the second one."""
    params = plane.params(number=93, steps=20, study="44" * 32)
    folder = plane.coordinator.studies / params.study / "sums"
    opened: dict[str, int] = dict.fromkeys(SITES, 0)
    words: dict[str, str] = {}
    first = threading.Barrier(len(SITES) + 1)
    broken = threading.Event()

    def take_part(name: str) -> None:
        with SumSession(plane.site(name), params) as sums:
            try:
                for step in range(1, params.steps + 1):
                    sums.step(vector_of(name, step, params.length))
                    opened[name] = step
                    if step == 1:
                        first.wait(30)
                        broken.wait(30)
            except SumFailed as error:
                words[name] = error.word

    threads = [threading.Thread(target=take_part, args=(name,)) for name in SITES]
    with open_session(plane.coordinator, params, QUICK) as session:
        for thread in threads:
            thread.start()
        first.wait(30)
        kept = [one.step for one in SumLog.of(plane.coordinator, params.study).sums(params.purpose, params.round)]
        shutil.rmtree(folder)
        folder.write_text("a file where the folder of the sums belongs")
        broken.set()
        with pytest.raises(SessionFailed, match="not kept"):
            list(session)
    for thread in threads:
        thread.join(30)
    assert kept == [1]
    assert opened == dict.fromkeys(SITES, 1)
    assert words == dict.fromkeys(SITES, "NOT_KEPT")

"""The aggregation service with real sites: sums, losses at every stage, crashes, and what the ServerApp is told."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import pytest
from tests.support.commands import dura, shown
from tests.support.plane.service import QUICK, Plane, expected, vector_of
from tests.support.plane.stream import die_after
from tests.support.processes import wait_until

from dura_client.sums.session import Patience, Redraw, SumFailed, SumSession
from dura_common.errors import HostError, StateError
from dura_common.runtime.running import Lock
from dura_common.secagg import Kind, SessionParameters
from dura_common.sums.attempts import Series
from dura_server.home import CoordinatorHome
from dura_server.services.aggregator import healthy
from dura_server.sums.client import OpenedSum, SessionFailed, open_session, standings

NAMES = ("east", "north", "south", "west")
VICTIM, OTHERS = "west", ("east", "north", "south")
STAGES = {Kind.STEP: 2, Kind.ROUND: 5}
"""Frames that a site sends in a session."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Return a running service of four hospitals."""
    made = Plane(tmp_path_factory.mktemp("a"), names=NAMES)
    made.make_all()
    made.start()
    try:
        yield made
        assert "Traceback" not in made.log
    finally:
        made.stop()


class Sites:
    """Real sites in threads; what each of them saw."""

    def __init__(self, plane: Plane, params: SessionParameters, names: Iterable[str], sums: int | None = None) -> None:
        self.seen: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        self.errors: dict[str, Exception] = {}
        self.redraws: dict[str, list[Redraw]] = {name: [] for name in names}
        self._plane, self._params, self._series = plane, params, Series.of(params, sums)
        self._threads = [threading.Thread(target=self._run, args=(name,)) for name in self.redraws]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _run(self, name: str) -> None:
        params = self._params

        def redraw(need: Redraw) -> np.ndarray:
            self.redraws[name].append(need)
            return vector_of(name, need.step, params.length, need.draw)

        seen = self.seen.setdefault(name, [])
        try:
            with SumSession(
                self._plane.site(name), params, sums=self._series.sums, redraw=redraw, patience=Patience(20, 30, 10)
            ) as sums:
                for number in range(self._series.sums):
                    opened = sums.step(vector_of(name, params.first_step + number, params.length))
                    seen.append((int(opened.total.sum()), opened.contributors))
        except HostError as error:
            self.errors[name] = error


def check(sums: list[OpenedSum], params: SessionParameters) -> None:
    """Check every sum against the vectors of exactly its contributors and draw."""
    for opened in sums:
        assert np.array_equal(opened.values, expected(opened.contributors, opened.step, params.length, opened.draw))


@pytest.mark.parametrize(("kind", "count"), [(Kind.STEP, 5), (Kind.ROUND, 1), (Kind.ROUND, 3)])
def test_everybody_sees_the_exact_sums(plane: Plane, kind: Kind, count: int) -> None:
    """ServerApp and sites get the same sums, in order; large vectors travel in pieces."""
    params = plane.params(kind=kind, steps=count if kind is Kind.STEP else 1, length=300_000, number=count)
    with Sites(plane, params, NAMES, count) as sites, open_session(plane.coordinator, params, QUICK, sums=count) as run:
        sums = list(run)
    check(sums, params)
    assert [opened.step for opened in sums] == list(range(1, count + 1))
    assert {opened.contributors for opened in sums} == {NAMES}
    assert run.attempts == (1 if kind is Kind.STEP else count)
    assert all(seen == [(int(s.values.sum()), s.contributors) for s in sums] for seen in sites.seen.values())
    assert sites.errors == {}


@pytest.mark.parametrize(
    ("kind", "frames"), [(kind, frames) for kind, stages in STAGES.items() for frames in range(stages + 1)]
)
def test_a_site_that_dies_at_each_stage(plane: Plane, kind: Kind, frames: int) -> None:
    """The others have an exact sum, with or without it, whatever it had sent; the next session works."""
    params = plane.params(kind=kind, number=1000 + 10 * frames + (kind is Kind.STEP))
    timing = replace(QUICK, rejoin=0.5)
    with Sites(plane, params, OTHERS) as sites, open_session(plane.coordinator, params, timing) as run:
        die_after(plane, VICTIM, Series.of(params), frames, vector_of(VICTIM, 1, params.length))
        (opened,) = list(run)
    used = {name: redraws[-1].draw if redraws else 0 for name, redraws in sites.redraws.items()} | {VICTIM: 0}
    vectors = [vector_of(name, 1, params.length, used[name]) for name in opened.contributors]
    assert np.array_equal(opened.values, np.sum(vectors, axis=0))
    assert sites.errors == {}
    in_the_sum = frames >= (2 if kind is Kind.STEP else 3)  # its vector had arrived
    assert opened.contributors == (NAMES if in_the_sum else OTHERS)
    again = replace(params, round=params.round + 5000)
    with Sites(plane, again, NAMES), open_session(plane.coordinator, again, QUICK) as run:
        assert [item.contributors for item in run] == [NAMES]


def test_a_site_that_never_comes(plane: Plane) -> None:
    """After the time to join the session goes on with those who came, if they are enough."""
    params = plane.params(number=20)
    with Sites(plane, params, OTHERS), open_session(plane.coordinator, params, replace(QUICK, join=1.0)) as run:
        assert [opened.contributors for opened in run] == [OTHERS]


def test_too_few_sites(plane: Plane) -> None:
    """Below the study's minimum nothing is opened; everybody learns why."""
    params = plane.params(number=21, minimum=3)
    timing = replace(QUICK, join=1.0)
    with (
        Sites(plane, params, NAMES[:2]) as sites,
        open_session(plane.coordinator, params, timing) as run,
        pytest.raises(SessionFailed, match="too few sites") as caught,
    ):
        list(run)
    assert caught.value.word == "TOO_FEW_SITES"
    assert caught.value.lost == NAMES[2:]
    assert {getattr(error, "word", "") for error in sites.errors.values()} == {"TOO_FEW_SITES"}


def test_frozen_and_killed_sites(plane: Plane) -> None:
    """A killed process is noticed within a second, a frozen one within five; the sums go on without them."""
    params = plane.params(number=22, steps=200, length=100)
    noticed: dict[str, float] = {}
    with open_session(plane.coordinator, params, replace(QUICK, rejoin=0.5)) as run:
        for name in NAMES:
            plane.start_site(name, params, pause=0.02)
        sums = []
        for opened in run:
            sums.append(opened)
            for name, number, step in (("west", signal.SIGKILL, 5), ("south", signal.SIGSTOP, 40)):
                if opened.step == step:
                    os.kill(plane.sites[name].pid, number)
                    noticed[name] = -time.monotonic()
                if name in noticed and noticed[name] < 0 and f"train 22: {name} left" in plane.log:
                    noticed[name] += time.monotonic()
            if "west" in noticed and noticed["west"] < 0:
                wait_until(lambda: "train 22: west left" in plane.log, "the killed site is noticed", 1.0)
                noticed["west"] += time.monotonic()
            if "south" in noticed and noticed["south"] < 0:
                wait_until(lambda: "train 22: south left" in plane.log, "the frozen site is noticed", 5.0)
                noticed["south"] += time.monotonic()
    check(sums, params)
    assert [opened.step for opened in sums] == list(range(1, 201))
    assert [len(opened.contributors) for opened in (sums[0], sums[20], sums[-1])] == [4, 3, 2]
    for name in ("east", "north"):
        assert plane.sites[name].wait(20) == 0
        assert "redraw" in (plane.root / f"{name}.log").read_text()
    plane.sites["south"].send_signal(signal.SIGCONT)
    plane.sites["south"].wait(40)
    assert "failed" in (plane.root / "south.log").read_text()


def test_the_service_crashes(tmp_path: Path) -> None:
    """Killed in the middle: the ServerApp is told, sites wait, and a new session of the same study works at once."""
    made = Plane(tmp_path)
    made.make_all()
    made.start()
    try:
        params = made.params(steps=1000)
        for name in made.names:
            made.start_site(name, params, pause=0.01, rejoin=60)
        with open_session(made.coordinator, params, QUICK) as run:
            sums = iter(run)
            assert [next(sums).step for _ in range(5)] == [1, 2, 3, 4, 5]
            made.process.kill()
            with pytest.raises(SessionFailed, match="service lost") as caught:
                list(sums)
        made.process.wait(20)
        assert caught.value.word == "SERVICE_LOST"
        assert not healthy(made.coordinator)
        made.start()
        again = replace(params, attempt=2, steps=3)
        with Sites(made, again, made.names) as sites, open_session(made.coordinator, again, QUICK) as run:
            check(list(run), again)
        assert sites.errors == {}
        for name in made.names:
            assert made.sites[name].wait(30) == HostError.exit_code
            assert "failed SumFailed UNKNOWN_SESSION" in (tmp_path / f"{name}.log").read_text()
    finally:
        made.stop()


def test_the_serverapp_goes_away(plane: Plane) -> None:
    """A ServerApp that leaves takes its session with it; the sites learn it at once."""
    params = plane.params(number=23, steps=1000)
    with Sites(plane, params, NAMES) as sites, open_session(plane.coordinator, params, QUICK) as run:
        next(iter(run))
    assert {getattr(error, "word", "") for error in sites.errors.values()} == {"CANCELLED"}
    wait_until(lambda: standings(plane.coordinator) == [], "the session is gone")


def test_one_session_runs_once_at_a_time(plane: Plane) -> None:
    """The very same session cannot be asked for while it runs; what runs can be looked at."""
    params = plane.params(number=24)
    with open_session(plane.coordinator, params, QUICK):
        wait_until(lambda: len(standings(plane.coordinator)) == 1, "it runs")
        (standing,) = standings(plane.coordinator)
        assert (standing.study, standing.round, standing.opened, list(standing.attending)) == ("11" * 32, 24, 0, [])
        with (
            open_session(plane.coordinator, params, QUICK) as second,
            pytest.raises(SessionFailed, match="ended early"),
        ):
            list(second)
    wait_until(lambda: standings(plane.coordinator) == [], "the session is gone")


def test_the_operator_sees_open_sessions(plane: Plane) -> None:
    """The status command tells study, purpose, round, progress and who is missing, in words and as JSON."""
    here, missing = NAMES[:3], NAMES[3]
    params = plane.params(number=25, steps=3)
    with (
        Lock(plane.coordinator.run),  # stands for the supervisor that keeps the service alive
        open_session(plane.coordinator, params, QUICK),
        Sites(plane, params, here),
    ):
        wait_until(lambda: [len(one.attending) for one in standings(plane.coordinator)] == [3], "three attend")
        (session,) = dura("coordinator", "status", "--home", plane.coordinator.path, here=True)["sessions"]
        assert session == {
            "study": "11" * 6,
            "purpose": "train",
            "round": 25,
            "attempt": 0,
            "opened": 0,
            "sums": 3,
            "present": list(here),
            "missing": [missing],
        }
        said = shown("coordinator", "status", "--home", plane.coordinator)
        line = "111111111111 train round 25, attempt 0: 0 of 3 sums opened, 3 of 4 sites (missing: west)"
        assert line in said
    wait_until(lambda: standings(plane.coordinator) == [], "the session is gone")


def test_the_status_of_a_service_that_does_not_answer(tmp_path: Path) -> None:
    """Nothing runs: no sessions. A supervisor whose service is away: that is said, and it is no error."""
    home = CoordinatorHome(tmp_path / "c")
    home.path.mkdir()
    home.settings.touch()
    assert dura("coordinator", "status", "--home", home.path)["sessions"] == []
    with Lock(home.run):
        assert dura("coordinator", "status", "--home", home.path)["sessions"] is None
        said = shown("coordinator", "status", "--home", home)
        assert "the aggregation service does not answer" in said


def test_no_service(tmp_path: Path) -> None:
    """Without the service the ServerApp gets a clear error; a path too long for a socket too."""
    home = CoordinatorHome(tmp_path / "c")
    home.run.mkdir(parents=True)
    with pytest.raises(HostError, match="does not answer"):
        standings(home)
    with pytest.raises(StateError, match="too long"):
        _ = CoordinatorHome(tmp_path / ("x" * 100)).sums_socket


def test_the_socket_is_closed_to_others(plane: Plane) -> None:
    """Only the coordinator's own user reaches the folder of the socket."""
    assert plane.coordinator.sums_socket.exists()
    assert plane.coordinator.run.stat().st_mode & 0o077 == 0


def test_a_slow_serverapp_loses_nothing(plane: Plane) -> None:
    """A ServerApp that takes its time gets every sum; the sites wait for it within their patience."""
    params = plane.params(number=25, steps=30)
    with Sites(plane, params, NAMES) as sites, open_session(plane.coordinator, params, QUICK) as run:
        sums = []
        for opened in run:
            time.sleep(0.02)
            sums.append(opened)
    assert [opened.step for opened in sums] == list(range(1, 31))
    assert sites.errors == {}


def test_failures_have_words() -> None:
    """An error tells the word, the missing sites and what to do."""
    error = SessionFailed("TOO_FEW_SITES", ("west",))
    assert error.message == "the secure sum ended early (too few sites; missing at the end: west)"
    assert "aggregator.log" in error.hint
    assert isinstance(SumFailed("TOO_LATE", "x"), HostError)

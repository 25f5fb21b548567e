"""A vector leaves at a tick of the site's own clock, whatever the computation took within it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.studies import study as build_study

from dura_client.release.pace import Pace
from dura_client.training.engine import PatientEngine
from dura_common.models import build_model, to_vector


@dataclass
class Clock:
    """A clock that moves when somebody sleeps."""

    now: float = 100.0
    slept: list[float] = field(default_factory=list)

    def read(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass, a little less than asked for, as a system may."""
        self.slept.append(seconds)
        self.now += max(seconds * 0.75, 1e-6)


def leaves(took: float, tick: float) -> float:
    """Return how long after its beginning a draw leaves that took so long."""
    clock = Clock()
    begun = clock.now
    clock.now += took
    Pace(4, tick, clock.read, clock.sleep).wait(begun)
    return clock.now - begun


@given(took=st.lists(st.floats(0, 0.999), min_size=2, max_size=6))
def test_all_draws_within_a_tick_leave_at_the_same_time(took: list[float]) -> None:
    """Between nothing and a whole tick of work no difference is left."""
    assert [leaves(one, 1.0) for one in took] == pytest.approx([1.0] * len(took), abs=1e-5)


@given(took=st.floats(0, 30), tick=st.floats(0.05, 2))
def test_a_missed_tick_is_followed_by_the_next(took: float, tick: float) -> None:
    """A draw leaves a whole number of ticks after it began, never before it is done, and at most a tick later."""
    left = leaves(took, tick)
    assert left >= took - 1e-9
    assert left <= took + tick + 1e-4
    assert abs(left / tick - round(left / tick)) < 1e-3 or left == pytest.approx(took, abs=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_tick_is_measured_on_dummies_alone(steps: int) -> None:
    """No patient is needed to measure it, and the model stays as it was."""
    asked = build_study(model={"name": "linear"})
    network = build_model(asked)
    before = to_vector(network)
    pace = Pace.measured(PatientEngine(network, asked, preparation=(), places=5), 5, steps=steps)
    assert pace.places == 5
    assert pace.tick > 0
    assert (to_vector(network) == before).all()

"""Where the noise ends: known answers, a big-number oracle, and the plans that are refused for it."""

from __future__ import annotations

import math

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dura_common.privacy.tails import REACH, smallest_multiplier


def test_the_reach_is_that_of_256_bits() -> None:
    """The longest pair belongs to the smallest U, 2^-257."""
    assert pytest.approx(18.8753, abs=1e-4) == REACH
    assert math.exp(-(REACH**2) / 2) == pytest.approx(2.0**-257, rel=1e-12)


@pytest.mark.parametrize(("delta", "multiplier"), [(1e-5, 0.088), (1e-6, 0.091), (1e-9, 0.098)])
def test_the_smallest_multiplier_is_the_measured_one(delta: float, multiplier: float) -> None:
    """At 330 steps and a millionth of delta the bound lies within 4 % above a prototype's exact figures."""
    assert multiplier <= smallest_multiplier(330, 1e-6 * delta) <= 1.04 * multiplier


@settings(max_examples=60, deadline=None)
@given(releases=st.integers(1, 10**6), exponent=st.floats(3, 30))
def test_the_smallest_multiplier_adds_what_is_asked_and_no_more(releases: int, exponent: float) -> None:
    """The mass of pairs that a patient moves beyond the end is the addition; one normal value is rarer than a pair."""
    extra = 10**-exponent
    with mpmath.workdps(60):
        room = mpmath.mpf(REACH) - 1 / mpmath.mpf(smallest_multiplier(releases, extra))
        assert float(releases * mpmath.exp(-(room**2) / 2)) == pytest.approx(extra, rel=1e-6)
        assert releases * mpmath.ncdf(-room) < extra


def test_impossible_questions_are_refused() -> None:
    """No release and unreachable additions raise."""
    for releases, extra in ((0, 0.1), (1, 0.0), (1, 1.0)):
        with pytest.raises(ValueError, match="a release and an addition"):
            smallest_multiplier(releases, extra)
    with pytest.raises(ValueError, match="end too early"):
        smallest_multiplier(1, 1e-80)

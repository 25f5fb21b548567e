"""The bound on rounded noise shares against direct numeric evaluation of the laws and of delta."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from dura_common.privacy.rounding import SMALLEST_SHARE, extra_delta, log_variation, smallest_share

Masses = NDArray[np.float64]


def rounded_sum(share: float, honest: int, reach: int) -> Masses:
    """Return the law of the sum of rounded shares on -reach..reach, by convolution."""
    places = np.arange(-reach, reach + 1)
    one = stats.norm.cdf((places + 0.5) / share) - stats.norm.cdf((places - 0.5) / share)
    total = one
    for _ in range(honest - 1):
        total = np.convolve(total, one)
    middle = (total.size - 1) // 2
    return total[middle - reach : middle + reach + 1]


def rounded_once(share: float, honest: int, reach: int) -> Masses:
    """Return the law of the once rounded sum of Gaussians and honest - 1 uniform numbers, by quadrature (2 or 3)."""
    sigma = share * math.sqrt(honest)
    density, half = {2: (lambda _u: 1.0, 0.5), 3: (lambda u: 1 - abs(u), 1.0)}[honest]

    def mass(place: int) -> float:
        def part(u: float) -> float:
            upper, lower = (stats.norm.cdf((place + side - u) / sigma) for side in (0.5, -0.5))
            return float(density(u) * (upper - lower))

        return float(integrate.quad(part, -half, half, points=[0.0], epsabs=1e-14, epsrel=1e-12)[0])

    return np.array([mass(place) for place in range(-reach, reach + 1)])


@pytest.mark.parametrize("honest", [2, 3])
@pytest.mark.parametrize("share", [0.6, 0.8, 1.0, 1.2])
def test_the_bound_holds_and_is_not_idle(share: float, honest: int) -> None:
    """The true total variation lies below the bound, and the bound is within the factor that its proof gives away."""
    reach = math.ceil(9 * share * math.sqrt(honest)) + honest
    true = 0.5 * float(np.abs(rounded_sum(share, honest, reach) - rounded_once(share, honest, reach)).sum())
    assert true <= math.exp(log_variation(share, honest))
    # Window, counts of terms and |sin x / x| <= 1 together cost less than five powers of ten here.
    assert true >= 1e-5 * math.exp(log_variation(share, honest)) or true < 1e-12


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
@pytest.mark.parametrize(("share", "honest"), [(0.7, 2), (1.0, 2), (1.0, 4), (1.5, 3), (2.0, 7), (10.0, 3)])
@pytest.mark.parametrize("sensitivity", [1, 3])
def test_delta_of_rounded_shares_is_that_of_the_gaussian(
    share: float, honest: int, epsilon: float, sensitivity: int
) -> None:
    """Delta by direct summation is at most the analytic Gaussian's (Balle and Wang 2018) plus the stated extra."""
    sigma = share * math.sqrt(honest)
    reach = math.ceil(12 * sigma) + 2 * honest + sensitivity
    law = rounded_sum(share, honest, reach)
    moved = np.concatenate([np.zeros(sensitivity), law])[: law.size]
    delta = float(np.clip(law - math.exp(epsilon) * moved, 0, None).sum())
    ratio = sensitivity / sigma
    gaussian = stats.norm.cdf(ratio / 2 - epsilon / ratio) - math.exp(epsilon) * stats.norm.cdf(
        -ratio / 2 - epsilon / ratio
    )
    # 1e-15 is the rounding of the summation itself.
    assert delta <= gaussian + extra_delta(share, honest, 1, epsilon) + 1e-15


def test_one_share_costs_nothing() -> None:
    """A single noiser keeps the Gaussian guarantee exactly."""
    assert log_variation(1.0, 1) == -math.inf
    assert extra_delta(1.0, 1, 10**9, 8.0) == 0


def test_ten_steps_are_negligible_for_any_study() -> None:
    """At ten steps, 500 sites and a million million values, less than 10^-300 is added; at the grid's usual, none."""
    assert extra_delta(10.0, 500, 10**12, 100.0) < 1e-300
    assert log_variation(10.0, 2) < -400 * math.log(10)
    assert extra_delta(65536 / math.sqrt(10), 10, 10**12, 100.0) == 0


@given(
    share=st.floats(SMALLEST_SHARE, 50),
    more=st.floats(1e-3, 10),
    honest=st.integers(2, 500),
    values=st.integers(1, 10**12),
    epsilon=st.floats(0, 100),
)
def test_more_noise_never_costs_more(share: float, more: float, honest: int, values: int, epsilon: float) -> None:
    """The extra is a probability and falls as shares grow."""
    first, second = (extra_delta(each, honest, values, epsilon) for each in (share, share + more))
    assert 0 <= second <= first <= 1


@given(honest=st.integers(2, 100), values=st.integers(1, 10**10), epsilon=st.floats(0.1, 20), digits=st.integers(3, 30))
def test_the_smallest_share_is_enough(honest: int, values: int, epsilon: float, digits: int) -> None:
    """It keeps the limit, and a little less does not."""
    extra = 10.0**-digits
    share = smallest_share(honest, values, epsilon, extra)
    assert extra_delta(share, honest, values, epsilon) <= extra
    assert share == SMALLEST_SHARE or extra_delta(share - 2e-3, honest, values, epsilon) > extra
    assert share < 10


def test_what_is_no_share_is_refused() -> None:
    """Too small, not finite, nobody, nothing, or a limit that is none."""
    for share in (0.0, 0.49, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"at least 0\.5 steps"):
            log_variation(share, 3)
    with pytest.raises(ValueError, match="one honest site"):
        log_variation(1.0, 0)
    with pytest.raises(ValueError, match="one value"):
        extra_delta(1.0, 3, 0, 1.0)
    for extra in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            smallest_share(3, 1, 1.0, extra)

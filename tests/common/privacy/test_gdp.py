"""Certificates of Gaussian differential privacy: known answers, two oracles, and the filter that they make."""

from __future__ import annotations

import math

import dp_accounting
import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as peer
from hypothesis import given, settings
from hypothesis import strategies as st

from dura_common.errors import InputError
from dura_common.privacy import Gaussian, SampledGaussian, calibrate_training, epsilon_of
from dura_common.privacy.gdp import (
    UNITS,
    certificate_of,
    epsilon_of_mu,
    gaussian_deltas,
    mu_of_epsilon,
    mu_of_units,
)

DELTA = 1e-6
LEAK = 1e-9


def block(participation: float, noise_multiplier: float, steps: int) -> SampledGaussian:
    """Return the event of a block."""
    return SampledGaussian(participation=participation, noise_multiplier=noise_multiplier, steps=steps)


def calibrated(epsilon: float, participation: float, steps: int) -> SampledGaussian:
    """Return a block that costs an epsilon at :data:`DELTA` by itself."""
    return block(participation, calibrate_training(epsilon, DELTA, participation, steps), steps)


@pytest.mark.parametrize(
    ("epsilon", "participation", "steps", "ratio"),
    [
        (0.1, 0.5, 40, 1.002),
        (1.0, 0.5, 40, 1.002),
        (3.0, 0.5, 40, 1.005),
        (8.0, 0.5, 40, 1.0135),
        (0.1, 0.1, 300, 1.002),
        (1.0, 0.1, 300, 1.002),
        (3.0, 0.1, 300, 1.007),
        (8.0, 0.1, 300, 1.0215),
    ],
)
def test_one_block_costs_little_more_than_its_own_epsilon(
    epsilon: float, participation: float, steps: int, ratio: float
) -> None:
    """Certificates of ordinary studies are dearer than the study's epsilon by what a prototype measured."""
    event = calibrated(epsilon, participation, steps)
    certificate = certificate_of(event, LEAK)
    found = epsilon_of_mu(certificate.mu, DELTA - certificate.leak) / epsilon_of([event], DELTA)
    assert found == pytest.approx(ratio, abs=2e-3)
    assert found >= 1


@pytest.mark.parametrize(
    ("epsilon", "studies", "sum_of_all"), [(0.1, 100, 1.176 * 1.009), (1.0, 10, 3.492 * 1.011), (3.0, 3, 5.482 * 1.021)]
)
def test_studies_add_up_to_the_measured_costs(epsilon: float, studies: int, sum_of_all: float) -> None:
    """Loads of many studies cost 1 to 2 % more than composition fixed beforehand, as a prototype measured."""
    one = certificate_of(calibrated(epsilon, 0.5, 40), LEAK)
    mu = mu_of_units(studies * one.mu_squared)
    assert epsilon_of_mu(mu, DELTA - studies * LEAK) == pytest.approx(sum_of_all, rel=1e-3)


@pytest.mark.parametrize(("event", "ratio"), [(block(0.01, 1.0, 100), 1.41), (block(0.01, 0.8, 2000), 1.06)])
def test_blocks_far_from_gaussian_are_dear(event: SampledGaussian, ratio: float) -> None:
    """Few steps with rare sampling cost much more than their own epsilon, as a prototype measured."""
    certificate = certificate_of(event, LEAK)
    found = epsilon_of_mu(certificate.mu, DELTA - LEAK) / epsilon_of([event], DELTA)
    assert found == pytest.approx(ratio, rel=5e-3)


@settings(max_examples=50, deadline=None)
@given(noise=st.floats(0.05, 1e4), count=st.integers(1, 10**6))
def test_sums_without_sampling_are_exact(noise: float, count: int) -> None:
    """A plain Gaussian sum costs count over sigma squared, rounded up by less than one unit, without a leak."""
    for event in (Gaussian(noise_multiplier=noise, count=count), block(1.0, noise, count)):
        certificate = certificate_of(event, LEAK)
        with mpmath.workdps(50):
            excess = certificate.mu_squared - UNITS * count / mpmath.mpf(noise) ** 2
            assert 0 <= excess < 1
        assert certificate.leak == 0
        assert certificate.mu**2 * UNITS >= certificate.mu_squared * (1 - 1e-15)


@pytest.mark.parametrize("event", [block(0.5, 6.0, 40), block(0.1, 1.5, 300), block(0.05, 0.8, 20), block(0.9, 3.0, 5)])
def test_the_curve_of_another_accountant_lies_under_the_certificate(event: SampledGaussian) -> None:
    """dp_accounting's privacy curve stays below what the certificate promises, in both directions, at 4,001 points."""
    certificate = certificate_of(event, LEAK)
    distribution = peer.from_gaussian_mechanism(
        event.noise_multiplier,
        value_discretization_interval=1e-4,
        sampling_prob=event.participation,
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    ).self_compose(event.steps)
    epsilons = np.linspace(0.0, 1.2 * epsilon_of([event], LEAK), 4001)
    theirs = np.asarray(distribution.get_delta_for_epsilon(epsilons))
    promised = LEAK + (1 - LEAK) * gaussian_deltas(certificate.mu, epsilons)
    assert np.all(theirs <= promised * (1 + 1e-9))
    assert np.max(theirs / promised) > 0.97


def test_a_smaller_leak_costs_more() -> None:
    """Leak and parameter are traded against each other."""
    event = block(0.1, 1.2, 100)
    costs = [certificate_of(event, leak).mu_squared for leak in (1e-6, 1e-8, 1e-10)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


@pytest.mark.parametrize("leak", [0.0, 1.0, -1.0, math.nan])
def test_an_impossible_leak_is_refused(leak: float) -> None:
    """A leak is a probability of something that may happen."""
    with pytest.raises(ValueError, match="leak of a block must lie between 0 and 1"):
        certificate_of(block(0.5, 6.0, 40), leak)


def test_a_leak_is_never_below_what_the_accountant_can_tell() -> None:
    """A block of so many steps that arithmetic counts leaks more than was asked for, and the certificate says so."""
    event = block(0.01, 2.0, 20_000)
    certificate = certificate_of(event, 1e-12)
    assert certificate == certificate_of(event, certificate.leak)
    assert 20_000 * 1e-14 < certificate.leak < 20_000 * 1e-12
    assert certificate_of(event, 1e-6).leak == 1e-6


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_hardly_any_noise_has_no_certificate(noise: float) -> None:
    """A block that protects nobody now and then gets no parameter, however large."""
    with pytest.raises(InputError, match="have no Gaussian certificate"):
        certificate_of(block(0.5, noise, 200), LEAK)


@settings(max_examples=50, deadline=None)
@given(mu=st.floats(0.01, 20), delta=st.sampled_from([1e-3, 1e-6, 1e-9]))
def test_epsilon_and_mu_are_each_others_inverse(mu: float, delta: float) -> None:
    """Both directions solve the closed form in big numbers, on the safe side, to nine digits."""
    epsilon = epsilon_of_mu(mu, delta)
    with mpmath.workdps(50):
        a, b = mpmath.mpf(mu) / 2 - epsilon / mpmath.mpf(mu), -mpmath.mpf(mu) / 2 - epsilon / mpmath.mpf(mu)
        exact = mpmath.ncdf(a) - mpmath.exp(epsilon) * mpmath.ncdf(b)
        assert exact <= delta * (1 + 1e-9)
        if epsilon:
            assert exact >= delta * (1 - 1e-6)
    if epsilon:
        assert mu_of_epsilon(epsilon, delta) == pytest.approx(mu, rel=1e-7)


def test_ends_of_the_conversion() -> None:
    """No loss costs nothing, unlimited loss everything, and impossible values are refused."""
    assert epsilon_of_mu(0.0, DELTA) == 0
    assert epsilon_of_mu(1e-7, DELTA) == 0
    assert epsilon_of_mu(math.inf, DELTA) == math.inf
    assert mu_of_epsilon(math.inf, DELTA) == math.inf
    assert mu_of_epsilon(0.0, 1e-3) == pytest.approx(1e-3 * math.sqrt(2 * math.pi), rel=1e-5)
    for bad in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="delta must lie between 0 and 1"):
            epsilon_of_mu(1.0, bad)
    with pytest.raises(ValueError, match="mu must not be negative"):
        epsilon_of_mu(-1.0, DELTA)
    with pytest.raises(ValueError, match="epsilon must not be negative"):
        mu_of_epsilon(math.nan, DELTA)

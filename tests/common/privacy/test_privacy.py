"""Accounting against figures that others computed, and calibration against accounting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from pydantic import ValidationError
from scipy.stats import norm
from tests.common.outputs.outcomes import accuracy_in

from dura_common.errors import InputError
from dura_common.outputs.scores import PATIENT_NORM
from dura_common.privacy import (
    Gaussian,
    SampledGaussian,
    calibrate_evaluation,
    calibrate_training,
    epsilon_of,
    event_from_json,
    event_to_json,
)

# (q, noise multiplier, steps, delta, epsilon): computed with dp_accounting 0.6 PLD at an interval of 1e-4 and
# checked against Opacus 1.6 PRV, which agrees within 1 %.
KNOWN = [
    (0.2, 4.0, 200, 1e-3, 2.125),
    (0.1, 2.0, 500, 1e-3, 3.980),
    (0.05, 1.5, 1000, 1e-4, 4.798),
    (1.0, 10.0, 100, 1e-4, 3.804),
]


@pytest.mark.parametrize(("q", "noise", "steps", "delta", "expected"), KNOWN)
def test_known_answers(q: float, noise: float, steps: int, delta: float, expected: float) -> None:
    """Epsilon equals the known answer within half a per cent."""
    event = SampledGaussian(participation=q, noise_multiplier=noise, steps=steps)
    assert epsilon_of([event], delta) == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(("q", "noise", "steps", "delta", "expected"), KNOWN)
def test_two_other_accountants_agree(q: float, noise: float, steps: int, delta: float, expected: float) -> None:
    """Opacus's PRV gives the same epsilon within two per cent; Renyi accounting, a bound, is above it by up to 20."""
    event = SampledGaussian(participation=q, noise_multiplier=noise, steps=steps)
    numerical = PRVAccountant()
    numerical.history = [(noise, q, steps)]
    renyi = RDPAccountant()
    renyi.history = [(noise, q, steps)]
    seen = epsilon_of([event], delta)
    assert seen == pytest.approx(numerical.get_epsilon(delta=delta), rel=0.02)
    assert seen == pytest.approx(expected, rel=5e-3)
    assert seen < renyi.get_epsilon(delta=delta) < 1.2 * seen


def analytic_delta(epsilon: float, separation: float) -> float:
    """Return delta of a Gaussian mechanism, formula (6) of Balle and Wang 2018 (arXiv 1805.06530)."""
    tail = norm.logcdf(-separation / 2 - epsilon / separation)
    return float(norm.cdf(separation / 2 - epsilon / separation) - math.exp(epsilon + tail))


@settings(max_examples=6, deadline=None)
@given(noise=st.floats(0.5, 20), count=st.integers(1, 50), delta=st.sampled_from([1e-3, 1e-5]))
def test_gaussian_sums_cost_what_the_analytic_formula_says(noise: float, count: int, delta: float) -> None:
    """Sums over all patients compose to one Gaussian with noise over sqrt(count): epsilon is exact to one per cent."""
    separation = math.sqrt(count) / noise
    epsilon = epsilon_of([Gaussian(noise_multiplier=noise, count=count)], delta)
    steps = SampledGaussian(participation=1.0, noise_multiplier=noise, steps=count)
    assert epsilon_of([steps], delta) == epsilon
    if epsilon > 0.05:
        assert analytic_delta(epsilon, separation) <= delta  # never below the true cost
        assert analytic_delta(0.99 * epsilon - 2e-3, separation) > delta


@pytest.mark.parametrize(("epsilon", "noise"), [(8.0, 0.5431), (3.0, 1.2232), (1.0, 3.1857)])
def test_one_sum_costs_the_known_noise(epsilon: float, noise: float) -> None:
    """Noise of one sum at delta 1e-4: the exact Gaussian calibration (Balle and Wang 2018), computed with scipy."""
    assert calibrate_training(epsilon, 1e-4, 1.0, 1) == pytest.approx(noise, rel=4e-3)


def test_splitting_steps_into_rounds_costs_the_same() -> None:
    """Ten events of ten steps cost what one event of a hundred steps costs."""
    whole = SampledGaussian(participation=0.3, noise_multiplier=2.0, steps=100)
    part = whole.model_copy(update={"steps": 10})
    assert epsilon_of([part] * 10, 1e-3) == epsilon_of([whole], 1e-3)


@settings(max_examples=5, deadline=None)
@given(epsilon=st.floats(0.5, 12), q=st.sampled_from([0.1, 0.5, 1.0]), steps=st.sampled_from([1, 40, 200]))
def test_calibrated_noise_never_exceeds_its_target_and_is_tight(epsilon: float, q: float, steps: int) -> None:
    """The calibrated epsilon is at most the target, and one per cent less noise would exceed it."""
    noise = calibrate_training(epsilon, 1e-3, q, steps)
    cost = epsilon_of([SampledGaussian(participation=q, noise_multiplier=noise, steps=steps)], 1e-3)
    less = epsilon_of([SampledGaussian(participation=q, noise_multiplier=noise * 0.99, steps=steps)], 1e-3)
    assert cost <= epsilon < less or noise <= 0.11


def test_evaluation_points_together_stay_below_their_budget() -> None:
    """The curve's points and the final one cost at most epsilon together, the final one being the most exact."""
    curve, final = calibrate_evaluation(4.0, 1e-3, 5)
    events = [Gaussian(noise_multiplier=curve, count=4), Gaussian(noise_multiplier=final)]
    assert 3.9 < epsilon_of(events, 1e-3) <= 4.0
    assert final < curve


@pytest.mark.parametrize("change", [{"noise_multiplier": 0}, {"participation": 1.1}, {"steps": 0}, {"steps": 1.5}])
def test_impossible_events_cannot_be_made(change: dict[str, float]) -> None:
    """An event is validated when it is made, so that no accountant meets an impossible one."""
    with pytest.raises(ValidationError, match="validation error for SampledGaussian"):
        SampledGaussian.model_validate({"participation": 0.5, "noise_multiplier": 1.0, "steps": 1, **change})


def test_events_survive_the_ledger_and_unknown_ones_are_refused() -> None:
    """An event reads back as itself; a kind that nobody knows is an error, never zero cost."""
    event = SampledGaussian(participation=0.5, noise_multiplier=1.0, steps=3)
    assert event_from_json(event_to_json(event)) == event
    with pytest.raises(InputError, match="privacy event of an unknown form"):
        event_from_json('{"kind": "free-lunch"}')


def test_the_estimate_is_unbiased_and_its_error_is_honest() -> None:
    """Over many draws of the noise the mean is the truth, and the spread is the stated standard error."""
    rng = np.random.default_rng(7)
    truth, patients, noise, sites = 0.8, 60, 0.8, 4
    clean = np.array([patients * (truth - 0.5), patients / 2])
    draws = [
        accuracy_in(clean + rng.normal(0, noise * PATIENT_NORM * sites**0.5, 2), noise_multiplier=noise, sites=sites)
        for _ in range(4000)
    ]
    values = np.array([draw.accuracy for draw in draws])
    assert values.mean() == pytest.approx(truth, abs=0.002)
    assert values.std() == pytest.approx(draws[0].standard_error, rel=0.1)

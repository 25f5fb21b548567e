"""The accountant against others: exact formulas, dp_accounting's PLD and Rényi accountants, Opacus's PRV."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis.rdp import compute_rdp
from scipy.optimize import brentq
from scipy.signal import lfilter
from scipy.stats import norm
from tests.common.privacy.renyi import ORDERS, divergences, epsilon_bounds

from dura_common.privacy import Gaussian, SampledGaussian, epsilon_of, steps_that_fit
from dura_common.privacy.composition import Composition, discounted
from dura_common.privacy.loss import Sampled

Runs = list[tuple[Sampled, int]]


def peer(runs: Runs, delta: float, *, interval: float = 1e-3) -> float:
    """Return epsilon by dp_accounting's PLD, add/remove one."""
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    accountant = PLDAccountant(relation, value_discretization_interval=interval)
    _compose(accountant, runs)
    return float(accountant.get_epsilon(delta))


def _compose(accountant: dp_accounting.PrivacyAccountant, runs: Runs) -> None:
    for mechanism, times in runs:
        event: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
        if mechanism.participation < 1:
            event = dp_accounting.PoissonSampledDpEvent(mechanism.participation, event)
        accountant.compose(event, times)


def exact_gaussian(noise: float, times: int, delta: float) -> float:
    """Solve Balle and Wang 2018 (arXiv 1805.06530), theorem 8, for epsilon."""
    mu = math.sqrt(times) / noise

    def excess(epsilon: float) -> float:
        lower = norm.logcdf(-mu / 2 - epsilon / mu)
        return float(norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon + lower)) - delta

    return float(brentq(excess, 0, 500, xtol=1e-12)) if excess(0) > 0 else 0.0


@settings(max_examples=30, deadline=None)
@given(noise=st.floats(0.3, 200), times=st.integers(1, 5000), delta=st.sampled_from([1e-3, 1e-5, 1e-8]))
def test_the_plain_gaussian_is_exact_and_never_below_the_truth(noise: float, times: int, delta: float) -> None:
    """Without sampling epsilon equals the closed form, rounded up by at most two in ten thousand.

    A little more where delta is so small that the errors of the transforms count.
    """
    assume(times < 100 * noise**2)  # epsilon below about 100
    truth = exact_gaussian(noise, times, delta)
    composition = Composition.of([(Sampled(1.0, noise), times)])
    found = composition.epsilon(delta)
    assert truth * (1 - 1e-9) <= found <= truth * (1 + 2e-4 + 0.05 * composition.floor / delta) + 1e-6


MECHANISM = st.builds(Sampled, st.sampled_from([0.01, 0.1, 0.5, 1.0]), st.floats(2, 30))
RUNS = st.lists(st.tuples(MECHANISM, st.integers(1, 300)), min_size=1, max_size=3)


@settings(max_examples=8, deadline=None)
@given(runs=RUNS, delta=st.sampled_from([1e-3, 1e-6]))
def test_any_mixture_agrees_with_dp_accounting(runs: Runs, delta: float) -> None:
    """Mixed mechanisms cost what dp_accounting's PLD says, which is pessimistic too and a little coarser."""
    interval = min(1e-3, *(mechanism.variance**0.5 / 3 for mechanism, _ in runs))
    found, other = Composition.of(runs).epsilon(delta), peer(runs, delta, interval=interval)
    assert other * 0.98 - 1e-3 <= found <= other * (1 + 1e-3) + 1e-6


@settings(max_examples=12, deadline=None)
@given(runs=RUNS, delta=st.sampled_from([1e-3, 1e-6]))
def test_the_quick_bound_is_a_bound_and_not_far(runs: Runs, delta: float) -> None:
    """Rényi's bound is never below the tight epsilon, and is what dp_accounting's own accountant gives or more."""
    divergence = np.sum([times * divergences(mechanism) for mechanism, times in runs], axis=0)
    bound = float(epsilon_bounds(divergence[None, :], delta)[0])
    accountant = RdpAccountant(list(ORDERS), dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    _compose(accountant, runs)
    assert Composition.of(runs).epsilon(delta) <= bound
    assert bound == pytest.approx(accountant.get_epsilon(delta), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("q", "noise"), [(0.01, 0.8), (0.2, 1.5), (1.0, 3.0)])
def test_divergences_are_those_of_opacus(q: float, noise: float) -> None:
    """Opacus's Rényi divergences, written by others, are the same at every order."""
    expected = compute_rdp(q=q, noise_multiplier=noise, steps=1, orders=list(ORDERS))
    np.testing.assert_allclose(divergences(Sampled(q, noise)), expected, rtol=1e-6)


def test_a_patient_of_many_studies_by_three_accountants() -> None:
    """Six different studies: PLD and PRV agree within a per cent, Rényi lies above, the sum far above."""
    rng = np.random.default_rng(5)
    events = [
        SampledGaussian(
            participation=float(q),
            noise_multiplier=float(q * rng.uniform(25, 60) + 0.7),
            steps=int(rng.integers(50, 300)),
        )
        for q in rng.choice([0.05, 0.1, 0.5], 6)
    ]
    delta = 1e-4
    runs = [(Sampled(event.participation, event.noise_multiplier), event.steps) for event in events]
    prv = PRVAccountant()
    prv.history = [(m.noise_multiplier, m.participation, times) for m, times in runs]
    found = epsilon_of(events, delta)
    assert found == pytest.approx(peer(runs, delta), rel=3e-3)
    assert found == pytest.approx(prv.get_epsilon(delta=delta), rel=0.01)
    rdp = RdpAccountant(list(ORDERS))
    _compose(rdp, runs)
    assert found < rdp.get_epsilon(delta)
    assert found < 0.8 * sum(epsilon_of([event], delta / len(events)) for event in events)


@settings(max_examples=8, deadline=None)
@given(mechanism=MECHANISM, times=st.integers(1, 200))
def test_more_steps_and_less_noise_cost_more(mechanism: Sampled, times: int) -> None:
    """Epsilon grows with steps and falls with noise, beyond the rounding of the grid."""
    epsilon = Composition.of([(mechanism, times)]).epsilon(1e-5)
    assert Composition.of([(mechanism, 2 * times)]).epsilon(1e-5) >= epsilon * (1 - 1e-3)
    quieter = Sampled(mechanism.participation, mechanism.noise_multiplier * 1.1)
    assert Composition.of([(quieter, times)]).epsilon(1e-5) <= epsilon * (1 + 1e-3)


@pytest.mark.parametrize(
    ("q", "noise", "steps", "least"),
    [(1.0, 0.05, 10**6, 2e8), (0.5, 0.05, 1000, 1e5), (0.1, 0.3, 10**5, 3e4), (1e-6, 0.05, 10**6, 1000)],
)
def test_hardly_any_noise_is_never_cheap(q: float, noise: float, steps: int, least: float) -> None:
    """Where exponentials overflow, epsilon is enormous, not zero (half the mean loss is a lower bound here)."""
    assert epsilon_of([SampledGaussian(participation=q, noise_multiplier=noise, steps=steps)], 1e-5) > least


def test_hardly_any_participation_is_cheap_and_no_burden() -> None:
    """Tiny participation and huge noise cost nothing that can be seen, and no memory either."""
    for q, noise in ((1e-300, 1.0), (1e-4, 1e5)):
        assert epsilon_of([SampledGaussian(participation=q, noise_multiplier=noise, steps=100)], 1e-3) < 1e-3


@settings(max_examples=6, deadline=None)
@given(q=st.sampled_from([0.05, 0.3, 1.0]), noise=st.floats(1, 10), epsilon=st.floats(0.5, 8))
def test_the_largest_number_of_steps_fits_and_one_more_does_not(q: float, noise: float, epsilon: float) -> None:
    """Steps from noise and epsilon: the answer costs at most epsilon, its successor more."""
    steps = steps_that_fit(q, noise, epsilon, 1e-4)

    def cost(count: int) -> float:
        return epsilon_of([SampledGaussian(participation=q, noise_multiplier=noise, steps=count)], 1e-4)

    assert steps == 0 or cost(steps) <= epsilon
    assert cost(steps + 1) > epsilon


def test_events_of_both_kinds_compose_together() -> None:
    """An evaluation is a sum without sampling: a training event and an evaluation cost what their mixture costs."""
    events = [SampledGaussian(participation=0.2, noise_multiplier=4, steps=100), Gaussian(noise_multiplier=6, count=2)]
    runs = [(Sampled(0.2, 4.0), 100), (Sampled(1.0, 6.0), 2)]
    assert epsilon_of(events, 1e-3) == pytest.approx(peer(runs, 1e-3, interval=1e-4), rel=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    points=st.integers(1, 4000),
    interval=st.one_of(st.floats(1e-5, 1.0), st.floats(1.0, 300.0)),
    seed=st.integers(0, 2**32 - 1),
)
def test_discounted_sums_are_those_of_the_recursion(points: int, interval: float, seed: int) -> None:
    """Blocks give what one recursive filter gives, over any span of losses."""
    masses = np.random.default_rng(seed).exponential(size=points) ** 8
    expected = lfilter([1.0], [1.0, -math.exp(-interval)], masses[::-1])[::-1]
    assert discounted(masses, interval) == pytest.approx(expected, rel=1e-11)

"""Epsilon from events, and noise from epsilon. The accountant is dp_accounting's PLD, relation add/remove.

The privacy loss distribution is composed numerically with pessimistic rounding (Doroshenko et al. 2022,
arXiv 2207.04380), so the epsilon returned is never below the true one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache

import dp_accounting
from dp_accounting.pld import PLDAccountant

from dura_common.privacy.events import Gaussian, SampledGaussian

DISCRETISATION = 1e-3
"""Interval of the discretised privacy loss; at 1e-4 epsilon falls by less than 0.4 % at ten times the time."""
RELATIVE_TOLERANCE = 2e-3
"""How far below its target a calibrated epsilon may lie."""
LARGEST_NOISE = 1e5
SMALLEST_NOISE = 0.05
"""Below this the discretised distribution of one step outgrows memory, and the promise would be empty anyway: it
counts as none, epsilon infinite."""


def epsilon_of(events: Iterable[SampledGaussian | Gaussian], delta: float) -> float:
    """Return epsilon of all events together on one patient, add/remove one patient.

    Raises:
        ValueError: ``delta`` is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    return _epsilon(_merge(events), delta)


def _merge(
    events: Iterable[SampledGaussian | Gaussian],
) -> tuple[tuple[SampledGaussian | Gaussian, int], ...]:
    """Group equal mechanisms and add up how often they ran: composition does not depend on order."""
    totals: Counter[SampledGaussian | Gaussian] = Counter()
    for event in events:
        if isinstance(event, SampledGaussian):
            totals[event.model_copy(update={"steps": 1})] += event.steps
        else:
            totals[event.model_copy(update={"count": 1})] += event.count
    return tuple(sorted(totals.items(), key=lambda item: item[0].model_dump_json()))


@lru_cache(maxsize=4096)
def _epsilon(merged: tuple[tuple[SampledGaussian | Gaussian, int], ...], delta: float) -> float:
    if not merged:
        return 0.0
    if any(event.noise_multiplier < SMALLEST_NOISE for event, _ in merged):
        return math.inf
    accountant = PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=DISCRETISATION
    )
    for event, times in merged:
        mechanism: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        if isinstance(event, SampledGaussian) and event.participation < 1:
            mechanism = dp_accounting.PoissonSampledDpEvent(event.participation, mechanism)
        accountant.compose(mechanism, times)
    return float(accountant.get_epsilon(delta))


@lru_cache(maxsize=256)
def calibrate_training(epsilon: float, delta: float, participation: float, steps: int) -> float:
    """Return the smallest noise multiplier (to 0.2 %) whose ``steps`` cost at most ``epsilon``.

    Raises:
        ValueError: no noise below 1e5 reaches the target.
    """

    def cost(noise: float) -> float:
        event = SampledGaussian(participation=participation, noise_multiplier=noise, steps=steps)
        return epsilon_of([event], delta)

    return _smallest_noise(cost, epsilon)


@lru_cache(maxsize=256)
def calibrate_evaluation(epsilon: float, delta: float, points: int, final_share: float = 0.6) -> tuple[float, float]:
    """Return the noise multipliers (curve, final) of ``points`` evaluations that cost at most ``epsilon``.

    The final one gets ``final_share`` of the budget in terms of squared inverse noise, in which Gaussian
    mechanisms add up; the points of the learning curve share the rest.
    """

    def parts(noise: float) -> tuple[float, float]:
        if points == 1:
            return noise, noise
        return noise * ((points - 1) / (1 - final_share)) ** 0.5, noise * (1 / final_share) ** 0.5

    def cost(noise: float) -> float:
        curve, final = parts(noise)
        events = [Gaussian(noise_multiplier=final)]
        if points > 1:
            events.append(Gaussian(noise_multiplier=curve, count=points - 1))
        return epsilon_of(events, delta)

    return parts(_smallest_noise(cost, epsilon))


def _smallest_noise(cost: Callable[[float], float], epsilon: float) -> float:
    low, high = 0.0, 1.0
    while cost(high) > epsilon:
        low, high = high, 2 * high
        if high > LARGEST_NOISE:
            raise ValueError(f"no noise multiplier below {LARGEST_NOISE:g} reaches epsilon {epsilon:g}")
    # The invariant cost(high) <= epsilon makes the result safe; the tolerance only decides how tight it is.
    while high - low > RELATIVE_TOLERANCE * high:
        middle = (low + high) / 2
        if middle < SMALLEST_NOISE:
            break
        if cost(middle) > epsilon:
            low = middle
        else:
            high = middle
    return high

"""Epsilon from events, noise from epsilon, and how many steps fit; always "add or remove one patient".

The accountant is the privacy loss distribution (:mod:`dura_common.privacy.composition`), rounded pessimistically: the
epsilon returned is never below the true one. Opacus's PRV accountant, dp_accounting's PLD and Renyi accountants
check it in the tests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from dura_common.errors import InputError
from dura_common.privacy.composition import Composition
from dura_common.privacy.events import Gaussian, SampledGaussian
from dura_common.privacy.loss import Sampled

RELATIVE_TOLERANCE = 2e-3
"""How far below its target a calibrated epsilon may lie."""
LARGEST_NOISE = 1e5
SMALLEST_NOISE = 0.05
"""Below this multiplier, the distribution of one step does not fit into memory, and the promise would be empty anyway.
Such noise counts as no noise: epsilon is infinite."""
MOST_STEPS = 1 << 20
"""Largest number of steps that is looked for."""


def epsilon_of(events: Iterable[SampledGaussian | Gaussian], delta: float) -> float:
    """Return epsilon of all events together on one patient, add/remove one patient.

    Epsilon is infinite where no bound holds, and where delta is below what the accountant's own arithmetic may lose:
    about 1e-11, or 1e-13 for each step if there are more than a hundred (:attr:`.composition.Composition.floor`).

    Raises:
        ValueError: ``delta`` is not between 0 and 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    # Equal mechanisms are one mechanism that ran more often: composition does not depend on order.
    totals: Counter[Sampled] = Counter()
    for event in events:
        mechanism, times = mechanism_of(event)
        totals[mechanism] += times
    return epsilon_of_mechanisms(totals, delta)


def epsilon_of_mechanisms(totals: Mapping[Sampled, int], delta: float) -> float:
    """Return epsilon of mechanisms that each ran a number of times on one patient."""
    items = sorted(totals.items(), key=lambda item: (item[0].participation, item[0].noise_multiplier))
    return _epsilon(tuple(items), delta)


def mechanism_of(event: SampledGaussian | Gaussian) -> tuple[Sampled, int]:
    """Return what an event did once, and how often."""
    if isinstance(event, SampledGaussian):
        return Sampled(event.participation, event.noise_multiplier), event.steps
    return Sampled(1.0, event.noise_multiplier), event.count


@lru_cache(maxsize=4096)
def _epsilon(mechanisms: tuple[tuple[Sampled, int], ...], delta: float) -> float:
    if not mechanisms:
        return 0.0
    if any(mechanism.noise_multiplier < SMALLEST_NOISE for mechanism, _ in mechanisms):
        return math.inf
    return Composition.of(mechanisms).epsilon(delta)


@lru_cache(maxsize=256)
def steps_that_fit(participation: float, noise_multiplier: float, epsilon: float, delta: float) -> int:
    """Return the largest number of steps (at most 2^20) that cost at most ``epsilon``; 0 if not even one does."""

    def fits(steps: int) -> bool:
        event = SampledGaussian(participation=participation, noise_multiplier=noise_multiplier, steps=steps)
        return epsilon_of([event], delta) <= epsilon

    return largest(fits, MOST_STEPS)


def largest(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to ``most`` that fits, where all smaller ones do; 0 if 1 does not."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


@lru_cache(maxsize=256)
def calibrate_training(epsilon: float, delta: float, participation: float, steps: int) -> float:
    """Return the smallest noise multiplier (to 0.2 %) whose ``steps`` cost at most ``epsilon``.

    Raises:
        InputError: no noise below 1e5 reaches the target, for example because delta is too small for the accountant.
    """

    def cost(noise: float) -> float:
        event = SampledGaussian(participation=participation, noise_multiplier=noise, steps=steps)
        return epsilon_of([event], delta)

    return _smallest_noise(cost, epsilon, delta)


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

    return parts(_smallest_noise(cost, epsilon, delta))


def _smallest_noise(cost: Callable[[float], float], epsilon: float, delta: float) -> float:
    low, high = 0.0, 1.0
    while cost(high) > epsilon:
        low, high = high, 2 * high
        if high > LARGEST_NOISE:
            raise InputError(
                f"no noise reaches epsilon {epsilon:g} at delta {delta:g}: this delta may be too small for the "
                "accountant, whose own arithmetic may lose about 1e-11, or 1e-13 for each step",
                hint="Ask for a larger delta or epsilon, or for fewer steps.",
            )
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

"""Certificates of Gaussian differential privacy: numbers that add up over studies chosen one after the other.

A privacy loss distribution composes what was fixed beforehand. When a researcher writes the second study after seeing
the first one's result, a cap on the composed distribution of the studies that happened is no longer a bound (measured:
up to twice the stated delta). Parameters of Gaussian differential privacy may be added up adaptively: with ``mu`` as in
Dong, Roth and Su 2022 (J. R. Stat. Soc. B 84:3), admitting a block while the sum of all mu squared stays at most M
squared is a valid filter, and as tight as composition fixed beforehand (Koskela, Tobaben and Honkela 2022, arXiv
2209.15596; Smith and Thakurta 2022, arXiv 2210.17520).

A block is a number of equal mechanisms that is fixed before the block begins. Let delta_B be its privacy curve, the
worse one of removing and adding a patient. The certificate of the block is the smallest mu with

    delta_B(e) <= leak + (1 - leak) delta_mu(e)    for every e >= 0

and hence, since the curve covers both directions, for every e. Except in an event of probability ``leak``, the block
then reveals no more than N(mu, 1) against N(0, 1) does (Blackwell's theorem). Leaks add up as well. All blocks together
are (epsilon, delta) with ``epsilon = epsilon_of_mu(sqrt(sum of mu squared), delta - sum of leaks)``.

Blocks that are far from Gaussian are expensive: q 0.01, sigma 1 and 100 steps cost 1.4 times their own epsilon; q 0.5
and 40 steps cost at most 1 % more. A plain Gaussian sum costs exactly mu = 1 / sigma, without a leak.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dura_common.errors import InputError
from dura_common.privacy.accounting import SMALLEST_NOISE, mechanism_of
from dura_common.privacy.composition import Composition
from dura_common.privacy.events import Gaussian, SampledGaussian
from dura_common.privacy.loss import Sampled

UNITS = 1 << 40
"""``mu_squared`` counts units of 1 / UNITS. Integers add up without drift, and what is returned is returned exactly."""
POINTS = 2000
"""Number of cells in which two curves are compared. It makes mu about 0.2 % too large."""
FLOORS = 4
"""A leak is at least this many times what the accountant's own arithmetic may lose. A smaller leak would cost more."""
LARGEST_MU = 60.0
"""A larger parameter would promise nothing: at delta 1e-6, its epsilon is above 2,000."""
_MARGIN = 1e-9
"""Share by which mu is enlarged to cover the rounding of float64 in the two curves."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a block costs in the filter over studies. Certificates of blocks add up, field by field."""

    mu_squared: int
    """Square of the parameter of Gaussian differential privacy, in units of 2^-40, rounded up."""
    leak: float
    """Probability of the event in which ``mu_squared`` does not hold. It is subtracted from delta."""

    @property
    def mu(self) -> float:
        """The parameter, rounded up."""
        return mu_of_units(self.mu_squared)


def certificate_of(event: SampledGaussian | Gaussian, leak: float) -> Certificate:
    """Return the certificate of one block (tenths of a second once for each kind of block, then cached).

    Args:
        event: all steps of the block.
        leak: probability that the bound may leave out, for example a thousandth of the policy's delta. A block without
            sampling needs none, and its certificate has the leak 0. A block of so many steps that the accountant's own
            error matters (:data:`FLOORS`) has a larger leak.

    Raises:
        ValueError: the leak is not between 0 and 1.
        InputError: no certificate exists: with a probability above the leak, a patient's loss is infinite or nearly so.
    """
    if not 0 < leak < 1:
        raise ValueError(f"the leak of a block must lie between 0 and 1, got {leak:g}")
    mechanism, times = mechanism_of(event)
    if mechanism.participation == 1:
        # Gaussian sums compose to one with mu^2 = times / sigma^2, exactly.
        return Certificate(math.ceil(UNITS * times / Fraction(mechanism.noise_multiplier) ** 2), 0.0)
    return _certificate(mechanism, times, leak)


@lru_cache(maxsize=4096)
def _certificate(mechanism: Sampled, times: int, leak: float) -> Certificate:
    if mechanism.noise_multiplier < SMALLEST_NOISE:
        raise _none(mechanism, times)
    composition = Composition.of([(mechanism, times)])
    leak = max(leak, FLOORS * composition.floor)
    end = composition.epsilon(leak) if leak < 1 else math.inf
    if math.isinf(end):
        raise _none(mechanism, times)
    # On a cell both curves fall: the left end of the block's against the right end of the Gaussian's is rigorous. From
    # ``end`` on the leak alone covers the block.
    epsilons = np.linspace(0.0, end, POINTS + 1)
    needed = np.maximum((composition.deltas(epsilons[:-1]) - leak) / (1 - leak), 0.0)
    if not needed.any():
        return Certificate(0, leak)  # the leak covers the block: its patients are hardly ever drawn

    def covers(mu: float) -> bool:
        return bool(np.all(gaussian_deltas(mu, epsilons[1:]) >= needed))

    low, high = 0.0, mechanism.participation * math.sqrt(times) / mechanism.noise_multiplier
    while not covers(high):
        low, high = high, 2 * high
        if high > LARGEST_MU:
            raise _none(mechanism, times)
    while high - low > _MARGIN * high:
        middle = (low + high) / 2
        low, high = (low, middle) if covers(middle) else (middle, high)
    return Certificate(math.ceil(UNITS * Fraction(high * (1 + _MARGIN)) ** 2), leak)


def _none(mechanism: Sampled, times: int) -> InputError:
    return InputError(
        f"{times} steps with participation {mechanism.participation:g} and noise multiplier "
        f"{mechanism.noise_multiplier:g} have no Gaussian certificate: sometimes a patient would have no protection",
        hint="Ask for a smaller epsilon, or for a larger participation with more noise.",
    )


def gaussian_deltas(mu: float, epsilons: Vector) -> Vector:
    """Return delta of N(mu, 1) against N(0, 1) at each epsilon >= 0 (Balle and Wang 2018, arXiv 1805.06530)."""
    from scipy.special import log_ndtr, ndtr  # noqa: PLC0415  # scipy takes 30 MiB, and a process that only waits composes nothing

    far: Vector = np.exp(epsilons + log_ndtr(-mu / 2 - epsilons / mu))
    deltas: Vector = np.maximum(ndtr(mu / 2 - epsilons / mu) - far, 0.0)
    return deltas


def mu_of_units(mu_squared: int) -> float:
    """Return the parameter whose square is ``mu_squared`` units, rounded up."""
    return math.nextafter(math.sqrt(mu_squared / UNITS), math.inf) if mu_squared else 0.0


def epsilon_of_mu(mu: float, delta: float) -> float:
    """Return epsilon at ``delta`` of a parameter of Gaussian differential privacy, too high by a share of at most 1e-9.

    Raises:
        ValueError: mu is negative, or delta is not between 0 and 1.
    """
    _check(delta, mu=mu)
    if mu == 0 or _delta(mu, 0.0) <= delta:
        return 0.0
    if math.isinf(mu):
        return math.inf
    low, high = 0.0, 1.0
    while _delta(mu, high) > delta:
        low, high = high, 2 * high
    while high - low > _MARGIN * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _delta(mu, middle) <= delta else (middle, high)
    return high


def mu_of_epsilon(epsilon: float, delta: float) -> float:
    """Return the largest mu of Gaussian differential privacy with ``epsilon`` at ``delta``.

    The result is too low by a share of at most 1e-9.

    Raises:
        ValueError: epsilon is negative, or delta is not between 0 and 1.
    """
    _check(delta, epsilon=epsilon)
    if math.isinf(epsilon):
        return math.inf
    low, high = 0.0, 1.0
    while _delta(high, epsilon) <= delta:
        low, high = high, 2 * high
    while high - low > _MARGIN * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _delta(middle, epsilon) <= delta else (low, middle)
    return low


def _delta(mu: float, epsilon: float) -> float:
    return float(gaussian_deltas(mu, np.array([epsilon]))[0])


def _check(delta: float, **values: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")

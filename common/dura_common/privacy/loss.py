"""Privacy loss of one step: what a sampled Gaussian sum may reveal, as a discrete distribution.

The distribution is rounded pessimistically by connect-the-dots (Doroshenko et al. 2022, arXiv 2207.04380, algorithm 1):
the discrete distribution dominates the true one. So epsilon is never below the truth, not even after composition
(:mod:`dura_common.privacy.composition`).

Adjacency is add/remove one patient: both directions are computed, and the worse one counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEP_REACH = 9.6
"""How many standard deviations of one step's noise the grid covers. A mass of 4e-22 lies beyond."""
_TAIL_ERROR = 2.0**-44
"""Relative error of a normal tail (scipy's ``ndtr``) within reach."""

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A Poisson-sampled Gaussian sum of sensitivity one; participation 1 is the plain Gaussian mechanism."""

    participation: float
    noise_multiplier: float

    @property
    def variance(self) -> float:
        """Rough variance of the loss: chi-squared divergence for much noise, the sampled mean loss for little."""
        q, inverse = self.participation, self.noise_multiplier**-2
        return min(q * inverse, math.log1p(q * q * math.expm1(min(inverse, 700.0))))


@dataclass(frozen=True, slots=True)
class Step:
    """One direction's loss of one step: ``masses[i]`` at the loss ``(lowest + i) * interval``."""

    interval: float
    lowest: int
    masses: Vector
    infinite: float
    """Mass with infinite loss."""


def step_of(mechanism: Sampled, interval: float, *, adding: bool) -> Step:
    """Return the loss of one step when a patient is removed, or added.

    With noise s and participation q, the sum of a data set with the patient is (1 - q) N(0, s^2) + q N(1, s^2), and
    without the patient N(0, s^2) (Mironov et al. 2019, arXiv 1908.10530).
    """
    q, s = mechanism.participation, mechanism.noise_multiplier
    begin, end = _range(mechanism, adding)
    lowest = math.floor(begin / interval)
    highest = max(math.ceil(end / interval), lowest + 1)
    bounds = np.arange(lowest, highest + 1) * interval
    # The x at which a loss is reached: log(1 - q + q exp((2x - 1) / 2s^2)) equals the loss, or its negative.
    ratio = np.expm1(-bounds if adding else bounds) / q
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(ratio > -1, s * s * np.log1p(ratio) + 0.5, -np.inf)
    absent = _between(at / s, descending=adding)
    present = (1 - q) * absent + q * _between((at - 1) / s, descending=adding)
    upper, lower = (absent, present) if adding else (present, absent)
    # Each cell's mass is split between the cell's two ends, so that the masses under both distributions stay the same.
    up = (upper[1:-1] - np.exp(bounds[:-1]) * lower[1:-1]) / -math.expm1(-interval)
    up = np.clip(up, 0.0, upper[1:-1])
    masses = np.zeros(bounds.size)
    masses[0] = upper[0]
    masses[:-1] += upper[1:-1] - up
    masses[1:] += up
    last = min(float(upper[-1]), math.exp(bounds[-1]) * float(lower[-1]))
    masses[-1] += last
    # Errors of the tails and of ``up`` change delta by at most this share, since delta is a sum over tails.
    masses *= 1 + _TAIL_ERROR + 4 * 2.0**-53 / interval
    return Step(interval, lowest, masses, float(upper[-1]) - last)


def _range(mechanism: Sampled, adding: bool) -> tuple[float, float]:
    """Return the lowest and the highest loss of one step within reach."""
    q, s = mechanism.participation, mechanism.noise_multiplier

    def loss(x: float) -> float:
        absent = math.log1p(-q) if q < 1 else -math.inf
        return float(np.logaddexp(absent, math.log(q) + (2 * x - 1) / (2 * s * s)))

    reach = s * STEP_REACH
    return (-loss(reach), -loss(-reach)) if adding else (loss(-reach), loss(1 + reach))


def _between(points: Vector, *, descending: bool) -> Vector:
    """Return the standard normal mass before, between and after ``points``, in their order.

    Differences are taken in the smaller tail, so that a small mass is not lost next to a mass near 1.
    """
    from scipy.special import ndtr  # noqa: PLC0415  # scipy takes 30 MiB, and a process that only waits composes nothing

    ends = np.concatenate([[-np.inf], points[::-1] if descending else points, [np.inf]])
    left, right = ends[:-1], ends[1:]
    masses: Vector = np.where(left > 0, ndtr(-left) - ndtr(-right), ndtr(right) - ndtr(left))
    return masses[::-1] if descending else masses


def length_of(mechanism: Sampled) -> float:
    """Return how long the range of one step's losses is, within reach."""
    ranges = (_range(mechanism, adding) for adding in (False, True))
    return max(highest - lowest for lowest, highest in ranges)

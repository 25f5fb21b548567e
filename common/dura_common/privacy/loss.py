"""Privacy loss distributions: what one step of a mechanism may reveal, and all steps of a patient composed.

The distribution of one step is rounded pessimistically by connect-the-dots (Doroshenko et al. 2022, arXiv
2207.04380, algorithm 1): the discrete one dominates the true one, so that epsilon is never below the truth, also
after composition. Mechanisms compose as products of Fourier transforms (Koskela et al. 2020, arXiv 1906.03049), in
a window that Chernoff's bound holds all but :data:`TAIL` of the mass in; the rest counts as a loss without bound.
dp_accounting does the same one mechanism after the other, ten times as slowly at a hundred studies; it is the
oracle of the tests.

Adjacency is add/remove one patient: both directions are computed, and the worse one counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import ndtr

TAIL = 1e-15
"""Mass outside the window of a composition; added to delta."""
STEP_REACH = 9.6
"""Standard deviations of one step's noise that the grid covers; beyond lies a mass of 4e-22."""
POINTS = 1 << 15
"""Grid points that a composition aims at; with twice as many epsilon falls by less than 0.02 %."""
MOST_POINTS = 1 << 20
"""Grid points spent where single steps are so small that :data:`POINTS` would round them coarsely."""
_REACH = math.log(2 / TAIL)
_BLOCK_WIDTH = 100.0
"""Losses that one block of a discounted sum spans: exp(-100) leaves float64 all its digits."""

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
    """Mass of the loss without bound."""


def step_of(mechanism: Sampled, interval: float, *, adding: bool) -> Step:
    """Return the loss of one step when a patient is removed, or added.

    With noise s and participation q the sum of a data set with the patient is (1 - q) N(0, s^2) + q N(1, s^2),
    without him or her N(0, s^2) (Mironov et al. 2019, arXiv 1908.10530).
    """
    q, s = mechanism.participation, mechanism.noise_multiplier
    begin, end = _range(mechanism, adding)
    lowest = math.floor(begin / interval)
    highest = max(math.ceil(end / interval), lowest + 1)
    bounds = np.arange(lowest, highest + 1) * interval
    # Where a loss is reached: x such that log(1 - q + q exp((2x - 1) / 2s^2)) equals it, or its negative.
    ratio = np.expm1(-bounds if adding else bounds) / q
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(ratio > -1, s * s * np.log1p(ratio) + 0.5, -np.inf)
    absent = _between(at / s, descending=adding)
    present = (1 - q) * absent + q * _between((at - 1) / s, descending=adding)
    upper, lower = (absent, present) if adding else (present, absent)
    # Each cell's mass goes to its two ends such that its masses under both distributions stay.
    up = (upper[1:-1] - np.exp(bounds[:-1]) * lower[1:-1]) / -math.expm1(-interval)
    up = np.clip(up, 0.0, upper[1:-1])
    masses = np.zeros(bounds.size)
    masses[0] = upper[0]
    masses[:-1] += upper[1:-1] - up
    masses[1:] += up
    last = min(float(upper[-1]), math.exp(bounds[-1]) * float(lower[-1]))
    masses[-1] += last
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

    Differences are taken in the smaller tail, so that no small mass is lost beside one.
    """
    ends = np.concatenate([[-np.inf], points[::-1] if descending else points, [np.inf]])
    left, right = ends[:-1], ends[1:]
    masses: Vector = np.where(left > 0, ndtr(-left) - ndtr(-right), ndtr(right) - ndtr(left))
    return masses[::-1] if descending else masses


@dataclass(frozen=True, slots=True)
class Grid:
    """Where losses lie: multiples of ``interval``, at most ``size`` of them (a power of two) in a composition."""

    interval: float
    size: int

    @property
    def orders(self) -> Vector:
        """Orders of Chernoff's bound: good ones for deviations from a 200th to a 10th of the window."""
        deviations = self.size * np.geomspace(1 / 200, 1 / 10, 9)
        return math.sqrt(2 * _REACH) / deviations


@dataclass(frozen=True, slots=True)
class Side:
    """One direction's composition, as products and sums over its steps."""

    spectrum: NDArray[np.complex128]
    lowest: int
    high: Vector
    """log E exp(t S) at the grid's orders; S counts grid points from ``lowest``."""
    low: Vector
    """log E exp(-t S)."""
    finite: float
    """Logarithm of the mass of all finite losses."""

    def __mul__(self, other: Side) -> Side:
        """Compose with another one on the same grid."""
        return Side(
            self.spectrum * other.spectrum,
            self.lowest + other.lowest,
            self.high + other.high,
            self.low + other.low,
            self.finite + other.finite,
        )

    def times(self, count: int) -> Side:
        """Compose with itself."""
        return Side(
            _power(self.spectrum, count), self.lowest * count, self.high * count, self.low * count, self.finite * count
        )

    def window(self, grid: Grid) -> tuple[int, int]:
        """Return indices from ``lowest`` on, outside of which less than ``TAIL`` lies.

        Chernoff: P(S >= b) <= exp(-t b) E exp(t S) for every t > 0, and likewise below.
        """
        orders = grid.orders
        high = float(np.min((self.high + _REACH) / orders))
        low = float(np.max(-(self.low + _REACH) / orders))
        return max(0, math.floor(low)), math.ceil(high)

    def epsilon(self, grid: Grid, delta: float) -> float:
        """Return the smallest epsilon >= 0 whose delta, the hockey-stick divergence, is at most ``delta``."""
        if self.infinite > delta:
            return math.inf
        lowest, masses = self.masses(grid)
        return _epsilon(lowest, masses, grid.interval, self.infinite - delta)

    def deltas(self, grid: Grid, epsilons: Vector) -> Vector:
        """Return delta, the hockey-stick divergence, at each epsilon >= 0."""
        lowest, masses = self.masses(grid)
        # One point without mass above all losses, for every epsilon beyond them.
        masses = np.append(masses, 0.0)
        above = np.cumsum(masses[::-1])[::-1]
        other = discounted(masses, grid.interval)
        at = np.clip(np.ceil(epsilons / grid.interval).astype(np.int64) - lowest, 0, masses.size - 1)
        here = (lowest + at) * grid.interval
        deltas: Vector = self.infinite + np.maximum(
            above[at] - np.exp(np.minimum(epsilons - here, 0.0)) * other[at], 0.0
        )
        return np.where(epsilons <= here, deltas, self.infinite)

    @property
    def infinite(self) -> float:
        """Mass of the loss without bound, and of what lies outside the window."""
        return TAIL - math.expm1(self.finite)

    def masses(self, grid: Grid) -> tuple[int, Vector]:
        """Return the index of the first positive loss in the window, and the masses from there on."""
        low, high = self.window(grid)
        masses = np.roll(fft.irfft(self.spectrum, grid.size), -low)[: high - low + 1]
        lowest = self.lowest + low
        positive = max(0, 1 - lowest)  # a loss of at most 0 is none
        return lowest + positive, np.maximum(masses[positive:], 0.0)


def _epsilon(lowest: int, masses: Vector, interval: float, missing: float) -> float:
    """Solve delta(epsilon) = delta on the grid from index ``lowest`` on; ``missing`` is infinite - delta, at most 0."""
    if not masses.size:
        return 0.0
    # Of all losses from each grid point on: the mass, and exp(loss here) times the mass under the other distribution.
    above = missing + np.cumsum(masses[::-1])[::-1]
    other = discounted(masses, interval)
    # delta(epsilon) = above + delta - exp(epsilon - loss here) other on the cell that ends here; it falls.
    first = int(np.argmax(above <= other))  # there is one: the last point has above = missing + other
    here = (lowest + first) * interval
    if above[first] <= 0 or other[first] <= 0:
        return here if first else 0.0
    return max(0.0, here + math.log(above[first] / other[first]))


def discounted(masses: Vector, interval: float) -> Vector:
    """Return, at each grid point, the sum of all masses from there on times exp(-distance), like ``masses``.

    One cumulative sum of masses times exp(-distance from a block's begin); a block ends before that leaves float64.
    """
    size = max(1, int(_BLOCK_WIDTH / interval))
    result = np.empty_like(masses)
    after = 0.0
    for begin in range((masses.size - 1) // size * size, -1, -size):
        block = masses[begin : begin + size]
        weights = np.exp(-interval * np.arange(block.size))
        sums = np.cumsum((block * weights)[::-1])[::-1] + after * math.exp(-interval * block.size)
        result[begin : begin + size] = sums / weights
        after = float(result[begin])
    return result


def _power(spectrum: NDArray[np.complex128], count: int) -> NDArray[np.complex128]:
    """Return ``spectrum ** count`` by squaring, several times faster than numpy's power of complex numbers."""
    result: NDArray[np.complex128] | None = None
    square = spectrum
    while count:
        if count & 1:
            result = square if result is None else result * square
        count >>= 1
        if count:
            square = square * square
    if result is None:
        raise ValueError("a mechanism runs at least once")
    return result


@lru_cache(maxsize=64)
def _side_of(mechanism: Sampled, grid: Grid, adding: bool) -> Side:
    """Return one step as a composition of one."""
    step = step_of(mechanism, grid.interval, adding=adding)
    exponents = np.outer(grid.orders, np.arange(step.masses.size))
    # Shifted by the largest exponent, which is 0 downwards, so that nothing overflows.
    peak = exponents[:, -1:]
    return Side(
        fft.rfft(step.masses, grid.size),
        step.lowest,
        peak[:, 0] + np.log(np.exp(exponents - peak) @ step.masses),
        np.log(np.exp(-exponents) @ step.masses),
        math.log1p(-step.infinite),
    )


@dataclass(frozen=True, slots=True)
class Composition:
    """Everything that was done to one patient, ready for a question or for one mechanism more."""

    mechanisms: tuple[tuple[Sampled, int], ...]
    grid: Grid
    sides: tuple[Side, ...]
    """Removing and adding the patient; one where they are equal."""

    @classmethod
    def of(cls, mechanisms: Sequence[tuple[Sampled, int]]) -> Self:
        """Compose (mechanism, times) pairs, at least one.

        Any grid is safe, a bad one is slow or loose; this one is chosen from rough moments.
        """
        total = sum(mechanism.variance * times for mechanism, times in mechanisms)
        finest = math.sqrt(min(mechanism.variance for mechanism, _ in mechanisms))
        window = total + 17 * math.sqrt(total) + 2 * finest
        longest = max(_length(mechanism) for mechanism, _ in mechanisms)
        interval = max(min(window / POINTS, finest / 2), max(window, longest) / MOST_POINTS)
        interval = 2.0 ** math.floor(math.log2(interval))
        size = 1 << math.ceil(math.log2(max(window, longest) / interval + 4))
        while True:
            composed = cls._on(Grid(interval, size), mechanisms)
            if composed.complete:
                return composed
            if size < MOST_POINTS:
                size *= 2
            else:
                interval *= 2

    def then(self, mechanism: Sampled, times: int) -> Composition:
        """Return this composition with one mechanism more."""
        both = (*self.mechanisms, (mechanism, times))
        known = len(self.sides) > 1 or mechanism.participation == 1
        if known and _length(mechanism) / self.grid.interval + 4 < self.grid.size:
            sides = tuple(
                side * _side_of(mechanism, self.grid, adding).times(times)
                for side, adding in zip(self.sides, (False, True), strict=False)
            )
            longer = Composition(both, self.grid, sides)
            if longer.complete:
                return longer
        return Composition.of(both)

    def epsilon(self, delta: float) -> float:
        """Return epsilon of all mechanisms together; infinite if no finite one holds."""
        return max(side.epsilon(self.grid, delta) for side in self.sides)

    def deltas(self, epsilons: Vector) -> Vector:
        """Return delta of all mechanisms together at each epsilon >= 0, the worse one of both directions."""
        curves = [side.deltas(self.grid, epsilons) for side in self.sides]
        worst: Vector = np.maximum.reduce(curves)
        return worst

    @property
    def complete(self) -> bool:
        """Whether the windows fit the grid; otherwise masses wrap around."""
        windows = (side.window(self.grid) for side in self.sides)
        return all(high - low < self.grid.size for low, high in windows)

    @classmethod
    def _on(cls, grid: Grid, mechanisms: Sequence[tuple[Sampled, int]]) -> Self:
        directions = (False, True) if any(m.participation < 1 for m, _ in mechanisms) else (False,)
        sides = []
        for adding in directions:
            parts = (_side_of(mechanism, grid, adding).times(times) for mechanism, times in mechanisms)
            total = next(parts)
            for part in parts:
                total *= part
            sides.append(total)
        return cls(tuple(mechanisms), grid, tuple(sides))


def _length(mechanism: Sampled) -> float:
    """Return how far apart the losses of one step lie."""
    ranges = (_range(mechanism, adding) for adding in (False, True))
    return max(highest - lowest for lowest, highest in ranges)

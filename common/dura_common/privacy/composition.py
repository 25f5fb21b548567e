"""Composition of privacy loss distributions: epsilon and delta of everything that was done to one patient.

Mechanisms are composed as products of Fourier transforms (Koskela et al. 2020, arXiv 1906.03049). Chernoff's bound
gives a window that holds all but :data:`TAIL` of the mass. The rest counts as an infinite loss, and so does what
float64 may have lost in the transforms (:attr:`Grid.error`). Without the second part, epsilon fell below the truth for
delta under 1e-10. For a delta below :attr:`Composition.floor`, epsilon is infinite.

dp_accounting composes one mechanism after the other. At a hundred studies this takes ten times as long. The tests use
dp_accounting as their oracle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from dura_common.privacy.loss import Sampled, Vector, length_of, step_of

TAIL = 1e-15
"""Mass outside the window of a composition; added to delta."""
POINTS = 1 << 15
"""Intended number of grid points of a composition. With twice as many, epsilon falls by less than 0.02 %."""
MOST_POINTS = 1 << 20
"""Largest number of grid points, for single steps that are so small that :data:`POINTS` would round them coarsely."""
FINEST = 2.0**-30
"""Smallest interval. In a smaller one, the shares of a cell's two ends would have no digits left. Losses that are so
small do not matter."""
_REACH = math.log(2 / TAIL)
_LEVEL_ERROR = 8 * 2.0**-53
"""Rounding error of one level of a transform, as a share of its input. A product and a sum of complex numbers and an
inexact twiddle factor make 4.3 units of 2^-53."""
_BLOCK_WIDTH = 100.0
"""Range of losses in one block of a discounted sum: exp(-100) leaves float64 all its digits."""

Number = TypeVar("Number", np.float64, np.complex128)


@dataclass(frozen=True, slots=True)
class Grid:
    """The grid of losses: multiples of ``interval``; a composition has at most ``size`` of them (a power of two)."""

    interval: float
    size: int

    @property
    def orders(self) -> Vector:
        """Orders of Chernoff's bound, suited to deviations from a 200th to a 10th of the window."""
        deviations = self.size * np.geomspace(1 / 200, 1 / 10, 9)
        return math.sqrt(2 * _REACH) / deviations

    @property
    def error(self) -> float:
        """Rounding error of a transform of this size, as a share of its input.

        A transform of 2^k values has k levels. Each level adds up parts that are at most as large as the sum of the
        input's magnitudes. This bounds the error of every value, and the root of the sum of squares obeys the same
        bound (Higham 2002, Accuracy and Stability of Numerical Algorithms, theorem 24.2).
        """
        return _LEVEL_ERROR * (math.log2(self.size) + 1)


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
    error: float
    """Bound on the rounding errors of the spectrum: root of the mean of their squares."""

    def __mul__(self, other: Side) -> Side:
        """Compose with another side on the same grid."""
        return Side(
            self.spectrum * other.spectrum,
            self.lowest + other.lowest,
            self.high + other.high,
            self.low + other.low,
            self.finite + other.finite,
            self.error + other.error,  # no value of a spectrum is above the mass, which is at most one
        )

    def times(self, count: int, grid: Grid) -> Side:
        """Compose one step ``count`` times with itself."""
        # If each of ``count`` factors is off by ``grid.error``, the product is off by at most count times this error,
        # times the other factors. The rounding of the products is far smaller than the slack in this bound.
        others = _power(np.abs(self.spectrum) + 2 * grid.error, count - 1)
        return Side(
            _power(self.spectrum, count),
            self.lowest * count,
            self.high * count,
            self.low * count,
            self.finite * count,
            count * grid.error * _root_mean_square(others, grid),
        )

    def lost(self, grid: Grid) -> float:
        """Return what may be missing from delta: the mass with infinite loss, outside the window, or rounded away.

        The mean of squares of a spectrum is the sum of squares of its masses (Parseval), and delta is a sum of at most
        ``size`` masses with weights of at most 1 (Cauchy and Schwarz).
        """
        error = self.error + grid.error * _root_mean_square(np.abs(self.spectrum), grid)
        return TAIL - math.expm1(self.finite) + math.sqrt(grid.size) * error

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
        lost = self.lost(grid)
        if lost > delta:
            return math.inf
        lowest, masses = self.masses(grid)
        return _epsilon(lowest, masses, grid.interval, lost - delta)

    def deltas(self, grid: Grid, epsilons: Vector) -> Vector:
        """Return delta, the hockey-stick divergence, at each epsilon >= 0."""
        lost = self.lost(grid)
        lowest, masses = self.masses(grid)
        # One point without mass above all losses, for an epsilon beyond them.
        masses = np.append(masses, 0.0)
        above = _sums(masses)
        other = discounted(masses, grid.interval)
        at = np.clip(np.ceil(epsilons / grid.interval).astype(np.int64) - lowest, 0, masses.size - 1)
        here = (lowest + at) * grid.interval
        deltas: Vector = lost + np.maximum(above[at] - np.exp(np.minimum(epsilons - here, 0.0)) * other[at], 0.0)
        return np.minimum(np.where(epsilons <= here, deltas, lost), 1.0)

    def masses(self, grid: Grid) -> tuple[int, Vector]:
        """Return the index of the first positive loss in the window, and the masses from there on."""
        from scipy import fft  # noqa: PLC0415  # scipy takes 30 MiB, and a process that only waits composes nothing

        low, high = self.window(grid)
        masses = np.roll(fft.irfft(self.spectrum, grid.size), -low)[: high - low + 1]
        lowest = self.lowest + low
        positive = max(0, 1 - lowest)  # losses of at most 0 do not count
        return lowest + positive, np.maximum(masses[positive:], 0.0)


def _epsilon(lowest: int, masses: Vector, interval: float, missing: float) -> float:
    """Solve delta(epsilon) = delta on the grid; ``missing`` is lost mass - delta, at most 0."""
    if not masses.size:
        return 0.0
    # For all losses from each grid point on: the mass, and exp(loss here) times the mass under the other distribution.
    above = missing + _sums(masses)
    other = discounted(masses, interval)
    # On the cell that ends here, delta(epsilon) = above + delta - exp(epsilon - loss here) other, and it falls.
    first = int(np.argmax(above <= other))  # there is one: the last point has above = missing + other
    here = (lowest + first) * interval
    if above[first] <= 0 or other[first] <= 0:
        return here if first else 0.0
    return max(0.0, here + math.log(above[first] / other[first]))


def _sums(masses: Vector) -> Vector:
    """Return, at each grid point, the sum of all masses from there on, plus what rounding may have lost.

    The discounted sums are subtracted from these sums, so the addition also covers the rounding of those.
    """
    sums: Vector = np.cumsum(masses[::-1])[::-1] * (1 + masses.size * 2.0**-51)
    return sums


def _root_mean_square(half: Vector, grid: Grid) -> float:
    """Return a bound on the root of the mean of squares of a spectrum, from the half that a real transform gives."""
    return math.sqrt(2 * float(np.square(half).sum()) / grid.size)


def discounted(masses: Vector, interval: float) -> Vector:
    """Return, at each grid point, the sum of all masses from there on times exp(-distance), like ``masses``.

    A block is one cumulative sum of masses times exp(-distance from the block's beginning). It ends before this factor
    is too small for float64.
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


def _power(values: NDArray[Number], count: int) -> NDArray[Number]:
    """Return ``values ** count`` by squaring, several times faster than numpy's power."""
    result = np.ones_like(values)
    square = values
    while count:
        if count & 1:
            result = result * square
        count >>= 1
        if count:
            square = square * square
    return result


@lru_cache(maxsize=64)
def _side_of(mechanism: Sampled, grid: Grid, adding: bool) -> Side:
    """Return a single step as a composition."""
    from scipy import fft  # noqa: PLC0415  # idem

    step = step_of(mechanism, grid.interval, adding=adding)
    exponents = np.outer(grid.orders, np.arange(step.masses.size))
    # Shifted by the largest exponent, so that nothing overflows; in the other direction, this exponent is 0.
    peak = exponents[:, -1:]
    return Side(
        fft.rfft(step.masses, grid.size),
        step.lowest,
        peak[:, 0] + np.log(np.exp(exponents - peak) @ step.masses),
        np.log(np.exp(-exponents) @ step.masses),
        math.log1p(-step.infinite),
        grid.error,
    )


@dataclass(frozen=True, slots=True)
class Composition:
    """Everything that was done to one patient, ready for questions."""

    mechanisms: tuple[tuple[Sampled, int], ...]
    grid: Grid
    sides: tuple[Side, ...]
    """Removing and adding the patient; a single side where both are equal."""

    @classmethod
    def of(cls, mechanisms: Sequence[tuple[Sampled, int]]) -> Self:
        """Compose (mechanism, times) pairs, at least one.

        Every grid is safe; a bad grid is slow or loose. This grid is chosen from rough moments.
        """
        total = sum(mechanism.variance * times for mechanism, times in mechanisms)
        finest = math.sqrt(min(mechanism.variance for mechanism, _ in mechanisms))
        window = total + 17 * math.sqrt(total) + 2 * finest
        longest = max(length_of(mechanism) for mechanism, _ in mechanisms)
        interval = max(min(window / POINTS, finest / 2), max(window, longest) / MOST_POINTS)
        interval = max(2.0 ** math.floor(math.log2(interval)), FINEST)
        size = 1 << math.ceil(math.log2(max(window, longest) / interval + 4))
        while True:
            composed = cls._on(Grid(interval, size), mechanisms)
            if composed.complete:
                return composed
            if size < MOST_POINTS:
                size *= 2
            else:
                interval *= 2

    def epsilon(self, delta: float) -> float:
        """Return epsilon of all mechanisms together; infinite if no finite epsilon holds."""
        return max(side.epsilon(self.grid, delta) for side in self.sides)

    def deltas(self, epsilons: Vector) -> Vector:
        """Return delta of all mechanisms together at each epsilon >= 0, in the worse one of the two directions."""
        curves = [side.deltas(self.grid, epsilons) for side in self.sides]
        worst: Vector = np.maximum.reduce(curves)
        return worst

    @property
    def floor(self) -> float:
        """The smallest delta for which the accountant can say anything; below it, epsilon is infinite."""
        return max(side.lost(self.grid) for side in self.sides)

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
            parts = (_side_of(mechanism, grid, adding).times(times, grid) for mechanism, times in mechanisms)
            total = next(parts)
            for part in parts:
                total *= part
            sides.append(total)
        return cls(tuple(mechanisms), grid, tuple(sides))

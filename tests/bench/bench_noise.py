"""What exact noise costs: the rounded Gaussian drawn exactly, over the sampler whose tails ended at 53 bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tests.bench.line import Line, interleaved

from dura_client.training.secure_random import integer_gaussian, uniform

DEVIATION = 3.3e4
REPEATS = {1_300: 400, 2_500: 400, 40_000: 60, 1_000_000: 9}
"""Values of a vector, and how often it is drawn."""


def by_53_bits(count: int, deviation: float) -> NDArray[np.int64]:
    """Return rounded values of Box and Muller 1958 on 53-bit numbers in float64, what was used at first."""
    half = (count + 1) // 2
    values = uniform(2 * half)
    radius = np.sqrt(-2.0 * np.log(values[:half]))
    angle = 2.0 * np.pi * values[half:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    return np.rint(normal * deviation).astype(np.int64)


def ratio(count: int) -> Line:
    """Measure a vector drawn exactly over one of 53 bits."""
    times = interleaved(
        REPEATS[count],
        exact=lambda: integer_gaussian(count, DEVIATION),
        float53=lambda: by_53_bits(count, DEVIATION),
    )
    return Line(f"noise_ratio.{count}", times["exact"] / times["float53"], "ratio", {"seconds": times, "bound": 1.36})


BENCHES: dict[str, Callable[[], Line]] = {f"noise_ratio.{count}": lambda count=count: ratio(count) for count in REPEATS}

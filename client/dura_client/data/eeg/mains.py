"""How strongly the mains show in a spectrum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

LINES = (50.0, 60.0)
"""Hz."""
SHOWS = 4.0
"""Times the neighbours' power at which the mains show."""
INSIDE, BESIDE = 0.5, (2.0, 5.0)
"""Hz around the line that belong to it, and that it is compared with."""


def peaks(frequencies: NDArray[np.float64], power: NDArray[np.float64]) -> dict[float, float]:
    """Return for each line frequency its power over the neighbours' median, where the spectrum reaches so far."""
    found = {}
    for line in LINES:
        apart = np.abs(frequencies - line)
        inside, beside = apart <= INSIDE, (apart >= BESIDE[0]) & (apart <= BESIDE[1])
        if inside.any() and beside.any() and frequencies[-1] >= line + BESIDE[1] and power.any():
            found[line] = float(power[inside].max() / max(np.median(power[beside]), 1e-40))
    return found


def shown(strength: Mapping[float, float]) -> float | None:
    """Return the line frequency that a spectrum shows, or None."""
    best = max(strength, key=lambda line: strength[line], default=None)
    return best if best is not None and strength[best] >= SHOWS else None

"""Whether amplitudes are those of scalp EEG: wrong units show there, and nowhere else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PLAUSIBLE_MICROVOLTS = (0.5, 500.0)
"""Range of the median absolute value of scalp EEG after its offset is removed."""
FACTORS = (1.0, 1e-3, 1e-6, 1e3, 1e6, 1e-9, 1e9)


def amplitude_of(values: NDArray[np.float64]) -> float:
    """Return the median absolute value in microvolts of a signal (channels, samples) in volts, offsets removed."""
    if not values.size:
        return float("nan")
    centred = values - np.median(values, axis=1, keepdims=True)
    return float(np.median(np.abs(centred)) * 1e6)


def is_plausible(microvolts: float) -> bool:
    """Tell whether a median amplitude may be that of scalp EEG."""
    low, high = PLAUSIBLE_MICROVOLTS
    return low <= microvolts <= high


def suggest_scale(microvolts: float) -> float:
    """Return the power of a thousand that brings a median amplitude into the plausible range, or 1."""
    return next((factor for factor in FACTORS if is_plausible(microvolts * factor)), 1.0)

"""What sensors measure, in which unit, and whether amplitudes are theirs: wrong units show there, and nowhere else.

Recordings are held in volts, of MEG in nanotesla (magnetometers) and nanotesla per centimetre (gradiometers). A
millionth of these, a microvolt, a femtotesla or a femtotesla per centimetre, is the size of what a brain does at a
sensor, so the same constants serve both. The factors are those of the units and the same for every patient and site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MILLIONTH = 1e6
ENOUGH_SAMPLES = 4096
"""Of a channel: its median size is known to about a hundredth then, and a wrong unit is wrong by a thousand."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What the sensors of one source measure."""

    source: str
    name: str
    """Of what is measured, for people."""
    unit: str
    """In which sizes are shown: a millionth of what recordings are held in."""
    plausible: tuple[float, float]
    """Range, in this unit, of the median absolute value of a recording after its offset is removed."""
    factors: tuple[float, ...]
    """By which a wrong unit may have multiplied the values."""

    def is_plausible(self, size: float) -> bool:
        """Tell whether a median amplitude may be that of these sensors."""
        low, high = self.plausible
        return low <= size <= high

    def suggest_scale(self, size: float) -> float:
        """Return the factor of a wrong unit that would bring a median amplitude into the plausible range, or 1."""
        return next((factor for factor in self.factors if self.is_plausible(size * factor)), 1.0)


EEG = Measure("eeg", "scalp EEG", "uV", (0.5, 500.0), (1.0, 1e-3, 1e-6, 1e3, 1e6, 1e-9, 1e9))
MEG = Measure("meg", "MEG", "fT or fT/cm", (1.0, 1e5), (1.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1e3))
"""From a quiet gradiometer to magnetometers in a room that is poorly shielded; a unit is wrong by far more."""
MEASURES: Mapping[str, Measure] = {measure.source: measure for measure in (EEG, MEG)}
HELD = {"T": 1e9, "T/m": 1e7}
"""From the unit of a magnetic sensor to what recordings are held in."""


def amplitude_of(values: NDArray[np.float64]) -> float:
    """Return the median absolute value of a signal (channels, samples), offsets removed, in millionths.

    Of a long signal it looks at evenly spaced samples; their distance is odd, so that it is no period of the mains.
    """
    if not values.size:
        return float("nan")
    thin = values[:, :: values.shape[1] // ENOUGH_SAMPLES | 1]
    sizes = thin - np.median(thin, axis=1, keepdims=True)
    np.abs(sizes, out=sizes)
    return float(np.median(sizes, overwrite_input=True) * MILLIONTH)


def together(sorts: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the indices of the sensors of each sort: only sizes of one sort can be compared."""
    names = np.array(sorts)
    return [np.flatnonzero(names == sort) for sort in sorted(set(sorts))]

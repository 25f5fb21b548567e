"""Accuracy from noisy sums, with its standard error.

A patient with share s of correct windows adds (s - 1/2, 1/2) to the two sums, so one patient changes them by at
most sqrt(1/2) in L2 norm. The number of patients is private like their scores, so both sums are noised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATIENT_NORM = math.sqrt(0.5)
"""Largest L2 norm of what one patient adds: |s - 1/2| <= 1/2 and 1/2."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A released accuracy."""

    accuracy: float
    standard_error: float
    """Of the privacy noise alone; the sampling of patients comes on top."""


def accuracy_from(sums: NDArray[np.float64], *, noise_multiplier: float | None, sites: int) -> Estimate:
    """Return the accuracy in the added-up sums (2,) of ``sites`` sites, each with its own noise."""
    centred, halves = float(sums[0]), float(sums[1])
    fewest = 0.25 if noise_multiplier is None else 1.0
    usable = math.isfinite(centred) and math.isfinite(halves)
    if not usable or halves < fewest:  # below two patients' worth noised sums are nothing but noise
        return Estimate(0.5, 0.5)
    patients = 2 * halves
    accuracy = 0.5 + centred / patients
    deviation = 0.0 if noise_multiplier is None else noise_multiplier * PATIENT_NORM * math.sqrt(sites)
    slope = centred / patients
    # First-order error of c/p with independent noise d on c and 2d on p.
    error = deviation / patients * math.sqrt(1 + 4 * slope**2)
    return Estimate(min(1.0, max(0.0, accuracy)), error)

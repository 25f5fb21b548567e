"""Outcomes of evaluations, by the path that production takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dura_common.outputs.scores import PATIENT_NORM, Section
from dura_server.studies.estimate import Estimate, outcome_from

ACCURACY = (Section("accuracy", 0, 2, PATIENT_NORM, 1.0),)


def accuracy_in(sums: NDArray[np.float64], *, noise_multiplier: float | None, sites: int) -> Estimate:
    """Return the accuracy in sums of which it is the only output, float64 (2,)."""
    return outcome_from(sums, ACCURACY, noise_multiplier=noise_multiplier, sites=sites, smallest_cell=1).accuracy

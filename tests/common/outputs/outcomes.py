"""Outcomes of evaluations, by the path that production takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dura_client.training.clipping import add_noise
from dura_common.outputs.scores import PATIENT_NORM, WHOLE, Section, from_integers, length_of, to_integers
from dura_server.studies.estimate import Estimate, outcome_from

ACCURACY = (Section("accuracy", 0, 2, PATIENT_NORM, 1.0),)


def accuracy_in(sums: NDArray[np.float64], *, noise_multiplier: float | None, sites: int) -> Estimate:
    """Return the accuracy in sums of which it is the only output, float64 (2,)."""
    return outcome_from(sums, ACCURACY, noise_multiplier=noise_multiplier, sites=sites, smallest_cell=1).accuracy


def noised(
    contributions: Sequence[NDArray[np.float64]], parts: tuple[Section, ...], multiplier: float
) -> NDArray[np.float64]:
    """Return the noised sums of patients' contributions in the outputs' own units, as a site and a report make them."""
    rows = np.stack(contributions) if len(contributions) else np.zeros((0, length_of(parts)))
    return from_integers(add_noise(to_integers(rows, parts), multiplier, whole=WHOLE), parts)

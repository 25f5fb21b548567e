"""What training and evaluation see of a patient; a module of its own, so that a review need not load torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TrainingPatient:
    """One patient's windows, float32 (windows, channels, samples), and labels (windows,).

    Labels are int64 where the study asks for a class, and float32 from -1 to 1 where it asks for a value.
    """

    windows: NDArray[np.float32]
    labels: NDArray[np.int64] | NDArray[np.float32]

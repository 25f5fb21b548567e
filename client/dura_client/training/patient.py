"""What training and evaluation see of a patient; a module of its own, so that a review need not load torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TrainingPatient:
    """One patient's windows, float32 (windows, channels, samples), and labels, int64 (windows,)."""

    windows: NDArray[np.float32]
    labels: NDArray[np.int64]

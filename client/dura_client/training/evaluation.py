"""Scores of held-out patients, and the two noisy sums in which they leave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dura_client.training.patient import TrainingPatient
from dura_client.training.secure_random import integer_gaussian
from dura_common.privacy.estimate import PATIENT_NORM

GRID_BITS = 20
BATCH = 256
"""Windows scored at once: bounds memory for a patient with hours of recordings."""


def score(network: nn.Module, patient: TrainingPatient) -> float:
    """Return the share of a patient's windows that the model gets right, in [0, 1]; one half without windows."""
    if len(patient.labels) == 0:
        return 0.5
    network.eval()
    right = 0
    with torch.no_grad():
        for begin in range(0, len(patient.labels), BATCH):
            part = slice(begin, begin + BATCH)
            logits = network(torch.from_numpy(np.ascontiguousarray(patient.windows[part])))
            right += int((logits.argmax(1).numpy() == patient.labels[part]).sum())
    return right / len(patient.labels)


def release_sums(scores: Sequence[float], noise_multiplier: float | None) -> NDArray[np.float32]:
    """Return the sums of (s - 1/2, 1/2) over patients, float32 (2,), with Gaussian noise.

    The noise has standard deviation ``noise_multiplier`` times the largest norm of one patient's part; None adds
    none and is for public data only. Parts are cut to an integer grid towards zero before noise (see
    :mod:`dura_client.training.optimiser`).
    """
    bounded = np.clip(np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.5), 0.0, 1.0)
    parts = np.stack([bounded - 0.5, np.full_like(bounded, 0.5)], axis=1).reshape(-1, 2)
    grid = PATIENT_NORM * 2.0**-GRID_BITS
    total: NDArray[np.int64] = np.trunc(parts / grid).sum(axis=0).astype(np.int64)
    if noise_multiplier is not None:
        total = total + integer_gaussian(2, noise_multiplier * 2.0**GRID_BITS)
    return (total * grid).astype(np.float32)

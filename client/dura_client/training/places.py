"""Places: a step that computes as many patients as could be drawn, whoever was drawn.

The time of a step tells how many patients were drawn (correlation 0.995), and how many windows they have. So a step has
a fixed number of places with K windows each. A drawn patient takes a place; windows that a patient does not have, whole
patients that cannot be read, and the places that stay empty are dummies: ordinary numbers with the weight zero. Their
gradients are zeros, so they change no bit of the sum (docs/decisions/0036-time-of-a-step.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from scipy.special import bdtrc
from torch import Tensor

from dura_client.training.gradients import Batch
from dura_common.study import Study

CHANCE = 1e-9
"""Probability that more patients than places are drawn in any step of a study. They are computed all the same; then
one step takes longer."""


def most_drawn(patients: int, participation: float, steps: int) -> int:
    """Return the smallest number that a draw exceeds with a probability of at most :data:`CHANCE` in all steps."""
    low, high = math.floor(patients * participation) - 1, patients
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if steps * bdtrc(middle, patients, participation) <= CHANCE else (middle, high)
    return high


def places_of(study: Study, site: str, patients: int) -> int:
    """Return how many patients each of a site's steps computes, from public numbers.

    Args:
        study: the approved study.
        site: whose steps.
        patients: on the training side here. Only if these are more than the site declares do they matter.
    """
    most = max(study.sites[site], patients)
    return most_drawn(most, study.privacy.participation, study.paid_steps)


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one step."""

    count: int
    filler: Tensor
    """Windows of a dummy, float32 (K, channels, samples)."""
    labels: Tensor
    """Labels of a dummy, (K,): as the study's labels, which are numbers of classes or values."""

    @classmethod
    def of(cls, study: Study, count: int, *, device: str = "cpu") -> Self:
        """Return places for a study's windows."""
        shape = (study.privacy.windows_per_patient, *study.data.shape)
        ordinary = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        kind = torch.float32 if study.data.target == "value" else torch.int64
        labels = torch.zeros(len(ordinary), dtype=kind, device=device)
        return cls(count, torch.from_numpy(ordinary).to(device), labels)

    def fill(self, batches: Iterator[Batch | None]) -> Iterator[Batch]:
        """Return what the places hold: drawn patients (None for who cannot be read), then dummies."""
        taken = 0
        for batch in batches:
            taken += 1
            yield self._padded(batch)
        for _ in range(taken, self.count):
            yield self._padded(None)

    def _padded(self, batch: Batch | None) -> Batch:
        if batch is None:
            batch = Batch(self.filler[:0], self.labels[:0], torch.zeros(0))
        present, device = len(batch.labels), self.filler.device
        return Batch(
            torch.cat([batch.windows, self.filler[present:]]),
            torch.cat([batch.labels.to(device), self.labels[present:]]),
            torch.cat([batch.weights.to(device), torch.zeros(len(self.filler) - present, device=device)]),
        )

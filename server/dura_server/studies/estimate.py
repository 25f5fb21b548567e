"""Accuracy, confusion and area under the curve from noisy sums, with the standard error of the noise.

The layout of the sums is in :mod:`dura_common.outputs.scores`. The number of patients is as private as their scores.
Every estimate therefore divides one noisy sum by another. Standard errors are first-order approximations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_common.outputs.scores import Section

CERTAIN = 2.0
"""A cell of a confusion matrix is shown only if it exceeds this many standard errors of the noise."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A released accuracy."""

    accuracy: float
    standard_error: float
    """The standard error of the privacy noise alone, without the error from the sampling of patients."""


@dataclass(frozen=True, slots=True)
class Area:
    """A released area under the ROC curve."""

    area: float
    standard_error: float
    """The standard error of the privacy noise alone."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """A released confusion matrix; rows are true classes, cells count patients (a patient's windows share one)."""

    cells: tuple[tuple[float | None, ...], ...]
    """None for a cell with fewer patients than the study's smallest cell, or with less than the noise."""
    standard_error: float
    """The standard error of every cell, from the privacy noise alone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All outputs of one evaluation. Outputs that the study did not ask for are None."""

    accuracy: Estimate
    confusion: Confusion | None = None
    auc: Area | None = None
    explained: float | None = None
    """Of a value: the share of its variance that the model explains; None also where the noise hides it."""


def outcome_from(
    sums: NDArray[np.float64],
    parts: tuple[Section, ...],
    *,
    noise_multiplier: float | None,
    sites: int,
    smallest_cell: int,
) -> Outcome:
    """Return the outputs from the sums (length,) over ``sites`` sites, each of which added its own noise.

    Args:
        sums: in the units of the outputs.
        parts: the layout of the sums.
        noise_multiplier: of each site's noise; None without noise (public data).
        sites: how many independent noises are in the sums; 1 for shared noise.
        smallest_cell: fewest patients that a cell of the confusion matrix may show.
    """
    accuracy, confusion, auc, explained = Estimate(0.5, 0.5), None, None, None
    people = 0.0
    for part in parts:
        values = sums[part.place]
        deviation = 0.0 if noise_multiplier is None else noise_multiplier * part.unit * math.sqrt(sites)
        if part.name in {"accuracy", "error"}:
            accuracy = _accuracy(values, deviation, noisy=noise_multiplier is not None)
            people = 2 * float(values[1])
        elif part.name == "confusion":
            confusion = _confusion(values, deviation, smallest_cell)
        elif part.name == "fit":
            explained = _explained(values, people, deviation)
        else:
            auc = _area(values, deviation)
    return Outcome(accuracy, confusion, auc, explained)


def _explained(sums: NDArray[np.float64], people: float, deviation: float) -> float | None:
    """Return one minus the squared error over the variance; None if the variance is not above its noise."""
    squared, first, second = (float(value) for value in sums)
    if not np.isfinite(sums).all() or people < 1:
        return None
    variance = second - first**2 / people
    if variance <= max(CERTAIN * deviation, 0.0):
        return None
    return min(1.0, 1 - squared / variance)


def _accuracy(sums: NDArray[np.float64], deviation: float, *, noisy: bool) -> Estimate:
    centred, halves = float(sums[0]), float(sums[1])
    fewest = 1.0 if noisy else 0.25
    usable = math.isfinite(centred) and math.isfinite(halves)
    if not usable or halves < fewest:  # sums that are worth less than two patients are nothing but noise
        return Estimate(0.5, 0.5)
    patients = 2 * halves
    accuracy = 0.5 + centred / patients
    slope = centred / patients
    # First-order error of c/p with independent noise d on c and 2d on p.
    error = deviation / patients * math.sqrt(1 + 4 * slope**2)
    return Estimate(min(1.0, max(0.0, accuracy)), error)


def _confusion(sums: NDArray[np.float64], deviation: float, smallest: int) -> Confusion:
    size = math.isqrt(sums.size)
    shown = max(float(smallest), CERTAIN * deviation)
    cells = [float(value) if math.isfinite(value) and value >= shown else None for value in sums]
    return Confusion(tuple(tuple(cells[row * size : (row + 1) * size]) for row in range(size)), deviation)


def _area(sums: NDArray[np.float64], deviation: float) -> Area:
    """Return the area under the curve from (2, bins) shares of windows by class and score; class 1 scores higher."""
    negative, positive = sums.reshape(2, -1)
    patients = float(negative.sum()), float(positive.sum())
    spread = deviation * math.sqrt(negative.size)
    if not np.isfinite(sums).all() or min(patients) <= max(CERTAIN * spread, 0.0):
        return Area(0.5, 0.5)  # a class that is smaller than the noise has no curve
    bins = np.arange(negative.size)
    wins = (bins[:, None] > bins[None, :]) + 0.5 * np.eye(negative.size)  # (positive's bin, negative's bin)
    of_positive = wins @ negative / patients[0]
    of_negative = positive @ wins / patients[1]
    area = float(positive @ of_positive / patients[1])
    slopes = np.concatenate([(of_negative - area) / patients[0], (of_positive - area) / patients[1]])
    return Area(min(1.0, max(0.0, area)), deviation * float(np.linalg.norm(slopes)))

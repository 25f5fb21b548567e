"""The release of an evaluation: sums over held-out patients, in one vector of declared length.

Each output is a part of the vector. The contribution of one patient to a part has a bounded L2 norm. All parts of a
patient together are scaled to at most one, so a whole evaluation is one Gaussian sum with one price:

- ``accuracy``: (s - 1/2, 1/2) for the share s of a patient's windows that the model classifies correctly;
- ``confusion``: the patient's windows by true and predicted class, as shares that add up to one;
- ``auc``: the patient's windows by class and score, in bins, as shares that add up to one;
- ``error``, for a value: (s - 1/2, 1/2) with s = 1 - |e|, the mean error as a share of the range between the bounds;
- ``fit``, for a value: means over the patient's windows of the squared error, the value and its square, on a scale from
  -1 to 1.

Before noise is added, sums are integers on a grid. Truncation can only shorten a patient's part, and integer noise has
the exact Gaussian guarantee. The points of the learning curve contain only the accuracy; the last one has all outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_common.study import Evaluation, Study

GRID_BITS = 20
WHOLE = 1 << GRID_BITS
"""The largest L2 norm of one patient's parts together, in steps of the grid."""
ROUNDING = 2.0**-40
"""A safety margin, so that no rounding of float64 can push a patient's parts above the bound."""
LARGEST_SQUARE = 4.0
"""The largest squared error on the scale from -1 to 1; a prediction outside the bounds counts as the bound."""
PATIENT_NORM = math.sqrt(0.5)
"""The largest L2 norm of one patient's contribution to the accuracy: |s - 1/2| <= 1/2 and 1/2."""

FIT_NORM = math.sqrt(LARGEST_SQUARE**2 + 2)
"""The largest L2 norm of one patient's contribution to the fit."""


@dataclass(frozen=True, slots=True)
class Section:
    """One output's place in the vector."""

    name: str
    begin: int
    length: int
    norm: float
    """Largest L2 norm of one patient's contribution, in the output's own unit."""
    share: float
    """The share of this part in the squared norm of all parts; the shares add up to one."""

    @property
    def unit(self) -> float:
        """The output's own unit in units of the joint sensitivity; one noise multiplier is this much noise."""
        return self.norm / math.sqrt(self.share)

    @property
    def place(self) -> slice:
        """The place of the part in the vector."""
        return slice(self.begin, self.begin + self.length)


def parts_of(study: Study, round_number: int) -> tuple[Section, ...]:
    """Return the parts that are released after one round (1-based), in order."""
    final = round_number == study.training.rounds
    names = study.evaluation.outputs if final else study.evaluation.curve
    return layout(study.evaluation, study.data.outputs, names)


def layout(evaluation: Evaluation, classes: int, names: tuple[str, ...]) -> tuple[Section, ...]:
    """Return the named outputs as parts of one vector."""
    sizes = {
        "accuracy": (2, PATIENT_NORM),
        "confusion": (classes * classes, 1.0),
        "auc": (2 * evaluation.bins, 1.0),
        "error": (2, PATIENT_NORM),
        "fit": (3, FIT_NORM),
    }
    parts: list[Section] = []
    begin = 0
    for name in names:
        length, norm = sizes[name]
        parts.append(Section(name, begin, length, norm, 1 / len(names)))
        begin += length
    return tuple(parts)


def length_of(parts: tuple[Section, ...]) -> int:
    """Return the length of the vector that is released."""
    return sum(part.length for part in parts)


def to_integers(contributions: NDArray[np.float64], parts: tuple[Section, ...]) -> NDArray[np.int64]:
    """Return the sum over patients as integers, int64 (length,): one patient moves it by at most :data:`WHOLE`.

    Args:
        contributions: (patients, length) in the units of the outputs. A part that is longer than its norm is clipped.
        A part that is not finite counts as zero.
        parts: the layout.
    """
    total = np.zeros(length_of(parts), dtype=np.int64)
    for part in parts:
        rows = contributions[:, part.place]
        with np.errstate(over="ignore"):  # a value too large to square gives an infinite norm and counts as zero
            norms = np.sqrt(np.square(rows).sum(axis=1))
        usable = np.isfinite(norms)
        factors = np.minimum(1.0, part.norm * (1 - ROUNDING) / np.maximum(np.where(usable, norms, 1.0), 1e-300))
        clipped = np.where(usable[:, None], rows, 0.0) * factors[:, None]
        total[part.place] = np.trunc(clipped / part.unit * WHOLE).sum(axis=0).astype(np.int64)
    return total


def from_integers(total: NDArray[np.int64], parts: tuple[Section, ...]) -> NDArray[np.float64]:
    """Return sums in the outputs' own units, float64 (length,), from integers with or without noise."""
    sums = total.astype(np.float64) / WHOLE
    for part in parts:
        sums[part.place] *= part.unit
    return sums

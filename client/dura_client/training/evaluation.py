"""Scores of held-out patients, and the noisy sums that are released in their place.

As in training, the pieces are separate: contributions of patients, their integer sum, noise, and the conversion back to
units. So the noise may be a site's own or shared by many. Nothing else of an evaluation is released: no number of
patients, no loss, no smallest or largest score, and no early stop that depends on any of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dura_client.training.patient import TrainingPatient
from dura_common.outputs.scores import Section, length_of, parts_of
from dura_common.study import Study

BATCH = 256
"""Windows scored at once: bounds memory for a patient with hours of recordings."""


def score(network: nn.Module, patient: TrainingPatient) -> float:
    """Return the share of a patient's windows that the model gets right, in [0, 1]; one half without windows.

    For a value, it is one minus the mean error as a share of the range between the bounds.
    """
    if len(patient.labels) == 0:
        return 0.5
    if patient.labels.dtype.kind == "f":
        near = sum(float(closeness(logits, values).sum()) for logits, values in _logits(network, patient))
        return near / len(patient.labels)
    right = sum(int((logits.argmax(1) == labels).sum()) for logits, labels in _logits(network, patient))
    return right / len(patient.labels)


def contribution(network: nn.Module, patient: TrainingPatient, study: Study, round_number: int) -> NDArray[np.float64]:
    """Return what one held-out patient adds to the sums of a round, float64 (length,), in the outputs' own units.

    Each window counts 1 / (number of the patient's windows), so that a patient weighs the same with one window and with
    many.
    """
    parts = parts_of(study, round_number)
    counts = np.zeros(length_of(parts))
    total = len(patient.labels)
    classes = study.data.outputs
    for logits, labels in _logits(network, patient):
        if study.data.target == "value":
            _add_values(counts, parts, logits, labels)
            continue
        guesses = logits.argmax(1)
        for part in parts:
            if part.name == "accuracy":
                counts[part.begin] += int((guesses == labels).sum())
            elif part.name == "confusion":
                np.add.at(counts, part.begin + labels * classes + guesses, 1.0)
            else:
                margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) / study.evaluation.score_scale
                bins = _bins(margin, study.evaluation.bins)
                np.add.at(counts, part.begin + labels * study.evaluation.bins + bins, 1.0)
    if total:
        counts /= total
    for part in parts:
        if part.name in {"accuracy", "error"}:
            counts[part.begin] = counts[part.begin] - 0.5 if total else 0.0
            counts[part.begin + 1] = 0.5
    return counts


def closeness(logits: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return one minus each window's error as a share of the range, in [0, 1]; values lie between -1 and 1."""
    return 1 - np.abs(_guess(logits) - values.astype(np.float64)) / 2


def _guess(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return predictions inside the bounds."""
    return np.clip(np.nan_to_num(logits[:, 0].astype(np.float64)), -1.0, 1.0)


def _add_values(
    counts: NDArray[np.float64], parts: tuple[Section, ...], logits: NDArray[np.float32], values: NDArray[np.float32]
) -> None:
    exact = values.astype(np.float64)
    for part in parts:
        if part.name == "error":
            counts[part.begin] += closeness(logits, values).sum()
        else:
            errors = _guess(logits) - exact
            counts[part.place] += np.square(errors).sum(), exact.sum(), np.square(exact).sum()


def _bins(margin: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the bin of each window's score, the logistic function of its margin; equal widths on [0, 1]."""
    scores = 0.5 * (1 + np.tanh(np.nan_to_num(margin) / 2))
    return np.minimum((scores * bins).astype(np.int64), bins - 1)


def _logits(network: nn.Module, patient: TrainingPatient) -> Iterator[tuple[NDArray[np.float32], NDArray[Any]]]:
    network.eval()
    with torch.no_grad():
        for begin in range(0, len(patient.labels), BATCH):
            part = slice(begin, begin + BATCH)
            logits = network(torch.from_numpy(np.array(patient.windows[part])))
            yield logits.numpy(), patient.labels[part]

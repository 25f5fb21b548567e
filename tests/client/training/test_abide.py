"""The one-sum estimator and residual descent on public connectomes of twelve hospitals (ABIDE I, not shipped).

What to expect was measured before, by independent code on all twenty hospitals of the same release (1035 people,
5-fold inside each hospital, delta 1e-4): accuracy and area under the curve without noise, and at epsilon 8, 3 and 1.
Here are 723 of these people; the standard error of sampling them is 0.018, of those 1035 it is 0.015, and over noise
and splits 0.005 to 0.012: differences below 0.05 say nothing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata
from tests.support.processes import real_data
from tests.support.studies import Only, changed, connectome_study

from dura_client.data.privacy_class import step_of
from dura_client.data.sources.fmri.connectomes import gaussian_ranks
from dura_client.training.engine import PatientEngine, make_steps
from dura_client.training.patient import TrainingPatient
from dura_common.models import build, to_vector
from dura_common.privacy import calibrate_training
from dura_common.study import Study

DELTA = 1e-4
TOLERANCE = 0.05
ONE_SUM = {"engine": "one-sum"}
DESCENT = {"engine": "residual-descent", "steps_per_round": 3, "step_size": 5.0, "average": True}


@dataclass(frozen=True)
class Connectomes:
    """Edges as Fisher z (people, 6105), labels (1 is autism) and hospitals."""

    raw: NDArray[np.float64]
    ranked: NDArray[np.float64]
    labels: NDArray[np.int64]
    hospitals: NDArray[np.str_]


@pytest.fixture(scope="module")
def abide() -> Connectomes:
    """Return the people of twelve hospitals, or skip."""
    found = real_data("abide/fc_ho.npz")
    if found is None:
        pytest.skip("ABIDE connectomes are not shipped (non-commercial terms); DURA_TEST_DATA names their folder")
    folder = found / "abide"
    with np.load(folder / "fc_ho.npz", allow_pickle=False) as archive:
        edges, names = archive["fc"].astype(np.float64), archive["file_id"].tolist()
    with (folder / "participants.csv").open(newline="") as stream:
        rows = {row["FILE_ID"]: row for row in csv.DictReader(stream)}
    return Connectomes(
        raw=edges,
        ranked=np.stack([gaussian_ranks(one) for one in edges]),
        labels=np.array([int(rows[name]["DX_GROUP"] == "1") for name in names]),
        hospitals=np.array([rows[name]["SITE_ID"] for name in names]),
    )


def folds(data: Connectomes, seed: int) -> NDArray[np.int64]:
    """Return a fold from 0 to 4 for everybody, balanced inside each hospital and class."""
    rng = np.random.default_rng(seed)
    result = np.zeros(len(data.labels), dtype=np.int64)
    for hospital in np.unique(data.hospitals):
        for label in (0, 1):
            index = rng.permutation(np.flatnonzero((data.hospitals == hospital) & (data.labels == label)))
            result[index] = (np.arange(len(index)) + rng.integers(5)) % 5
    return result


def direction(
    features: NDArray[np.float64], labels: NDArray[np.int64], plan: Study, noise: float
) -> NDArray[np.float64]:
    """Train with the engine on one pooled sum, as shared noise gives it; return the difference of the two rows."""
    patients = [
        TrainingPatient(row[None, None].astype(np.float32), label[None])
        for row, label in zip(features, labels, strict=True)
    ]
    network = build(plan.model, channels=1, samples=features.shape[1], classes=2, sampling_rate=64, seed=1)
    preparation = [step_of(gaussian_ranks)]
    engine = PatientEngine(network, plan, preparation=preparation)
    make_steps(engine, patients, plan.training.steps_per_round, noise, float(len(patients)))
    rows = to_vector(engine.finish()).astype(np.float64).reshape(2, -1)
    return rows[1] - rows[0]


def cross_validated(
    data: Connectomes, features: NDArray[np.float64], training: dict[str, object], epsilon: float | None, seed: int
) -> tuple[float, float]:
    """Return accuracy and area under the curve; each hospital thresholds at its own training patients' mean score."""
    plan = changed(connectome_study(), training=Only(training))
    steps = plan.training.steps
    noise = 0.0 if epsilon is None else calibrate_training(epsilon, DELTA, 1.0, steps)
    fold, scores = folds(data, seed), np.zeros(len(data.labels))
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    for number in range(5):
        inside = fold != number
        values = units @ direction(features[inside], data.labels[inside], plan, noise)
        for hospital in np.unique(data.hospitals):
            here = data.hospitals == hospital
            values[here] -= values[here & inside].mean()
        scores[~inside] = values[~inside]
    positive = data.labels == 1
    area = (rankdata(scores)[positive].sum() - positive.sum() * (positive.sum() + 1) / 2) / (
        positive.sum() * (~positive).sum()
    )
    return float(np.mean((scores > 0) == positive)), float(area)


@pytest.mark.parametrize(
    ("kind", "epsilon", "accuracy", "area"),
    [
        ("raw", None, 0.617, 0.665),
        ("ranked", None, 0.645, 0.698),
        ("ranked", 8.0, 0.642, 0.697),
        ("ranked", 3.0, 0.637, 0.691),
        ("ranked", 1.0, 0.615, 0.665),
    ],
)
def test_one_sum_reaches_what_was_measured(
    abide: Connectomes, kind: str, epsilon: float | None, accuracy: float, area: float
) -> None:
    """Accuracy and area agree with the earlier measurement at every epsilon, within what sampling allows."""
    features = abide.raw if kind == "raw" else abide.ranked
    seen = np.mean([cross_validated(abide, features, ONE_SUM, epsilon, seed) for seed in (0, 1)], axis=0)
    assert seen == pytest.approx([accuracy, area], abs=TOLERANCE)


@pytest.mark.full
@pytest.mark.parametrize(
    ("epsilon", "accuracy", "area"),
    [(None, 0.648, 0.702), (8.0, 0.647, 0.700), (3.0, 0.641, 0.692), (1.0, 0.612, 0.657)],
)
def test_residual_descent_reaches_what_was_measured(
    abide: Connectomes, epsilon: float | None, accuracy: float, area: float
) -> None:
    """Three averaged steps of size 5, likewise."""
    seen = np.mean([cross_validated(abide, abide.ranked, DESCENT, epsilon, seed) for seed in (0, 1, 2)], axis=0)
    assert seen == pytest.approx([accuracy, area], abs=TOLERANCE)

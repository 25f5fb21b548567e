"""Evaluation: what one held-out patient can do to the released sums, and what the coordinator makes of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import rankdata
from tests.common.outputs.outcomes import accuracy_in, noised
from tests.support.studies import study
from torch import nn

from dura_client.training.clipping import add_noise
from dura_client.training.evaluation import contribution, score
from dura_client.training.patient import TrainingPatient
from dura_common.outputs.scores import (
    PATIENT_NORM,
    WHOLE,
    Section,
    from_integers,
    layout,
    length_of,
    parts_of,
    to_integers,
)
from dura_common.study import Evaluation, Study
from dura_server.studies.estimate import outcome_from

ALL = ("accuracy", "confusion", "auc")
CHOICES = [("accuracy", *rest) for n in range(3) for rest in itertools.permutations(("confusion", "auc"), n)]
anything = st.floats(allow_nan=True, allow_infinity=True)


class Margin(nn.Module):
    """Two logits: zero, and the first value of the window."""

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return (windows, 2)."""
        first = windows[:, 0, 0]
        return torch.stack([torch.zeros_like(first), first], dim=1)


def asking(*outputs: str, **more: Any) -> Study:
    """Return a study whose final evaluation releases these outputs."""
    return study(evaluation={"epsilon": 8.0, "outputs": outputs, **more})


def person(margins: NDArray[np.float64], labels: NDArray[np.int64]) -> TrainingPatient:
    """Return a patient whose windows get these margins from :class:`Margin`."""
    windows = np.zeros((len(margins), 1, 1), dtype=np.float32)
    windows[:, 0, 0] = margins
    return TrainingPatient(windows, labels)


def crowd(count: int, seed: int) -> list[TrainingPatient]:
    """Return patients of one to nine windows, most of them classified rightly."""
    rng = np.random.default_rng(seed)
    found = []
    for size in rng.integers(1, 10, count):
        labels = rng.integers(0, 2, size)
        found.append(person(rng.normal(size=size) + 1.2 * (2 * labels - 1), labels))
    return found


@pytest.mark.parametrize("names", CHOICES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_one_more_patient_moves_the_integers_by_at_most_the_bound(names: tuple[str, ...], data: st.DataObject) -> None:
    """In exact integer arithmetic, whatever a contribution holds and whatever outputs are asked for."""
    parts = layout(Evaluation(epsilon=1.0, bins=3), 2, names)
    rows = data.draw(arrays.arrays(np.float64, (3, length_of(parts)), elements=anything))
    moved = to_integers(rows, parts) - to_integers(rows[:2], parts)
    assert sum(int(step) ** 2 for step in moved) <= WHOLE**2


@pytest.mark.parametrize("names", CHOICES)
@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, 30), seed=st.integers(0, 1000), scale=st.floats(0, 1e30))
def test_no_real_patient_exceeds_the_norm_of_an_output(
    names: tuple[str, ...], size: int, seed: int, scale: float
) -> None:
    """One window or thirty, sure or unsure: each part of a contribution stays below its norm, so nothing is clipped."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size)
    plan = asking(*names)
    row = contribution(Margin(), person(scale * rng.normal(size=size), labels), plan, plan.training.rounds)
    for part in parts_of(plan, plan.training.rounds):
        assert np.linalg.norm(row[part.place]) <= part.norm * (1 + 1e-12)


def test_the_curve_releases_accuracy_alone_and_the_last_round_everything() -> None:
    """The length of the vector follows from the study and the round, never from data."""
    plan = asking(*ALL, bins=10)
    assert length_of(parts_of(plan, 2)) == 2
    assert length_of(parts_of(plan, plan.training.rounds)) == 2 + 4 + 20
    assert [part.name for part in parts_of(plan, plan.training.rounds)] == list(ALL)
    assert length_of(parts_of(study(), study().training.rounds)) == 2


def test_without_noise_the_outcome_is_the_exact_one() -> None:
    """Accuracy, confusion and area agree with counting by hand over patients of equal weight."""
    plan = asking(*ALL, bins=200, smallest_cell=1)
    people = crowd(60, seed=4)
    parts = parts_of(plan, plan.training.rounds)
    rows = [contribution(Margin(), one, plan, plan.training.rounds) for one in people]
    sums = noised(rows, parts, 0.0)
    outcome = outcome_from(sums, parts, noise_multiplier=None, sites=1, smallest_cell=1)

    network = Margin()
    assert outcome.accuracy.accuracy == pytest.approx(np.mean([score(network, one) for one in people]), abs=1e-4)
    assert outcome.accuracy.standard_error == 0
    expected = np.zeros((2, 2))
    values, labels, weights = [], [], []
    for one in people:
        margins = one.windows[:, 0, 0].astype(np.float64)
        for margin, label in zip(margins, one.labels, strict=True):
            expected[label, int(margin > 0)] += 1 / len(margins)
            values.append(margin)
            labels.append(label)
            weights.append(1 / len(margins))
    assert outcome.confusion is not None
    assert np.allclose(np.array(outcome.confusion.cells, dtype=np.float64), expected, atol=1e-3)
    order = rankdata(values)
    positive = np.array(labels) == 1
    weight = np.array(weights)
    better = (order[positive][:, None] > order[~positive][None]) * weight[positive][:, None] * weight[~positive][None]
    assert outcome.auc is not None
    assert outcome.auc.area == pytest.approx(better.sum() / weight[positive].sum() / weight[~positive].sum(), abs=0.01)


def test_the_errors_that_are_stated_are_the_spread_that_is_seen() -> None:
    """Over many draws of the noise, each output's mean is the exact figure and its spread the stated error."""
    plan = asking(*ALL, smallest_cell=1)
    last = plan.training.rounds
    parts = parts_of(plan, last)
    rows = np.stack([contribution(Margin(), one, plan, last) for one in crowd(300, seed=8)])
    total = to_integers(rows, parts)
    exact = outcome_from(from_integers(total, parts), parts, noise_multiplier=None, sites=1, smallest_cell=1)
    noise = 0.4  # the exact area lies some deviations below 1, so that almost no draw is cut off there
    draws = (from_integers(add_noise(total, noise, whole=WHOLE), parts) for _ in range(1500))
    seen = [outcome_from(draw, parts, noise_multiplier=noise, sites=1, smallest_cell=1) for draw in draws]
    first = seen[0]
    assert exact.auc
    assert first.auc
    assert exact.confusion
    assert first.confusion
    accuracies = [one.accuracy.accuracy for one in seen]
    areas = [one.auc.area for one in seen if one.auc]
    cells = [one.confusion.cells[0][0] for one in seen if one.confusion]
    assert np.mean(accuracies) == pytest.approx(exact.accuracy.accuracy, abs=0.003)
    assert np.std(accuracies) == pytest.approx(first.accuracy.standard_error, rel=0.1)
    assert np.mean(areas) == pytest.approx(exact.auc.area, abs=0.005)
    assert np.std(areas) == pytest.approx(first.auc.standard_error, rel=0.12)
    assert np.mean(np.array(cells, dtype=np.float64)) == pytest.approx(exact.confusion.cells[0][0], abs=0.3)
    assert np.std(np.array(cells, dtype=np.float64)) == pytest.approx(first.confusion.standard_error, rel=0.1)


@pytest.mark.parametrize("names", [("accuracy",), ALL])
def test_the_noise_is_that_of_one_joint_sum(names: tuple[str, ...]) -> None:
    """Every part carries noise of the multiplier times its unit; the accuracy alone has its own norm as unit."""
    plan = asking(*names)
    parts = parts_of(plan, plan.training.rounds)
    draws = np.array([noised([], parts, 2.0) for _ in range(800)])
    for part in parts:
        assert draws[:, part.place].std() == pytest.approx(2.0 * part.unit, rel=0.08)
    assert parts[0].unit == pytest.approx(PATIENT_NORM * len(names) ** 0.5)


@settings(max_examples=50, deadline=None)
@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_public_sums_give_back_the_mean_score(scores: list[float]) -> None:
    """Without noise the estimate is the mean over patients, for a single patient too, with no error."""
    parts = parts_of(study(), 2)
    sums = noised([np.array([value - 0.5, 0.5]) for value in scores], parts, 0.0)
    estimate = accuracy_in(sums, noise_multiplier=None, sites=1)
    assert estimate.accuracy == pytest.approx(np.mean(scores), abs=1e-4)
    assert estimate.standard_error == 0


def test_small_cells_and_drowned_cells_are_not_shown() -> None:
    """A cell below the study's smallest, below its noise, or impossible is None; the others stay."""
    parts = (Section("confusion", 0, 4, 1.0, 1.0),)
    sums = np.array([40.0, 3.0, -2.0, 12.0])
    quiet = outcome_from(sums, parts, noise_multiplier=1.0, sites=1, smallest_cell=5)
    loud = outcome_from(sums, parts, noise_multiplier=5.0, sites=4, smallest_cell=5)
    assert quiet.confusion is not None
    assert loud.confusion is not None
    assert quiet.confusion.cells == ((40.0, None), (None, 12.0))
    assert loud.confusion.cells == ((40.0, None), (None, None))
    for value in (np.nan, np.inf):
        sums[0] = value
        broken = outcome_from(sums, parts, noise_multiplier=1.0, sites=1, smallest_cell=5)
        assert broken.confusion is not None
        assert broken.confusion.cells[0][0] is None


@pytest.mark.parametrize("sums", [np.zeros(6), np.full(6, np.nan), np.array([0, 0, 0, 30.0, 1, 1]), -np.ones(6)])
def test_a_class_that_drowns_has_no_curve(sums: NDArray[np.float64]) -> None:
    """Without enough patients of a class the area is one half with an error of one half."""
    outcome = outcome_from(sums, (Section("auc", 0, 6, 1.0, 1.0),), noise_multiplier=1.0, sites=1, smallest_cell=1)
    assert outcome.auc is not None
    assert (outcome.auc.area, outcome.auc.standard_error) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"outputs": []}, "outputs"),
        ({"outputs": ["auc"]}, 'must contain "accuracy"'),
        ({"outputs": ["accuracy", "accuracy"]}, "no output twice"),
        ({"outputs": ["accuracy", "loss"]}, "outputs"),
        ({"minimum_held_out": 11}, "held out at east, north"),
        ({"minimum_held_out": 1}, "minimum_held_out"),
    ],
)
def test_outputs_that_cannot_be_meant_are_refused(evaluation: dict[str, Any], message: str) -> None:
    """A live loss is no output, and small sites are refused by their declared numbers."""
    with pytest.raises(ValidationError, match=message):
        study(evaluation={"epsilon": 8.0, **evaluation})


def test_a_curve_of_three_classes_is_refused() -> None:
    """The area under the curve needs two classes; the confusion matrix takes any number."""
    data = {**study().data.model_dump(), "classes": ["left_hand", "right_hand", "feet"]}
    with pytest.raises(ValidationError, match="exactly two classes"):
        study(data=data, evaluation={"epsilon": 8.0, "outputs": ["accuracy", "auc"]})
    plan = study(data=data, evaluation={"epsilon": 8.0, "outputs": ["accuracy", "confusion"]})
    assert length_of(parts_of(plan, plan.training.rounds)) == 2 + 9


def test_a_patient_without_windows_counts_one_half_and_stands_in_no_cell() -> None:
    """Nothing is invented for a patient with nothing to score."""
    plan = asking(*ALL)
    empty = person(np.zeros(0), np.zeros(0, dtype=np.int64))
    row = contribution(Margin(), empty, plan, plan.training.rounds)
    assert row[:2].tolist() == [0.0, 0.5]
    assert not row[2:].any()

"""One-sum and residual descent are what their formulas say, and both ways to patients' gradients agree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pydantic import ValidationError
from tests.support.studies import Only, vector_data
from tests.support.studies import study as build_study

from dura_client.training.engine import PatientEngine, train_round
from dura_client.training.gradients import (
    MOST_WINDOWS,
    Batch,
    by_backward,
    by_vmap,
    patient_gradients,
    patients_at_once,
    worth_vectorising,
)
from dura_client.training.losses import loss_of
from dura_client.training.patient import TrainingPatient
from dura_common.models import build, to_vector
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.plan import plan_of
from dura_common.study import Study
from dura_common.study.models import EEGNetModel, LinearModel, Model, RecurrentModel, ShallowConvNetModel

FEATURES = 12
SMALL: tuple[Model, ...] = (
    EEGNetModel(dropout=0.0),
    ShallowConvNetModel(name="shallow", filters=5, dropout=0.0),
    RecurrentModel(name="gru", filters=4, units=5, dropout=0.0),
    LinearModel(name="linear"),
)


def study(training: dict[str, Any], classes: int = 2, **privacy: Any) -> Study:
    """Return a study without noise on a linear model."""
    return build_study(
        name="edges",
        question="?",
        expires="2099-01-01",
        sites={"north": 20, "east": 20},
        data=vector_data(*(f"class{number}" for number in range(classes))),
        model={"name": "linear"},
        privacy=Only(noise="none", **privacy),
        training=Only(training),
        evaluation=Only(),
    )


def people(count: int, seed: int, classes: int = 2) -> tuple[list[TrainingPatient], NDArray[np.float64], NDArray[Any]]:
    """Return patients of one vector each, the unit vectors (patients, features), and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    rows = rng.normal(size=(count, FEATURES)) + 0.5 * labels[:, None]
    patients = [TrainingPatient(row[None, None].astype(np.float32), label[None]) for row, label in zip(rows, labels)]  # noqa: B905  # same length by construction
    return patients, rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def trained(plan: Study, patients: list[TrainingPatient], classes: int = 2) -> NDArray[np.float64]:
    """Return the weights (classes, features) after one round."""
    network = build(plan.model, channels=1, samples=FEATURES, classes=classes, sampling_rate=64, seed=1)
    train_round(network, patients, plan, plan_of(plan), declared_patients=50.0, preparation=())
    return to_vector(network).astype(np.float64).reshape(classes, FEATURES)


def test_one_sum_is_the_difference_of_class_means() -> None:
    """With two classes, the difference of the rows is sqrt(2) times the mean of label times unit vector."""
    patients, units, labels = people(30, seed=1)
    weights = trained(study({"engine": "one-sum"}), patients)
    expected = ((2 * labels - 1)[:, None] * units).sum(0) / 50
    assert np.allclose(weights[1] - weights[0], np.sqrt(2) * expected, atol=30 * 2 / WHOLE / 50)
    assert np.allclose(weights[0], -weights[1], atol=1e-6)


def test_every_patient_weighs_exactly_the_bound_in_one_sum() -> None:
    """With two classes and with five, a patient's part has length one: clipping cuts nothing, sensitivity is tight."""
    for classes in (2, 5):
        plan = study({"engine": "one-sum"}, classes)
        patients, _, _ = people(6, seed=2, classes=classes)
        network = build(plan.model, channels=1, samples=FEATURES, classes=classes, sampling_rate=64, seed=1)
        engine = PatientEngine(network, plan, preparation=())
        for patient in patients:
            weight = np.linalg.norm(engine.clipped_sum([patient]).astype(np.float64)) / WHOLE
            assert 1 - 1e-3 < weight <= 1


@pytest.mark.parametrize("engine", ["one-sum", "residual-descent"])
@settings(max_examples=25, deadline=None)
@given(
    values=arrays.arrays(np.float32, (3, 1, FEATURES), elements=st.floats(width=32, allow_nan=True)),
    weight=st.floats(-1e6, 1e6),
)
def test_no_patient_weighs_more_than_one_in_any_engine(engine: str, values: NDArray[np.float32], weight: float) -> None:
    """Whatever a patient's vectors hold and wherever the descent stands, integers move by the bound at most."""
    plan = study({"engine": engine})
    network = build(plan.model, channels=1, samples=FEATURES, classes=2, sampling_rate=64, seed=1)
    with torch.no_grad():
        network.classifier.weight.fill_(weight)
    step = PatientEngine(network, plan, preparation=())
    others, _, _ = people(4, seed=6)
    moved = step.clipped_sum([*others, TrainingPatient(values, np.array([0, 1, 1]))]) - step.clipped_sum(others)
    assert sum(int(value) ** 2 for value in moved) <= WHOLE**2


@settings(max_examples=10, deadline=None)
@given(steps=st.integers(1, 5), step_size=st.floats(0.5, 8), average=st.booleans(), seed=st.integers(0, 50))
def test_residual_descent_is_the_textbook_descent(steps: int, step_size: float, average: bool, seed: int) -> None:
    """Two rows of weights follow gradient descent on one row with labels +-1 and residuals clipped to [-1, 1]."""
    patients, units, labels = people(25, seed)
    settings_ = {"engine": "residual-descent", "steps_per_round": steps, "step_size": step_size, "average": average}
    weights = trained(study(settings_), patients)
    one = np.zeros(FEATURES)
    iterates = []
    for _ in range(steps):
        residuals = np.clip((2 * labels - 1) - units @ one, -1, 1)
        one = one + step_size / 50 * residuals @ units
        iterates.append(one)
    expected = np.mean(iterates, axis=0) if average else one
    assert np.allclose((weights[1] - weights[0]) / np.sqrt(2), expected, atol=2e-3 * step_size)


@pytest.mark.parametrize("windows", [1, 3])
@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_both_ways_give_the_same_gradients(model: Model, windows: int) -> None:
    """One backward pass per patient and the vectorised pass agree in every architecture."""
    network = build(model, channels=3, samples=64, classes=2, sampling_rate=64, seed=3)
    loss = loss_of(study({"rounds": 1, "steps_per_round": 1, "learning_rate": 0.1}).training)
    rng = torch.Generator().manual_seed(1)
    labels = torch.arange(windows) % 2
    batches = [Batch.of(torch.randn(windows, 3, 64, generator=rng), (labels + index) % 2) for index in range(5)]
    slow = by_backward(network, loss, batches)
    for one, other in zip(slow, by_vmap(network, loss, batches), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    stacks = list(patient_gradients(network, loss, batches))
    assert sum(len(stack[0]) for stack in stacks) == 5
    assert torch.allclose(torch.cat([stack[-1] for stack in stacks]).sum(0), slow[-1].sum(0), atol=1e-5)


@pytest.mark.parametrize("model", SMALL, ids=lambda model: model.name)
def test_sharing_the_cores_changes_no_gradient(model: Model) -> None:
    """Patients side by side on several threads have the gradients that they have one after the other, in order."""
    network = build(model, channels=3, samples=64, classes=2, sampling_rate=64, seed=3).eval()
    loss = loss_of(study({"rounds": 1, "steps_per_round": 1, "learning_rate": 0.1}).training)
    rng = torch.Generator().manual_seed(1)
    batches = [Batch.of(torch.randn(4, 3, 64, generator=rng), torch.arange(4) % 2) for _ in range(9)]
    with threads(1):
        alone = by_backward(network, loss, batches)
    with threads(3):
        shared = by_backward(network, loss, batches)
        assert torch.get_num_threads() == 3
    for one, other in zip(alone, shared, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_pass_that_fails_leaves_the_threads_as_they_were() -> None:
    """An error in one patient's pass comes out, and later work has its threads again."""
    network = build(LinearModel(name="linear"), channels=1, samples=FEATURES, classes=2, sampling_rate=64, seed=1)
    loss = loss_of(study({"engine": "one-sum"}).training)
    wrong = [Batch.of(torch.ones(1, 1, FEATURES + 1), torch.zeros(1, dtype=torch.int64)) for _ in range(4)]
    with threads(2):
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            by_backward(network, loss, wrong)
        assert torch.get_num_threads() == 2


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch that many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_torchs_own_recurrent_layers_train_patient_by_patient() -> None:
    """A layer that cannot be vectorised is never handed to the vectorised pass, even with one window a patient."""
    plain = torch.nn.Sequential(torch.nn.LSTM(4, 3, batch_first=True))
    assert not worth_vectorising(plain, 1)
    assert worth_vectorising(torch.nn.Linear(2, 2), 1)
    assert not worth_vectorising(torch.nn.Linear(2, 2), 8)


def test_every_patient_is_in_exactly_one_stack() -> None:
    """Patients with one window and with several are mixed, more of them than fit at once: nobody is lost or doubled."""
    network = build(LinearModel(name="linear"), channels=1, samples=FEATURES, classes=2, sampling_rate=64, seed=1)
    loss = loss_of(study({"engine": "one-sum"}).training)
    count = 2 * patients_at_once(network) + 3
    batches = [
        Batch.of(torch.full((1 + index % 2, 1, FEATURES), 1.0), torch.zeros(1 + index % 2, dtype=torch.int64))
        for index in range(2 * count)
    ]
    stacks = list(patient_gradients(network, loss, batches))
    assert max(len(stack[0]) for stack in stacks) == patients_at_once(network)
    assert sum(len(stack[0]) for stack in stacks) == 2 * count


def test_a_vectorised_pass_is_bounded_in_windows() -> None:
    """Recurrent networks share passes, but never with more than the stated number of windows."""
    network = build(SMALL[2], channels=3, samples=64, classes=2, sampling_rate=64, seed=3)
    loss = loss_of(study({"rounds": 1, "steps_per_round": 1, "learning_rate": 0.1}).training)
    batches = [Batch.of(torch.zeros(100, 3, 64), torch.zeros(100, dtype=torch.int64)) for _ in range(5)]
    sizes = [len(stack[0]) for stack in patient_gradients(network, loss, batches)]
    assert sum(sizes) == 5
    assert max(sizes) == MOST_WINDOWS // 100


def test_a_large_model_keeps_few_gradients_at_once() -> None:
    """Memory for gradients is bounded in values, not in patients."""
    large = build(LinearModel(name="linear"), channels=1, samples=400_000, classes=2, sampling_rate=64, seed=1)
    assert patients_at_once(large) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"name": "eegnet"}},
        {"model": {"name": "linear", "unit_norm": False}},
        {"privacy": {"noise": "none", "participation": 0.5}},
        {"privacy": {"noise": "none", "clipping_norm": 0.5}},
    ],
)
@pytest.mark.parametrize("engine", ["one-sum", "residual-descent"])
def test_settings_under_which_the_engines_are_something_else_are_refused(engine: str, change: dict[str, Any]) -> None:
    """Both need every patient's whole unit vector in every sum."""
    data = study({"engine": engine}).model_dump()
    with pytest.raises(ValidationError, match=engine):
        Study.model_validate({**data, **change})

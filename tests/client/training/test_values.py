"""Values instead of classes: bounded contributions, one clipped gradient a patient, a known line that is learned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.studies import Only, study

from dura_client.training.engine import PatientEngine
from dura_client.training.evaluation import contribution, score
from dura_client.training.patient import TrainingPatient
from dura_common.models import build_model, load_vector, parameter_total
from dura_common.outputs.scores import WHOLE, from_integers, parts_of, to_integers
from dura_common.privacy.grid import WHOLE as GRID
from dura_server.studies.estimate import outcome_from

FEATURES = {"a": [0.0, 1.0], "b": [0.0, 1.0]}


def plan(**changes: Any) -> Any:
    """Return a study of a value in a table."""
    return study(
        data=Only(source="table", label="session", column="age", target="value", bounds=[0.0, 90.0], features=FEATURES),
        model={"name": "linear", "unit_norm": False},
        privacy={"noise": "local", "participation": 1.0, "windows_per_patient": 4, "clipping_norm": 0.5},
        training={"rounds": 5, "steps_per_round": 10, "learning_rate": 0.05},
        evaluation={"epsilon": 8.0, "outputs": ["error", "fit"]},
        **changes,
    )


def patient(seed: int, visits: int = 3) -> TrainingPatient:
    """Return a patient whose value is half the first feature minus a quarter of the second."""
    windows = np.random.default_rng(seed).uniform(-1, 1, (visits, 1, 3)).astype(np.float32)
    windows[:, 0, 2] = 1.0
    return TrainingPatient(windows, (0.5 * windows[:, 0, 0] - 0.25 * windows[:, 0, 1]).astype(np.float32))


@settings(deadline=None, max_examples=25)
@given(
    scale=st.floats(0, 1e6),
    labels=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_a_patient_moves_a_released_sum_by_one_at_most(scale: float, labels: list[float], seed: int) -> None:
    """Whatever the model says and however many visits there are, a patient's integers are no longer than the bound."""
    asked = plan()
    network = build_model(asked)
    rng = np.random.default_rng(seed)
    load_vector(network, (scale * rng.normal(size=parameter_total(network))).astype(np.float32))
    windows = rng.uniform(-1, 1, (len(labels), 1, 3)).astype(np.float32)
    one = TrainingPatient(windows, np.array(labels, dtype=np.float32))
    parts = parts_of(asked, asked.training.rounds)
    total = to_integers(contribution(network, one, asked, asked.training.rounds)[None], parts)
    assert np.linalg.norm(total.astype(float)) <= WHOLE
    assert 0.0 <= score(network, one) <= 1.0


def test_the_sums_give_the_error_and_the_share_of_variance() -> None:
    """Without noise, the estimates from the sums are those of the values themselves."""
    asked = plan()
    network = build_model(asked)
    load_vector(network, np.array([0.5, 0.0, 0.0], dtype=np.float32))
    people = [patient(seed, visits=1) for seed in range(60)]
    last = asked.training.rounds
    parts = parts_of(asked, last)
    rows = np.stack([contribution(network, one, asked, last) for one in people])
    sums = from_integers(to_integers(rows, parts), parts)
    found = outcome_from(sums, parts, noise_multiplier=None, sites=1, smallest_cell=1)
    values = np.concatenate([one.labels for one in people])
    guesses = np.concatenate([0.5 * one.windows[:, 0, 0] for one in people])
    assert 1 - found.accuracy.accuracy == pytest.approx(np.abs(guesses - values).mean() / 2, abs=1e-4)
    assert found.explained == pytest.approx(
        1 - np.square(guesses - values).sum() / (values.size * values.var()), abs=1e-3
    )


@pytest.mark.parametrize("visits", [1, 4, 40])
def test_many_visits_are_one_clipped_gradient(visits: int) -> None:
    """The integer sum of one patient has at most the length of one, with one visit and with forty."""
    asked = plan()
    engine = PatientEngine(build_model(asked), asked, preparation=())
    far = TrainingPatient(np.ones((visits, 1, 3), dtype=np.float32), np.full(visits, -1.0, dtype=np.float32))
    assert 0 < np.linalg.norm(engine.clipped_sum([far]).astype(float)) <= GRID


def test_a_line_is_learned() -> None:
    """Without noise, a few dozen steps find the known weights well enough to explain most of the variance."""
    asked = plan()
    network = build_model(asked)
    engine = PatientEngine(network, asked, preparation=())
    people = [patient(seed) for seed in range(40)]
    for _ in range(50):
        engine.apply(engine.clipped_sum(people), divisor=len(people))
    held_out = [patient(seed) for seed in range(100, 120)]
    assert np.mean([score(network, one) for one in held_out]) > 0.95

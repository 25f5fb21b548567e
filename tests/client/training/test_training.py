"""Patient-level DP-SGD: what one patient can do to a step, and what the noise looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from tests.support.studies import WITHOUT_NOISE, Only, changed, small_data
from tests.support.studies import study as build_study

from dura_client.training.clipping import add_noise
from dura_client.training.engine import PatientEngine, train_round
from dura_client.training.evaluation import score
from dura_client.training.patient import TrainingPatient
from dura_client.training.secure_random import bernoulli, choose, integer_gaussian
from dura_client.training.split import held_out
from dura_common.errors import InputError
from dura_common.models import build, to_vector
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.plan import plan_of
from dura_common.study import Study
from dura_common.study.models import EEGNetModel

CLIP = 0.05


@pytest.fixture
def study() -> Study:
    """Return a tiny private study of one round."""
    return build_study(
        name="tiny",
        question="?",
        expires="2099-01-01",
        sites={"north": 20, "east": 20},
        data=small_data(("C3", "C4", "Cz")),
        privacy={"epsilon": 4.0, "participation": 1.0, "windows_per_patient": 4, "clipping_norm": CLIP},
        training=Only(rounds=1, steps_per_round=1, learning_rate=1.0, optimiser="sgd"),
        evaluation={"epsilon": 4.0},
    )


def network() -> torch.nn.Module:
    """Return a small EEGNet without dropout, so that gradients are repeatable."""
    return build(EEGNetModel(dropout=0.0), channels=3, samples=64, classes=2, sampling_rate=64, seed=3)


def patient(seed: int, windows: int = 4, scale: float = 1.0) -> TrainingPatient:
    """Return a patient of Gaussian windows."""
    rng = np.random.default_rng(seed)
    return TrainingPatient((scale * rng.normal(size=(windows, 3, 64))).astype(np.float32), rng.integers(0, 2, windows))


def adversaries() -> list[TrainingPatient]:
    """Return patients that try to weigh more than one patient may."""
    found = [patient(i, n, s) for i, (n, s) in enumerate([(1, 1.0), (5000, 1.0), (4, 1e12), (4, 1e-12), (300, 1e6)])]
    for value in (np.nan, np.inf, -np.inf):
        spoiled = patient(9)
        spoiled.windows[0, 0, 0] = value
        found.append(spoiled)
        found.append(TrainingPatient(np.full((3, 3, 64), value, np.float32), np.zeros(3, np.int64)))
    found.append(TrainingPatient(np.zeros((0, 3, 64), np.float32), np.zeros(0, np.int64)))
    return found


def summed(study: Study, patients: list[TrainingPatient]) -> np.ndarray[Any, Any]:
    """Return the clipped, cut and summed gradients of one step, before noise, in units of the gradient."""
    engine = PatientEngine(network(), whole_patients(study), preparation=())
    return engine.clipped_sum(patients) * (CLIP / WHOLE)


def whole_patients(study: Study) -> Study:
    """Return the study with every window of a patient in each step."""
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"windows_per_patient": 10_000})})


@pytest.mark.parametrize("index", range(len(adversaries())))
def test_no_patient_weighs_more_than_the_clipping_norm(study: Study, index: int) -> None:
    """Whatever a patient's recordings hold, the sum with and without them differs by at most C, and is finite."""
    others = [patient(100 + i) for i in range(6)]
    without, added = summed(study, others), summed(study, [*others, adversaries()[index]])
    assert np.isfinite(added).all()
    assert np.linalg.norm(added - without) <= CLIP * (1 + 1e-9)


def test_an_ordinary_patient_uses_the_bound_almost_fully(study: Study) -> None:
    """Clipping and cutting do not throw a patient's weight away: a large gradient keeps 99 % of C."""
    assert np.linalg.norm(summed(study, [patient(1, 4, 1e3)])) >= 0.99 * CLIP


def test_sums_of_sites_make_the_step_of_their_pooled_patients(study: Study) -> None:
    """Two sites' integer sums, added up and applied, move the model exactly as one site with all patients."""
    first, second = [patient(i) for i in range(20)], [patient(i) for i in range(20, 45)]
    plain = study.model_copy(update={"training": study.training.model_copy(update={"optimiser": "adam"})})
    pooled, shared = (
        PatientEngine(network(), plain, preparation=()),
        PatientEngine(network(), plain, preparation=()),
    )
    for _ in range(3):
        pooled.apply(pooled.clipped_sum(first + second), 45.0)
        shared.apply(shared.clipped_sum(first) + shared.clipped_sum(second), 45.0)
    assert np.array_equal(to_vector(pooled.finish()), to_vector(shared.finish()))


def test_a_sum_of_another_form_is_refused_and_the_model_stays(study: Study) -> None:
    """A vector of the wrong length or type changes neither parameters nor the state of the training."""
    engine = PatientEngine(network(), study, preparation=())
    before = engine.state
    total = engine.clipped_sum([patient(1)])
    for bad in (total[:-1], total.astype(np.float64), total[None]):
        with pytest.raises(ValueError, match="int64"):
            engine.apply(bad, 1.0)
    assert engine.state is before
    assert np.array_equal(to_vector(engine.finish()), to_vector(network()))


def test_noise_has_the_stated_deviation_and_zero_adds_none() -> None:
    """Noise is a multiple of one patient's largest weight, drawn afresh every time."""
    zeros = np.zeros(20_000, dtype=np.int64)
    first, second = add_noise(zeros, 3.0), add_noise(zeros, 3.0)
    assert first.std() == pytest.approx(3 * WHOLE, rel=0.03)
    assert not np.array_equal(first, second)
    assert np.array_equal(add_noise(zeros, 0.0), zeros)


def test_the_step_without_patients_is_pure_noise_of_the_stated_size(study: Study) -> None:
    """An empty draw moves the model by Gaussian noise of sigma * C / (q * N), not by nothing."""
    plan = plan_of(study)
    moved = []
    for _ in range(6):
        model = network()
        start = to_vector(model)
        train_round(model, [], study, plan, declared_patients=15.0, preparation=())
        moved.append(to_vector(model) - start)
    free = np.concatenate(moved)[:]
    expected = plan.noise_multiplier * CLIP / 15.0
    inner = np.abs(free) < 6 * expected  # the few constrained weights are projected and may move further
    assert inner.mean() > 0.9
    assert np.std(free[inner]) == pytest.approx(expected, rel=0.1)
    assert not np.array_equal(moved[0], moved[1])


def test_noise_cannot_be_reached_by_a_seed(study: Study) -> None:
    """Seeding torch and numpy does not repeat the noise."""
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002  # the legacy global generator is what an attacker would try
        model = network()
        train_round(model, [patient(1)], study, plan_of(study), declared_patients=15.0, preparation=())
        results.append(to_vector(model))
    assert not np.array_equal(*results)


def test_the_generator_is_standard_normal_and_streams_are_independent() -> None:
    """A Kolmogorov-Smirnov test accepts the law, and two streams do not correlate."""
    first, second = (integer_gaussian(200_001, 1e6) / 1e6 for _ in range(2))
    assert stats.kstest(first, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_sampling_is_poisson_with_the_public_probability() -> None:
    """Each patient enters with probability q, the number drawn varies as a binomial does."""
    draws = np.array([bernoulli(100, 0.3).sum() for _ in range(3000)])
    assert draws.mean() == pytest.approx(30, abs=0.5)
    assert draws.var() == pytest.approx(21, rel=0.15)
    assert bernoulli(1000, 1.0).all()


def test_windows_are_chosen_without_repetition_and_evenly() -> None:
    """At most K distinct windows, every one equally often."""
    counts = np.zeros(20)
    for _ in range(3000):
        chosen = choose(20, 5)
        assert len(set(chosen.tolist())) == 5
        counts[chosen] += 1
    assert stats.chisquare(counts).pvalue > 1e-4
    assert choose(3, 5).tolist() == [0, 1, 2]


def test_running_batch_statistics_are_refused(study: Study) -> None:
    """A model with BatchNorm's running mean is refused and unchanged: that mean would be an unpaid release."""
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    with pytest.raises(InputError, match="batch statistics"):
        train_round(model, [patient(1)], study, plan_of(study), declared_patients=15.0, preparation=())
    assert model[0].running_mean.abs().sum() == 0


def test_training_without_noise_learns_a_separable_task(study: Study) -> None:
    """The engine without noise fits what can be fitted: the gradients are the true ones."""
    plain = changed(
        study,
        privacy=WITHOUT_NOISE,
        evaluation={"epsilon": None},
        training=Only(rounds=1, steps_per_round=60, learning_rate=0.01),
    )
    rng = np.random.default_rng(0)
    patients = []
    for _ in range(8):
        labels = rng.integers(0, 2, 20)
        windows = rng.normal(size=(20, 3, 64))
        windows[labels == 1, 0] *= 3
        patients.append(TrainingPatient(windows.astype(np.float32), labels))
    model = network()
    train_round(model, patients, plain, plan_of(plain), declared_patients=8.0, preparation=())
    assert np.mean([score(model, one) for one in patients]) > 0.9


def test_the_split_is_stable_and_has_the_asked_share() -> None:
    """A patient falls on the same side every time, and a quarter of many patients are held out."""
    keys = [f"{number:064x}" for number in range(8000)]
    sides = [held_out(key, 0.25) for key in keys]
    assert sides == [held_out(key, 0.25) for key in keys]
    assert np.mean(sides) == pytest.approx(0.25, abs=0.02)
    assert all(held_out(key, 0.5) for key, out in zip(keys, sides, strict=True) if out)

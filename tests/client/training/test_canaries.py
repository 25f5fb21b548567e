"""The audit passes on the engine as it is and fails on every mutation that breaks the promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.studies import Only, changed, connectome_study, study

from dura_client.training import audit as audit_module
from dura_client.training import clipping as clipping_module
from dura_client.training import engine as engine_module
from dura_client.training.audit import Audit, Check, audit
from dura_client.training.clipping import add_noise, clipped_to_grid
from dura_client.training.engine import PatientEngine, make_steps
from dura_client.training.patient import TrainingPatient
from dura_common.errors import InputError
from dura_common.models import build
from dura_common.privacy.plan import plan_of
from dura_common.study import Study

DECLARED = 12.0


def settings(**changes: Any) -> Study:
    """Return the study under audit: 10 steps at q = 0.3."""
    privacy = {
        "noise": "local",
        "epsilon": 8.0,
        "delta": 1e-3,
        "participation": 0.3,
        "windows_per_patient": 4,
        "clipping_norm": 0.2,
    }
    training = {"rounds": 2, "steps_per_round": 5, "learning_rate": 0.01}
    return study(privacy=privacy, training=training, model={"name": "eegnet", "temporal_filters": 2}, **changes)


def people() -> list[TrainingPatient]:
    """Return the site's real patients."""
    rng = np.random.default_rng(2)
    return [
        TrainingPatient(rng.normal(size=(6, 3, 64)).astype(np.float32), rng.integers(0, 2, 6))
        for _ in range(int(DECLARED))
    ]


def run(plan: Study | None = None, canaries: int = 300) -> Audit:
    """Audit the engine as it stands at this moment."""
    wanted = plan or settings()
    network = build(wanted.model, channels=3, samples=64, classes=2, sampling_rate=64, seed=1)
    return audit(
        network,
        people(),
        wanted,
        noise_multiplier=plan_of(wanted).noise_multiplier,
        delta=1e-3,
        declared_patients=DECLARED,
        preparation=(),
        canaries=canaries,
    )


def failed(result: Audit) -> set[str]:
    """Return the names of the checks that did not pass."""
    return {check.name for check in result.checks if not check.passed}


def test_the_engine_as_it_is_passes() -> None:
    """Every figure is as accounted, and the fitted epsilon is near the one that this attack should show."""
    result = run(canaries=600)
    assert failed(result) == set()
    low, high = result.fitted_epsilon_range
    assert low * 0.8 <= result.expected_epsilon <= high * 1.25
    assert result.expected_epsilon < plan_of(settings()).training_epsilon
    assert (result.canaries, result.members, result.steps) == (600, 300, 10)


def test_the_engine_passes_with_other_engines_and_models() -> None:
    """Residual descent on vectors, one window a patient, everybody in every step."""
    plan = changed(connectome_study(), training=Only(engine="residual-descent", steps_per_round=3))
    rng = np.random.default_rng(5)
    patients = [TrainingPatient(rng.normal(size=(1, 1, 30)).astype(np.float32), np.array([i % 2])) for i in range(20)]
    network = build(plan.model, channels=1, samples=30, classes=2, sampling_rate=64, seed=1)
    result = audit(
        network,
        patients,
        plan,
        noise_multiplier=plan_of(plan).noise_multiplier,
        delta=1e-3,
        declared_patients=20.0,
        preparation=(),
        canaries=200,
    )
    assert failed(result) == set()


def half_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of half the deviation."""
    monkeypatch.setattr(engine_module, "add_noise", lambda total, multiplier: add_noise(total, multiplier / 2))


def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise at all."""
    monkeypatch.setattr(engine_module, "add_noise", lambda total, _: total)


def noise_forgotten_when_nobody_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty draw stays empty."""
    monkeypatch.setattr(
        engine_module, "add_noise", lambda total, multiplier: add_noise(total, multiplier) if total.any() else total
    )


def noise_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise in every step, as a fixed seed gives."""
    fixed: list[NDArray[np.int64]] = []

    def repeated(total: NDArray[np.int64], multiplier: float) -> NDArray[np.int64]:
        if not fixed:
            fixed.append(add_noise(np.zeros_like(total), multiplier))
        return total + fixed[0]

    monkeypatch.setattr(engine_module, "add_noise", repeated)


def clip_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of twice the clipping norm pass, on the grid of the stated one."""

    def doubled(stacks: Sequence[torch.Tensor], clipping_norm: float) -> torch.Tensor:
        return 2 * clipped_to_grid(stacks, 2 * clipping_norm)

    monkeypatch.setattr(clipping_module, "clipped_to_grid", doubled)


def clipped_per_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each window is clipped by itself, so that a patient weighs as much as his or her windows."""
    honest = PatientEngine.clipped_sum

    def per_window(self: PatientEngine, drawn: Sequence[TrainingPatient]) -> NDArray[np.int64]:
        single = [
            TrainingPatient(one.windows[index : index + 1], one.labels[index : index + 1])
            for one in drawn
            for index in range(len(one.labels))
        ]
        return honest(self, single)

    monkeypatch.setattr(PatientEngine, "clipped_sum", per_window)


def divisor_private(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum is divided by the number of patients that were drawn."""
    honest_sum, drawn_now = PatientEngine.clipped_sum, [1]

    def counted(self: PatientEngine, drawn: Sequence[TrainingPatient]) -> NDArray[np.int64]:
        drawn_now[0] = len(drawn)
        return honest_sum(self, drawn)

    def steps(engine: PatientEngine, *args: Any, **options: Any) -> None:
        class Private(type(engine)):  # type: ignore[misc]  # the observed engine, whose name is its own
            def apply(self, total: NDArray[np.int64], _: float) -> None:
                super().apply(total, float(max(1, drawn_now[0])))

        engine.__class__ = Private
        make_steps(engine, *args, **options)

    monkeypatch.setattr(PatientEngine, "clipped_sum", counted)
    monkeypatch.setattr(audit_module, "make_steps", steps)


def drawn_twice_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patients enter with a larger probability than the accounting was told."""
    honest = engine_module.bernoulli
    monkeypatch.setattr(engine_module, "bernoulli", lambda count, rate: honest(count, min(1.0, 2 * rate)))


def the_same_patients_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same share of patients enters every step: amplification was accounted for, and does not hold."""

    def fixed(_: PatientEngine, patients: Sequence[TrainingPatient]) -> list[TrainingPatient]:
        return list(patients[: round(0.3 * len(patients))])

    monkeypatch.setattr(PatientEngine, "draw", fixed)


def one_noise_for_all_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter of a step gets the same noise, which a sum over parameters takes out again."""
    monkeypatch.setattr(
        engine_module, "add_noise", lambda total, multiplier: total + add_noise(np.zeros(1, np.int64), multiplier)
    )


MUTATIONS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    half_the_noise: "spread of non-members",
    no_noise: "spread of non-members",
    noise_forgotten_when_nobody_is_drawn: "spread when nobody is drawn",
    noise_repeated: "spread of non-members' sums",
    one_noise_for_all_parameters: "spread of non-members' sums",
    clip_doubled: "heaviest patient",
    clipped_per_window: "heaviest patient",
    divisor_private: "mean of members",
    drawn_twice_as_often: "mean of members",
    the_same_patients_every_time: "spread of members' sums",
}


@pytest.mark.long
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_every_mutation_of_the_engine_is_caught(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """A broken engine fails the audit, by the figure that the defect moves."""
    mutate(monkeypatch)
    result = run()
    assert not result.passed
    assert MUTATIONS[mutate] in failed(result)


def test_a_figure_that_is_no_number_never_passes() -> None:
    """An engine that gives NaN fails, whatever the tolerance."""
    assert not Check("spread", float("nan"), 1.0, 1.0).passed
    assert not Check("weight", float("nan"), 1.0, 0.0, bound=True).passed


def test_a_study_without_noise_and_too_few_canaries_are_refused() -> None:
    """There is nothing to audit where nothing is promised, and five canaries say nothing."""
    with pytest.raises(InputError, match="20 canaries"):
        run(canaries=5)
    plan = settings()
    network = build(plan.model, channels=3, samples=64, classes=2, sampling_rate=64, seed=1)
    with pytest.raises(InputError, match="promises no privacy"):
        audit(network, [], plan, noise_multiplier=0.0, delta=1e-3, declared_patients=1.0, preparation=())
    assert torch.isfinite(next(network.parameters())).all()

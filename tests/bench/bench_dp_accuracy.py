"""Accuracy under patient-level privacy against the same model without it, on patients that nobody trained on.

Simulated motor imagery of four different hospitals, pooled as noise shared between sites gives it. Settings were
chosen on the pool "tune" alone, which appears in no figure; what was tried stands in ``TRIED``. For a seed the
private and the plain model see the same patients and begin with the same parameters.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tests.bench.line import Line
from tests.bench.parts.motor_people import CONTRACT, people

from dura_client.training.engine import PatientEngine, make_steps
from dura_client.training.evaluation import score
from dura_client.training.patient import TrainingPatient
from dura_common.models import build, project_constraints
from dura_common.privacy import SampledGaussian, calibrate_training, epsilon_of
from dura_common.study import Study

MODEL = {"name": "eegnet", "temporal_filters": 8, "kernel_seconds": 0.25, "dropout": 0.0}
PLAIN_MODEL = {**MODEL, "dropout": 0.25}
PLAIN = {"epochs": 4, "batch": 64, "learning_rate": 0.003}
"""Without privacy: ordinary training in shuffled batches of windows, none of dura's engine."""
TRIED = (
    "on 200 patients of the pool tune, scored on 100 others, seed 1, epsilon 8:",
    "60 steps, rate .01, norm .5: .897; rate .02: .906; norm .2: .898; 8 windows instead of 32: .895",
    "100 steps, rate .01, norm .5: .906; 60 steps of an EEGNet of half the filters, rate .01: .898",
    "plain: 4 epochs at .003 .916, 12 epochs at .003 .910, 12 epochs at .001 .913",
    "1000 patients: rate and norm as found for 200, nothing tried",
)


@dataclass(frozen=True)
class Setting:
    """One figure's settings."""

    patients: int
    epsilon: float
    delta: float
    steps: int
    learning_rate: float
    participation: float
    clipping_norm: float
    windows: int = 32


SETTINGS = {
    "200p_eps8": Setting(200, 8.0, 1e-3, 60, 0.02, 0.5, 0.5),
    "1000p_eps3": Setting(1000, 3.0, 1e-4, 80, 0.02, 0.1, 0.5),
}
SEEDS = (1, 2, 3)


def study(setting: Setting, model: dict[str, Any] | None = None) -> Study:
    """Return the study of a setting."""
    return Study.model_validate(
        {
            "name": "bench",
            "question": "?",
            "expires": "2099-01-01",
            "sites": {"north": setting.patients, "east": setting.patients},
            "data": CONTRACT.model_dump(),
            "model": model or MODEL,
            "privacy": {
                "noise": "none",  # the noise of the pooled sum is added below
                "participation": setting.participation,
                "windows_per_patient": setting.windows,
                "clipping_norm": setting.clipping_norm,
            },
            "training": {
                "rounds": 1,
                "steps_per_round": setting.steps,
                "learning_rate": setting.learning_rate,
            },
            "aggregation": {"minimum_sites": 2},
        }
    )


def first_model(plan: Study, seed: int) -> torch.nn.Module:
    """Return the study's model with the first parameters of a seed."""
    return build(
        plan.model,
        channels=len(plan.data.channels),
        samples=plan.data.window_samples,
        classes=2,
        sampling_rate=plan.data.sampling_rate,
        seed=seed,
    )


def noise_of(setting: Setting) -> float:
    """Return the noise multiplier of a setting."""
    return calibrate_training(setting.epsilon, setting.delta, setting.participation, setting.steps)


def trained_privately(plan: Study, patients: Sequence[TrainingPatient], noise: float, seed: int) -> torch.nn.Module:
    """Return the study's model trained by the engine."""
    torch.manual_seed(seed)  # of dropout; sampling and noise have no seed
    divisor = plan.privacy.participation * len(patients)
    engine = PatientEngine(first_model(plan, seed), plan, preparation=())
    make_steps(engine, patients, plan.training.steps, noise, divisor)
    return engine.finish()


def trained_plainly(plan: Study, patients: Sequence[TrainingPatient], seed: int) -> torch.nn.Module:
    """Return the study's model trained without privacy, in shuffled batches over all windows."""
    torch.manual_seed(seed)
    network = first_model(plan, seed).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=PLAIN["learning_rate"])
    windows = torch.from_numpy(np.concatenate([one.windows for one in patients]))
    labels = torch.from_numpy(np.concatenate([one.labels for one in patients]))
    for _ in range(int(PLAIN["epochs"])):
        for part in torch.split(torch.randperm(len(labels)), int(PLAIN["batch"])):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(windows[part]), labels[part]).backward()
            optimiser.step()
            project_constraints(network)
    return network.eval()


def accuracy_of(network: torch.nn.Module, unseen: Sequence[TrainingPatient]) -> float:
    """Return the mean over unseen patients of their share of windows classified rightly."""
    return float(np.mean([score(network, one) for one in unseen]))


def accuracy(name: str) -> Line:
    """Measure the points that privacy costs, mean over seeds."""
    torch.set_num_threads(2)
    setting = SETTINGS[name]
    unseen = people("unseen", range(2))
    noise = noise_of(setting)
    hundreds = setting.patients // 100
    private, plain = [], []
    for number, seed in enumerate(SEEDS):
        first = number * hundreds if hundreds * len(SEEDS) <= 10 else 0  # chunks of the pool
        patients = people("train", range(first, first + hundreds))
        private.append(accuracy_of(trained_privately(study(setting), patients, noise, seed), unseen))
        plain.append(accuracy_of(trained_plainly(study(setting, PLAIN_MODEL), patients, seed), unseen))
        so_far = f"{name}, seed {seed}: private {private[-1]:.3f}, plain {plain[-1]:.3f}"
        print(so_far, file=sys.stderr, flush=True)  # noqa: T201  # a script's output; a seed takes minutes
    event = SampledGaussian(participation=setting.participation, noise_multiplier=noise, steps=setting.steps)
    detail = {
        "private": _spread(private),
        "plain": _spread(plain),
        "seeds": len(SEEDS),
        "unseen_patients": len(unseen),
        "epsilon": epsilon_of([event], setting.delta),
        "noise_multiplier": noise,
        "setting": setting.__dict__,
        "plain_setting": PLAIN,
        "model": MODEL,
        "tried": TRIED,
    }
    gap = [100 * (without - with_) for with_, without in zip(private, plain, strict=True)]
    return Line(f"dp_accuracy.{name}", statistics.mean(gap), "points below training without privacy", detail)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": list(values)}


BENCHES: dict[str, Callable[[], Line]] = {
    f"dp_accuracy.{name}": lambda name=name: accuracy(name)  # type: ignore[misc]  # a default binds the name now
    for name in SETTINGS
}

"""Accuracy under patient-level privacy against the same model without it, on patients that nobody trained on.

Simulated motor imagery of four different hospitals, pooled as noise shared between sites gives it. Settings were
chosen on the pool "tune" alone, which appears in no figure; what was tried stands in ``TRIED``. For a seed the
private and the plain model see the same patients and begin with the same parameters.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tests.bench.line import Line
from tests.bench.motor_people import CONTRACT, people

from dura_client.training.engine import PatientEngine, make_steps
from dura_client.training.evaluation import score
from dura_client.training.patient import TrainingPatient
from dura_common.models import build
from dura_common.privacy import SampledGaussian, calibrate_training, epsilon_of
from dura_common.study import Study

MODEL = {"name": "eegnet", "temporal_filters": 8, "kernel_seconds": 0.25, "dropout": 0.0}
PLAIN = {"steps": 300, "learning_rate": 0.005, "participation": 0.25}
"""Without privacy: no clipping, no noise."""
UNCLIPPED = 1e6
TRIED: tuple[str, ...] = ()


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
    "200p_eps8": Setting(200, 8.0, 1e-3, 100, 0.01, 0.5, 0.5),
    "1000p_eps3": Setting(1000, 3.0, 1e-4, 100, 0.01, 0.1, 0.5),
}
SEEDS = (1, 2, 3)


def study(setting: Setting, *, private: bool, model: dict[str, Any] | None = None) -> Study:
    """Return the study of a setting, or of plain training beside it."""
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
                "participation": setting.participation if private else PLAIN["participation"],
                "windows_per_patient": setting.windows,
                "clipping_norm": setting.clipping_norm if private else UNCLIPPED,
            },
            "training": {
                "rounds": 1,
                "steps_per_round": setting.steps if private else PLAIN["steps"],
                "learning_rate": setting.learning_rate if private else PLAIN["learning_rate"],
            },
            "aggregation": {"minimum_sites": 2},
        }
    )


def trained(plan: Study, patients: Sequence[TrainingPatient], noise: float, seed: int) -> torch.nn.Module:
    """Return the study's model trained on these patients with this noise multiplier."""
    network = build(
        plan.model,
        channels=len(plan.data.channels),
        samples=plan.data.window_samples,
        classes=2,
        sampling_rate=plan.data.sampling_rate,
        seed=seed,
    )
    torch.manual_seed(seed)  # of dropout; nothing else asks torch for numbers
    engine = PatientEngine(network, plan, divisor=plan.privacy.participation * len(patients), preparation=())
    make_steps(engine, patients, plan.training.steps, noise)
    return engine.finish()


def compare(
    setting: Setting, patients: Sequence[TrainingPatient], unseen: Sequence[TrainingPatient], seed: int
) -> tuple[float, float]:
    """Return the accuracies on unseen patients with privacy and without."""
    noise = calibrate_training(setting.epsilon, setting.delta, setting.participation, setting.steps)
    private = trained(study(setting, private=True), patients, noise, seed)
    plain = trained(study(setting, private=False), patients, 0.0, seed)
    return tuple(float(np.mean([score(model, one) for one in unseen])) for model in (private, plain))  # type: ignore[return-value]  # two models, two values


def accuracy(name: str) -> Line:
    """Measure the points that privacy costs, mean over seeds."""
    torch.set_num_threads(2)
    setting = SETTINGS[name]
    unseen = people("unseen", range(2))
    hundreds = setting.patients // 100
    pairs = []
    for number, seed in enumerate(SEEDS):
        first = number * hundreds if hundreds * len(SEEDS) <= 10 else 0  # chunks of the pool
        pairs.append(compare(setting, people("train", range(first, first + hundreds)), unseen, seed))
    noise = calibrate_training(setting.epsilon, setting.delta, setting.participation, setting.steps)
    event = SampledGaussian(participation=setting.participation, noise_multiplier=noise, steps=setting.steps)
    private, plain = zip(*pairs, strict=True)
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
    gap = [100 * (without - with_) for with_, without in pairs]
    return Line(f"dp_accuracy.{name}", statistics.mean(gap), "points below training without privacy", detail)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": list(values)}


BENCHES: dict[str, Callable[[], Line]] = {
    f"dp_accuracy.{name}": lambda name=name: accuracy(name)  # type: ignore[misc]  # a default binds the name now
    for name in SETTINGS
}

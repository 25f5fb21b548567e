"""An audit of the whole engine: canaries whose membership the released parameters may reveal only so far.

Each canary's gradient has its own coordinate and the full clipping norm. Over T steps of sampling rate q the
coordinate of a member has mean T q and variance T (sigma^2 + q (1 - q)) in units of the clipping norm, that of a
non-member mean 0 and variance T sigma^2. Noise that is too small, sampling that is too frequent, clipping that is
too weak and a divisor that follows the data each move these figures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dura_client.training.engine import train_round
from dura_client.training.patient import TrainingPatient
from dura_common.privacy.plan import PrivacyPlan, plan_of
from dura_common.study import Study

CANARIES = 400
STEPS = 25
RATE = 0.5
LEARNING_RATE = 1e-9
"""So small that no gradient depends on the steps before."""
CLIP = 0.3
DECLARED = 1000.0


class Coordinates(nn.Module):
    """Two logits: one parameter per canary, and zero."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CANARIES))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return (windows, 2)."""
        first = windows.flatten(1) @ self.weight
        return torch.stack([first, torch.zeros_like(first)], dim=1)


@pytest.fixture(scope="module")
def study() -> Study:
    """Return a study of one round."""
    return Study.model_validate(
        {
            "name": "audit",
            "question": "?",
            "expires": "2099-01-01",
            "sites": {"north": 900, "east": 900},
            "data": {
                "task": "t",
                "channels": ["C3", "C4"],
                "sampling_rate": 64.0,
                "band": [4.0, 30.0],
                "window_start": 0.0,
                "window_length": 1.0,
                "classes": ["a", "b"],
            },
            "privacy": {
                "noise": "local",
                "epsilon": 8.0,
                "delta": 1e-4,
                "participation": RATE,
                "windows_per_patient": 2,
                "clipping_norm": CLIP,
            },
            "training": {
                "rounds": 1,
                "steps_per_round": STEPS,
                "learning_rate": LEARNING_RATE,
                "optimiser": "sgd",
            },
            "evaluation": {"epsilon": 4.0},
            "aggregation": {"minimum_sites": 2},
        }
    )


def audit(study: Study, plan: PrivacyPlan, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what the release shows of members and of non-members, in units of the clipping norm."""
    members = np.random.default_rng(seed).random(CANARIES) < 0.5
    patients = []
    for index in np.flatnonzero(members):
        windows = np.zeros((3, 1, CANARIES), dtype=np.float32)
        windows[:, 0, index] = 1e4
        patients.append(TrainingPatient(windows, np.ones(3, dtype=np.int64)))
    network = Coordinates()
    train_round(network, patients, study, plan, declared_patients=DECLARED, preparation=())
    shown = -network.weight.detach().double().numpy() / LEARNING_RATE * (RATE * DECLARED) / CLIP
    return shown[members], shown[~members]


def test_members_show_exactly_as_much_as_the_accounting_says(study: Study) -> None:
    """Mean and spread of members and non-members are those of the mechanism that the accountant was told about."""
    sigma = plan_of(study).noise_multiplier
    inside, outside = audit(study, plan_of(study), seed=1)
    assert np.std(outside) == pytest.approx(sigma * STEPS**0.5, rel=0.25)
    assert np.std(inside) == pytest.approx((STEPS * (sigma**2 + RATE * (1 - RATE))) ** 0.5, rel=0.25)
    error = sigma * STEPS**0.5 / (CANARIES / 2) ** 0.5
    assert np.mean(outside) == pytest.approx(0, abs=5 * error)
    assert np.mean(inside) == pytest.approx(STEPS * RATE, abs=5 * error)


def test_the_audit_would_notice_half_the_noise(study: Study) -> None:
    """With half the noise that was accounted for, the spread of non-members is far outside the band above."""
    plan = plan_of(study)
    _, outside = audit(study, replace(plan, noise_multiplier=plan.noise_multiplier / 2), seed=2)
    assert np.std(outside) < 0.65 * plan.noise_multiplier * STEPS**0.5

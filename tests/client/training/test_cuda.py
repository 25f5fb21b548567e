"""The engine on a CUDA device: the same sums as on the CPU, and noise from the operating system all the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.support.studies import study

from dura_client.training.audit import audit
from dura_client.training.engine import PatientEngine, train_round
from dura_client.training.patient import TrainingPatient
from dura_common.models import build, to_vector
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.plan import plan_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
MODELS = [
    {"name": "eegnet", "dropout": 0.0},
    {"name": "shallow", "filters": 8, "dropout": 0.0},
    {"name": "gru", "dropout": 0.0},
    {"name": "linear"},
]


def people(windows: int) -> list[TrainingPatient]:
    """Return patients of Gaussian windows; one of them holds a value that is not finite."""
    rng = np.random.default_rng(4)
    found = [
        TrainingPatient(rng.normal(size=(windows, 3, 256)).astype(np.float32), rng.integers(0, 2, windows))
        for _ in range(9)
    ]
    found[3].windows[0, 0, 0] = np.nan
    return found


@pytest.mark.parametrize("windows", [1, 6])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model["name"])
def test_the_sums_are_those_of_the_cpu(model: dict[str, object], windows: int) -> None:
    """Clipped integer sums agree within a thousandth of one patient's weight, and are integers on both."""
    plan = study(model=model)
    sums = []
    for device in ("cpu", "cuda"):
        network = build(plan.model, channels=3, samples=256, classes=2, sampling_rate=128, seed=1)
        engine = PatientEngine(network, plan, preparation=(), device=device)
        sums.append(engine.clipped_sum(people(windows)))
    assert sums[0].dtype == sums[1].dtype == np.int64
    assert np.linalg.norm((sums[0] - sums[1]).astype(np.float64)) < 9e-3 * WHOLE


def test_no_seed_of_any_device_reaches_the_noise() -> None:
    """Seeding CUDA and CPU generators does not repeat a step, and the model comes back to the CPU."""
    plan = study(training={"rounds": 1, "steps_per_round": 2, "learning_rate": 0.01})
    results = []
    for _ in range(2):
        torch.manual_seed(1)
        torch.cuda.manual_seed_all(1)
        network = build(plan.model, channels=3, samples=256, classes=2, sampling_rate=128, seed=1)
        train_round(network, people(4), plan, plan_of(plan), declared_patients=9.0, preparation=(), device="cuda")
        assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
        results.append(to_vector(network))
    assert not np.array_equal(*results)


def test_the_audit_passes_on_the_device() -> None:
    """Noise, sampling, clipping and divisor are as accounted on CUDA too."""
    plan = study(training={"rounds": 1, "steps_per_round": 6, "learning_rate": 0.01})
    network = build(plan.model, channels=3, samples=256, classes=2, sampling_rate=128, seed=1)
    noise = plan_of(plan).noise_multiplier
    result = audit(
        network,
        people(4),
        plan,
        noise_multiplier=noise,
        delta=1e-3,
        declared_patients=9.0,
        preparation=(),
        canaries=200,
        device="cuda",
    )
    assert result.passed, result.checks

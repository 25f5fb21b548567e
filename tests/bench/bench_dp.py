"""What patient-level privacy costs in time and memory, against the same model trained without it.

Non-private training takes the same windows in the same groups: a step of P patients with K windows each is one batch
of P x K windows, in parts of 64 as anybody with bounded memory would take them, and one optimiser step.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from tests.bench.line import Line, interleaved
from torch import nn

from dura_client.training.clipping import add_noise
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient
from dura_common.models import build
from dura_common.models.shallow import ShallowConvNet
from dura_common.study import Study
from dura_common.study.models import EEGNetModel, Model, RecurrentModel, ShallowConvNetModel

THREADS = 2
PATIENTS = 16
WINDOWS = 16
CHANNELS, SAMPLES, RATE, CLASSES = 22, 512, 256.0, 4
BATCH = 64
REPEATS = 7
MODELS: dict[str, Model] = {
    "eegnet": EEGNetModel(kernel_seconds=0.25),
    "shallow": ShallowConvNetModel(name="shallow"),
    "gru": RecurrentModel(name="gru"),
}


def study(model: Model) -> Study:
    """Return a study in which everybody takes part in every step."""
    return Study.model_validate(
        {
            "name": "bench",
            "question": "?",
            "expires": "2099-01-01",
            "sites": {"north": PATIENTS, "east": PATIENTS},
            "data": {
                "task": "t",
                "channels": [f"E{number}" for number in range(CHANNELS)],
                "sampling_rate": RATE,
                "band": [4.0, 38.0],
                "window_start": 0.0,
                "window_length": SAMPLES / RATE,
                "classes": [f"class{number}" for number in range(CLASSES)],
            },
            "model": model.model_dump(),
            "privacy": {"noise": "none", "participation": 1.0, "windows_per_patient": WINDOWS},
            "training": {"rounds": 1, "steps_per_round": 1, "learning_rate": 1e-3},
            "evaluation": {"held_out": 0.25},
            "aggregation": {"minimum_sites": 2},
        }
    )


def network(model: Model) -> nn.Module:
    """Return the model with its first parameters."""
    return build(model, channels=CHANNELS, samples=SAMPLES, classes=CLASSES, sampling_rate=RATE, seed=1)


def people() -> list[TrainingPatient]:
    """Return patients of Gaussian windows."""
    rng = np.random.default_rng(1)
    return [
        TrainingPatient(
            rng.normal(size=(WINDOWS, CHANNELS, SAMPLES)).astype(np.float32), rng.integers(0, CLASSES, WINDOWS)
        )
        for _ in range(PATIENTS)
    ]


def private_step(model: Model, patients: Sequence[TrainingPatient]) -> Callable[[], None]:
    """Return one step of dura's engine: draw, clipped sum, noise, optimiser."""
    engine = PatientEngine(network(model), study(model), preparation=())

    def step() -> None:
        engine.apply(add_noise(engine.clipped_sum(engine.draw(patients)), 1.0), float(PATIENTS))

    return step


def plain_step(model: Model, patients: Sequence[TrainingPatient]) -> Callable[[], None]:
    """Return one step of ordinary training on the same windows."""
    net = network(model).train()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        windows = torch.from_numpy(np.concatenate([one.windows for one in patients]))
        labels = torch.from_numpy(np.concatenate([one.labels for one in patients]))
        for begin in range(0, len(labels), BATCH):
            part = slice(begin, begin + BATCH)
            loss = nn.functional.cross_entropy(net(windows[part]), labels[part], reduction="sum") / len(labels)
            loss.backward()
        optimiser.step()

    return step


class TwoConvs(nn.Module):
    """ShallowConvNet with the paper's two convolutions, which Opacus knows; the fused one it does not."""

    def __init__(self, fused: ShallowConvNet) -> None:
        super().__init__()
        self.temporal, self.spatial = fused.filter.temporal, fused.filter.spatial
        self.norm, self.pool, self.dropout = fused.norm, fused.pool, fused.dropout
        self.classifier = fused.classifier

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        filtered = self.spatial(self.temporal(windows.unsqueeze(1))).squeeze(2)
        power = self.pool(self.norm(filtered).square())
        logits: torch.Tensor = self.classifier(self.dropout(torch.log(power.clamp(min=1e-6))).flatten(1))
        return logits


def opacus_step(model: Model, patients: Sequence[TrainingPatient]) -> Callable[[], None]:
    """Return one step of Opacus with hooks: per-window clipping (its unit), the same windows, parts of 64."""
    net = network(model).train()
    if isinstance(net, ShallowConvNet):
        net = TwoConvs(net).train()
    wrapped = GradSampleModule(copy.deepcopy(net))
    optimiser = DPOptimizer(
        torch.optim.Adam(wrapped.parameters(), lr=1e-3),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=PATIENTS * WINDOWS,
    )

    def step() -> None:
        windows = torch.from_numpy(np.concatenate([one.windows for one in patients]))
        labels = torch.from_numpy(np.concatenate([one.labels for one in patients]))
        for begin in range(0, len(labels), BATCH):
            part = slice(begin, begin + BATCH)
            nn.functional.cross_entropy(wrapped(windows[part]), labels[part]).backward()
            optimiser.signal_skip_step(do_skip=begin + BATCH < len(labels))
            optimiser.step()
            optimiser.zero_grad()

    return step


def step_ratio(name: str) -> Line:
    """Measure dura's private step over a step without privacy."""
    torch.set_num_threads(THREADS)
    model, patients = MODELS[name], people()
    works = {"private": Counted(private_step(model, patients)), "plain": Counted(plain_step(model, patients))}
    times = interleaved(REPEATS, **works)
    detail = _detail(model, times)
    # Of the processor: what remains of the comparison on a machine that has other work, where threads wait.
    detail["processor_ratio"] = works["private"].median / works["plain"].median
    return Line(f"dp_step_ratio.{name}", times["private"] / times["plain"], "ratio", detail)


class Counted:
    """Work whose processor seconds are kept."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._seconds: list[float] = []

    def __call__(self) -> None:
        """Do the work once."""
        begin = time.process_time()
        self._work()
        self._seconds.append(time.process_time() - begin)

    @property
    def median(self) -> float:
        """Median processor seconds."""
        return statistics.median(self._seconds)


def against_hooks(name: str) -> Line:
    """Measure Opacus's hooks over dura's private step."""
    torch.set_num_threads(THREADS)
    model, patients = MODELS[name], people()
    times = interleaved(
        REPEATS,
        hooks=opacus_step(model, patients),
        private=private_step(model, patients),
        plain=plain_step(model, patients),
    )
    detail = _detail(model, times)
    detail["hooks_over_plain"] = times["hooks"] / times["plain"]
    return Line(f"dp_vs_opacus_hooks.{name}", times["hooks"] / times["private"], "ratio", detail)


def _detail(model: Model, times: dict[str, float]) -> dict[str, Any]:
    size = sum(parameter.numel() for parameter in network(model).parameters())
    return {
        "seconds": times,
        "threads": THREADS,
        "patients": PATIENTS,
        "windows_per_patient": WINDOWS,
        "window": [CHANNELS, SAMPLES],
        "parameters": size,
        "repeats": REPEATS,
    }


MEASURE = """
import json, sys
from pathlib import Path
import torch
from tests.bench import bench_dp

def kib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))

torch.set_num_threads(bench_dp.THREADS)
model, patients = bench_dp.MODELS[sys.argv[1]], bench_dp.people()
make = getattr(bench_dp, sys.argv[2])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = kib("VmRSS")
step = make(model, patients)
for _ in range(4):
    step()
print(json.dumps((kib("VmHWM") - before) / 1024))
"""


def peak_memory(name: str) -> Line:
    """Measure the largest resident memory that training adds, each way in fresh processes; the difference in MiB."""
    middle = {
        make: statistics.median(_added(name, make) for _ in range(3))
        for make in ("private_step", "plain_step", "opacus_step")
    }
    detail = {"added_mib": middle, "bound_mib": 64, "runs": 3, "threads": THREADS, "batch": BATCH}
    return Line(f"dp_peak_memory.{name}", middle["private_step"] - middle["plain_step"], "MiB", detail)


def _added(name: str, make: str) -> float:
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, name, make]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


BENCHES: dict[str, Callable[[], Line]] = {
    **{f"dp_step_ratio.{name}": lambda name=name: step_ratio(name) for name in MODELS},
    **{f"dp_vs_opacus_hooks.{name}": lambda name=name: against_hooks(name) for name in ("eegnet", "shallow")},
    "dp_peak_memory.eegnet": lambda: peak_memory("eegnet"),
}

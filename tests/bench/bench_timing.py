"""What the time of a step tells of the draw, what hiding it costs, and what subnormal recordings cost.

Two observers: one who sees the processor (seconds of the process) and one who sees the line (when a vector leaves).
Patients and the model have seeds; draws come from the operating system, as in a study.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tests.bench.bench_dp import CHANNELS, CLASSES, SAMPLES
from tests.bench.bench_dp import study as without_noise
from tests.bench.line import Line

from dura_client.release.pace import Pace
from dura_client.training.clipping import add_noise
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient
from dura_client.training.places import most_drawn
from dura_common.models import build_model
from dura_common.study import Study
from dura_common.study.models import EEGNetModel

PATIENTS, WINDOWS, RATE, STEPS = 30, 8, 0.5, 60
SEED = 3


@dataclass(frozen=True)
class Seen:
    """What two observers saw of many steps."""

    drawn: list[int]
    processor: list[float]
    line: list[float]

    def told(self, times: Sequence[float]) -> float:
        """Return the correlation of times with the number of patients drawn; zero if either never changes."""
        if np.std(times) == 0 or np.std(self.drawn) == 0:
            return 0.0
        return float(np.corrcoef(times, self.drawn)[0, 1])


def study() -> Study:
    """Return the study: EEGNet on 22 x 512, 30 patients, 8 windows each, q 0.5."""
    plain = without_noise(EEGNetModel(kernel_seconds=0.25)).model_dump()
    plain["sites"] = {"north": PATIENTS, "east": PATIENTS}
    plain["privacy"] = {"noise": "none", "participation": RATE, "windows_per_patient": WINDOWS}
    return Study.model_validate(plain)


def people(scale: float = 1.0) -> list[TrainingPatient]:
    """Return patients of Gaussian windows."""
    rng = np.random.default_rng(SEED)
    return [
        TrainingPatient(
            (scale * rng.standard_normal((WINDOWS, CHANNELS, SAMPLES))).astype(np.float32),
            rng.integers(0, CLASSES, WINDOWS),
        )
        for _ in range(PATIENTS)
    ]


def watched(places: int, *, tick: bool) -> Seen:
    """Make steps and watch them."""
    torch.set_num_threads(1)
    asked = study()
    engine = PatientEngine(build_model(asked), asked, preparation=(), places=places)
    pace = Pace.measured(engine, places, steps=1) if tick else None
    patients, seen = people(), Seen([], [], [])
    for number in range(STEPS + 3):
        begin, used = time.monotonic(), time.process_time()
        drawn = engine.draw(patients)
        add_noise(engine.clipped_sum(drawn), 1.0)
        took = time.process_time() - used
        if pace is not None:
            pace.wait(begin)
        if number >= 3:  # the first ones warm up
            seen.drawn.append(len(drawn))
            seen.processor.append(took)
            seen.line.append(time.monotonic() - begin)
    return seen


def told(name: str, places: int, *, tick: bool) -> Line:
    """Measure what both observers learn, and what a step costs."""
    seen = watched(places, tick=tick)
    detail = {
        "r_processor": seen.told(seen.processor),
        "r_line": seen.told(seen.line),
        "processor_ms": 1e3 * float(np.median(seen.processor)),
        "line_ms": 1e3 * float(np.median(seen.line)),
        "line_ms_deviation": 1e3 * float(np.std(seen.line)),
        "steps": STEPS,
        "places": places,
        "seed": SEED,
    }
    figure = detail["r_line"] if tick else detail["r_processor"]
    return Line(f"timing_told.{name}", abs(float(figure)), "|r|", detail)


SUBNORMAL = """
import sys, time
import numpy as np
from tests.bench.bench_timing import people, study
from dura_client.training.engine import PatientEngine
from dura_client.training.subnormals import flush_subnormals
from dura_common.models import build_model
import torch
if sys.argv[1] == "flushed":
    flush_subnormals()
torch.set_num_threads(1)
asked = study()
engine = PatientEngine(build_model(asked), asked, preparation=())
def cost(patients):
    engine.clipped_sum(patients)
    times = []
    for _ in range(3):
        begin = time.process_time()
        engine.clipped_sum(patients)
        times.append(time.process_time() - begin)
    return min(times)
print(cost(people(1e-40)[:4]) / cost(people()[:4]))
"""


def subnormal(how: str) -> Line:
    """Measure a step on recordings of 1e-40 over one on ordinary ones, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", SUBNORMAL, how]
    ratio = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return Line(f"timing_subnormal.{how}", ratio, "ratio", {"scale": 1e-40, "patients": 4, "seed": SEED})


FILLED = most_drawn(PATIENTS, RATE, 300)
BENCHES: dict[str, Callable[[], Line]] = {
    "timing_told.open": lambda: told("open", 0, tick=False),
    "timing_told.places": lambda: told("places", FILLED, tick=False),
    "timing_told.places_and_tick": lambda: told("places_and_tick", FILLED, tick=True),
    "timing_subnormal.kept": lambda: subnormal("kept"),
    "timing_subnormal.flushed": lambda: subnormal("flushed"),
}

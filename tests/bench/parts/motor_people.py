"""Simulated motor-imagery patients for benches, prepared as a site prepares recordings, kept on disk.

Patients come in chunks of 25 of one hospital; a pool is a family of seeds, so that patients on whom settings are
chosen and patients on whom figures are reported are never the same. DURA_BENCH_DATA names the folder.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from dura_client.data.simulated.hospitals import HOSPITALS
from dura_client.data.simulated.simulate import simulate
from dura_client.training.patient import TrainingPatient
from dura_common.study import SignalContract
from dura_server.demo.demo import CODES, WRONG_UNITS

CHUNK = 25
TRIALS = 32
POOLS = {"tune": 1_000, "train": 2_000, "unseen": 3_000}
CONTRACT = SignalContract(
    task="motorimagery",
    channels=("F3", "F4", "C3", "Cz", "C4", "T7", "T8", "P3", "Pz", "P4", "Oz"),
    sampling_rate=64.0,
    band=(4.0, 30.0),
    window_start=0.5,
    window_length=2.0,
    classes=("left_hand", "right_hand"),
    minimum_patients=1,
)


def people(pool: str, chunks: Iterable[int]) -> list[TrainingPatient]:
    """Return the patients of these chunks of all four hospitals, 100 for each number of a chunk."""
    return [patient for chunk in chunks for name in HOSPITALS for patient in _chunk(pool, name, chunk)]


def _chunk(pool: str, hospital: str, chunk: int) -> list[TrainingPatient]:
    folder = Path(os.environ.get("DURA_BENCH_DATA", "build/bench-data"))
    path = folder / f"{pool}-{hospital}-{chunk}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(path, hospital, POOLS[pool] + chunk)
    with np.load(path, allow_pickle=False) as archive:
        return [
            TrainingPatient(archive[f"windows{number}"], archive[f"labels{number}"])
            for number in range(len(archive.files) // 2)
        ]


def _make(path: Path, hospital: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        simulate(root / hospital, hospital, patients=CHUNK, trials=TRIALS, seed=seed)
        dataset = DataSet(
            name="bench",
            root=str(root / hospital),
            task=CONTRACT.task,
            labels=dict(code.split("=") for code in CODES.get(hospital, ())),
            scale=float(WRONG_UNITS.get(hospital, 1)),
        )
        patients = prepare(dataset, CONTRACT, cache=root / "cache", pseudonym_key=b"b" * 32).patients
        arrays = {f"windows{number}": np.array(patient.windows) for number, patient in enumerate(patients)}
        arrays |= {f"labels{number}": patient.labels for number, patient in enumerate(patients)}
        part = path.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.rename(path)

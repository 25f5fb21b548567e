"""Small simulated hospitals, written once, and the contract that all four can fulfil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.running import TASK

from dura_client.data.dataset import DataSet
from dura_client.data.simulated.hospitals import HOSPITALS
from dura_client.data.simulated.simulate import simulate
from dura_common.study import SignalContract

PATIENTS = 3
TRIALS = 8
LABELS = {"west": {"1": "left_hand", "2": "right_hand"}}
SCALES = {"south": 1e-3}


@pytest.fixture(scope="session")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the four hospitals; tests read it and never change it."""
    root = tmp_path_factory.mktemp("hospitals")
    for name in HOSPITALS:
        simulate(root / name, name, patients=PATIENTS, trials=TRIALS, seed=7)
    return root


@pytest.fixture
def own_copy(hospitals: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a hospital for a test that damages it."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(hospitals / name, tmp_path / name))

    return copy


@pytest.fixture
def registered() -> Callable[..., DataSet]:
    """Return a function that registers a hospital's folder as a careful data manager would."""

    def dataset(root: Path, **changes: object) -> DataSet:
        fields: dict[str, object] = {
            "name": "motor",
            "root": str(root),
            "task": TASK,
            "labels": LABELS.get(root.name, {}),
            "scale": SCALES.get(root.name, 1.0),
        }
        return DataSet.model_validate({**fields, **changes})

    return dataset


@pytest.fixture
def contract() -> SignalContract:
    """Return what a motor-imagery study asks for."""
    return SignalContract(
        task=TASK,
        channels=("F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Oz"),
        sampling_rate=128.0,
        band=(4.0, 38.0),
        window_start=0.5,
        window_length=2.0,
        classes=("left_hand", "right_hand"),
        minimum_patients=2,
    )

"""A study small enough to be rehearsed in seconds, and patients that all tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.studies import changed, study

from dura_common.study import Study
from dura_server.rehearsal.grid import Settings

SITES = {"north": 8, "west": 12}
SETTINGS = Settings(epsilons=(8.0,), seeds=1, trials=6, data_seed=5)


def small(**changes: Any) -> Study:
    """Return a study of two sites of unlike size, with changed sections."""
    base = study(
        expires="2099-01-01",
        sites=SITES,
        data={
            "channels": ["C3", "Cz", "C4", "Pz"],
            "sampling_rate": 64.0,
            "band": [6.0, 28.0],
            "minimum_patients": 8,
        },
        privacy={"windows_per_patient": 4},
        training={"rounds": 2, "steps_per_round": 3, "optimiser": "sgd", "learning_rate": 0.05},
    )
    return changed(base, **changes) if changes else base


@pytest.fixture(scope="session")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the small study's patients are kept from one rehearsal to the next."""
    return tmp_path_factory.mktemp("patients")

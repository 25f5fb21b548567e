"""A valid study to vary."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def study_data() -> dict[str, Any]:
    """Return the smallest sensible private study as plain data; tests change single values."""
    return {
        "name": "hands",
        "question": "Left or right?",
        "expires": "2099-01-01",
        "sites": {"north": 40, "east": 40, "south": 40},
        "data": {
            "task": "motorimagery",
            "channels": ["C3", "Cz", "C4"],
            "sampling_rate": 128.0,
            "band": [4.0, 38.0],
            "window_start": 0.5,
            "window_length": 2.0,
            "classes": ["left_hand", "right_hand"],
            "minimum_patients": 10,
        },
        "privacy": {
            "noise": "local",
            "epsilon": 8.0,
            "delta": 1e-3,
            "participation": 0.5,
            "windows_per_patient": 8,
        },
        "training": {"rounds": 5, "steps_per_round": 10, "learning_rate": 0.01},
        "evaluation": {"epsilon": 8.0},
        "aggregation": {"minimum_sites": 3},
    }

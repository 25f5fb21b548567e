"""A study on fixed feature vectors, for tests that need one."""

from __future__ import annotations

from dura_common.study import Study


def connectome_study() -> Study:
    """Return a one-sum study."""
    return Study.model_validate(
        {
            "name": "edges",
            "question": "?",
            "expires": "2099-01-01",
            "sites": {"north": 20, "east": 20},
            "data": {
                "task": "rest",
                "channels": ["C3", "C4"],
                "sampling_rate": 64.0,
                "band": [1.0, 30.0],
                "window_start": 0.0,
                "window_length": 1.0,
                "classes": ["control", "case"],
            },
            "model": {"name": "linear"},
            "privacy": {
                "noise": "local",
                "epsilon": 1.0,
                "delta": 1e-3,
                "participation": 1.0,
                "windows_per_patient": 1,
            },
            "training": {"engine": "one-sum"},
            "evaluation": {"epsilon": 1.0},
            "aggregation": {"minimum_sites": 2},
        }
    )

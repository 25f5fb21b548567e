"""The one builder of studies: every test says only what its study has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from dura_common.study import Study

DEFAULT: dict[str, Any] = {
    "name": "hands",
    "question": "Left or right?",
    "expires": "2030-06-01",
    "sites": {"north": 40, "east": 40},
    "data": {
        "task": "motorimagery",
        "channels": ["C3", "Cz", "C4"],
        "sampling_rate": 128.0,
        "band": [4.0, 38.0],
        "window_start": 0.5,
        "window_length": 2.0,
        "classes": ["left_hand", "right_hand"],
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
    "aggregation": {"minimum_sites": 2},
}
"""A valid private study of two hospitals."""


class Only(dict[str, Any]):
    """A section that stands in place of the default one; other dictionaries change single values of it."""


WITHOUT_NOISE = Only(noise="none")
"""The section on privacy of a study without noise; the evaluation then has no epsilon either."""


def study_data(**changes: Any) -> dict[str, Any]:
    """Return a study as plain data: the default with these changes; ``sites`` is always replaced as a whole."""
    return merged(deepcopy(DEFAULT), changes)


def merged(data: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change a study as plain data, in place, and return it."""
    for section, values in changes.items():
        before = data.get(section)
        whole = section == "sites" or isinstance(values, Only)
        if isinstance(values, Mapping) and isinstance(before, Mapping) and not whole:
            data[section] = {**before, **values}
        else:
            data[section] = deepcopy(values)
    return data


def study(**changes: Any) -> Study:
    """Return the default study with these changes (see :func:`study_data`)."""
    return Study.model_validate(study_data(**changes))


def changed(before: Study, **changes: Any) -> Study:
    """Return another study with such changes."""
    return Study.model_validate(merged(before.model_dump(mode="json"), changes))


def small_data(channels: tuple[str, ...] = ("C3", "C4")) -> Only:
    """Return a contract for data that a test invents as arrays: a second at 64 Hz, two classes."""
    return Only(
        task="t",
        channels=list(channels),
        sampling_rate=64.0,
        band=[4.0, 30.0],
        window_start=0.0,
        window_length=1.0,
        classes=["a", "b"],
    )


def vector_data(*classes: str) -> Only:
    """Return a contract for patients who are one vector of features each."""
    return Only({**small_data(), "task": "rest", "band": [1.0, 30.0], "classes": list(classes)})


def connectome_study() -> Study:
    """Return a one-sum study on fixed feature vectors."""
    return study(
        name="edges",
        expires="2099-01-01",
        sites={"north": 20, "east": 20},
        data=vector_data("control", "case"),
        model={"name": "linear"},
        privacy={"epsilon": 1.0, "participation": 1.0, "windows_per_patient": 1},
        training=Only(engine="one-sum"),
        evaluation={"epsilon": 1.0},
    )

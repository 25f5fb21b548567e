"""What the check says of a planted defect beyond what it says of the sound data set."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.client.data.corpus.defect import Defect
from tests.client.data.corpus.tree import CHANNELS, TASK, Tree

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import Diagnosis, diagnose
from dura_client.data.findings.finding import Finding
from dura_common.study import SignalContract

ENDINGS = {"edf": ".edf", "bdf": ".bdf", "brainvision": ".vhdr", "eeglab": ".set"}


@dataclass(frozen=True)
class Outcome:
    """What was said."""

    defect: Defect
    diagnosis: Diagnosis
    new: tuple[Finding, ...]
    """Findings that the sound data set has not."""


def contract_of(changes: dict[str, Any] | None) -> SignalContract | None:
    """Return what a study asks of the corpus."""
    if changes is None:
        return None
    fields: dict[str, Any] = {
        "task": TASK,
        "channels": CHANNELS,
        "sampling_rate": 64.0,
        "band": (4.0, 30.0),
        "window_start": 0.5,
        "window_length": 2.0,
        "classes": ("left_hand", "right_hand"),
        "minimum_patients": 2,
    }
    return SignalContract.model_validate({**fields, **changes})


def registered(root: Path, **changes: Any) -> DataSet:
    """Return the registration of a tree."""
    return DataSet.model_validate({"name": "hands", "root": str(root), "task": TASK, **changes})


@cache
def _sound(root: Path, with_study: bool) -> Diagnosis:
    return diagnose(registered(root), contract_of({} if with_study else None))


def sound(root: Path, contract: dict[str, Any] | None) -> Diagnosis:
    """Return what the check says of the sound tree."""
    return _sound(root, contract is not None)


def examine(defect: Defect, tree: Path, place: Path) -> Outcome:
    """Plant a defect in a copy of a tree and check it."""
    shutil.copytree(tree, place)
    defect.plant(Tree(place, ENDINGS[defect.kind]))
    found = diagnose(registered(place, **defect.dataset), contract_of(defect.contract))
    before = {(item.code, item.place, item.cause) for item in sound(tree, defect.contract).findings}
    new = tuple(item for item in found.findings if (item.code, item.place, item.cause) not in before)
    shutil.rmtree(place)
    return Outcome(defect, found, new)

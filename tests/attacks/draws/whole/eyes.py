"""Sees which patients a hospital could draw: by what their windows hold, whatever the product calls them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from dura_client.training import evaluation
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient

_HERE = threading.local()


def look_of(patient: TrainingPatient) -> bytes:
    """Return what tells a patient's windows from everybody else's."""
    return hashlib.sha256(np.ascontiguousarray(patient.windows).tobytes()).digest()


@dataclass
class Eyes:
    """What is seen in one world.

    Args:
        approved: by the look of each patient who was approved, the purpose and the key; nobody looks without it.
    """

    approved: Mapping[bytes, tuple[str, str]] = field(default_factory=dict)
    withdrawn: set[tuple[str, str]] = field(default_factory=set)
    """Hospital and key."""
    faults: list[str] = field(default_factory=list)

    def see(self, site: str, purpose: str, patients: Sequence[TrainingPatient]) -> None:
        """Note whoever may not be among those from whom a draw is made."""
        for patient in patients:
            if not self.approved or not len(patient.windows):
                continue  # a patient without windows counts zero
            found = self.approved.get(look_of(patient))
            if found is None:
                self.faults.append(f"{site} draws from somebody who was never approved")
            elif found[0] != purpose:
                self.faults.append(f"{site} draws from a patient of the other side")
            elif (site, found[1]) in self.withdrawn:
                self.faults.append(f"{site} draws from a patient who has withdrawn")


@contextmanager
def at(eyes: Eyes, site: str, purpose: str) -> Iterator[None]:
    """Say where the present thread computes."""
    _HERE.place = eyes, site, purpose
    try:
        yield
    finally:
        _HERE.place = None


@contextmanager
def open_eyes() -> Iterator[None]:
    """Look at everybody who enters a step or an evaluation, in every world."""
    draw, contribution = PatientEngine.draw, evaluation.contribution

    def see(patients: Sequence[TrainingPatient]) -> None:
        place = getattr(_HERE, "place", None)
        if place is not None:
            eyes, site, purpose = place
            eyes.see(site, purpose, patients)

    def seen_draw(engine: PatientEngine, patients: Sequence[TrainingPatient]) -> list[TrainingPatient]:
        see(patients)
        return draw(engine, patients)

    def seen_contribution(network: Any, patient: TrainingPatient, *rest: Any) -> Any:
        see([patient])
        return contribution(network, patient, *rest)

    with (
        mock.patch.object(PatientEngine, "draw", seen_draw),
        mock.patch.object(evaluation, "contribution", seen_contribution),
    ):
        yield

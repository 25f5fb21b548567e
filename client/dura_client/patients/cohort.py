"""The patients of a study at this site: prepared, and permanently split into training and held-out patients.

The split is a threshold on a keyed hash of the pseudonym (:mod:`dura_client.training.split`). It therefore needs no
list, does not change with new patients, and is the same in every study: a held-out patient never trains.

The cohort that is loaded here serves reviews before an approval, and computations that stay at the site. A running
study uses the patients that its approval fixed (:mod:`dura_client.patients.frozen`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dura_client.data.prepare import PatientData, PreparedData, prepare
from dura_client.data.privacy_class import Step
from dura_client.data.registry import load_dataset
from dura_client.data.store.fingerprint import held_by_several
from dura_client.data.store.parallel import cores
from dura_client.data.store.seal import Seal
from dura_client.ledger.ledger import Identity
from dura_client.ledger.place import site_ledger
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.settings import load_settings
from dura_client.training.patient import TrainingPatient
from dura_client.training.split import SMALLEST_SIDE, side_of
from dura_common.errors import InputError, TrustError
from dura_common.study import DataContract, Study

MINIMUM_PER_SIDE = 2
"""A side of the split with fewer patients would make one patient's score the released average."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Training and held-out patients, each as (key, patient), with keys as in the ledger (hex, 64 characters)."""

    sides: tuple[tuple[tuple[str, TrainingPatient], ...], tuple[tuple[str, TrainingPatient], ...]]
    prepared: PreparedData
    public: bool
    split: str
    neither: frozenset[str]
    """Keys of patients of the site's held-out side whom the study does not hold out, or who were held out before."""

    @property
    def training(self) -> tuple[TrainingPatient, ...]:
        """Training patients."""
        return tuple(patient for _, patient in self.sides[0])

    @property
    def training_keys(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(key for key, _ in self.sides[0])

    @property
    def held_out(self) -> tuple[TrainingPatient, ...]:
        """Held-out patients."""
        return tuple(patient for _, patient in self.sides[1])

    @property
    def held_out_keys(self) -> tuple[str, ...]:
        """Their keys."""
        return tuple(key for key, _ in self.sides[1])

    @property
    def steps(self) -> tuple[Step, ...]:
        """The preparation steps of the recordings. The engine and the gate refuse a step without a declaration."""
        return self.prepared.steps

    @property
    def members(self) -> tuple[PatientData, ...]:
        """All prepared patients of both sides."""
        keys = {*self.training_keys, *self.held_out_keys}
        return tuple(patient for patient in self.prepared.patients if patient.key in keys)

    @property
    def shared_recordings(self) -> int:
        """Recordings that lie under more than one patient of the two sides together: who holds one counts twice."""
        return held_by_several(patient.fingerprints for patient in self.members)

    @property
    def contents(self) -> frozenset[bytes]:
        """Plain digests of all recordings, equal at any site; of public data sets only, otherwise empty."""
        return frozenset(content for patient in self.members for content in patient.contents)

    def without(self, keys: frozenset[str]) -> Cohort:
        """Return the cohort without some of its patients."""
        training, held_out = (tuple(item for item in side if item[0] not in keys) for side in self.sides)
        return replace(self, sides=(training, held_out))


def identity_for(home: SiteHome, study: Study) -> Identity:
    """Return the pseudonyms' check value and the size of the site's held-out side, which the first study fixes.

    Raises:
        TrustError: the ledger belongs to another pseudonym key.
    """
    check = key_check(SiteKeys(home).pseudonym_key())
    known = site_ledger(home).identity()
    if known is None:
        fraction = 0.0 if study.evaluation.split == "recordings" else study.evaluation.held_out
        return Identity(check, max(SMALLEST_SIDE, fraction))
    if known.check != check:
        raise TrustError(
            "the ledger belongs to another pseudonym key than the site's current one",
            hint="Restore keys/pseudonym.key from a backup: without it, nobody knows what each patient has spent.",
        )
    return known


def key_check(pseudonym_key: bytes) -> str:
    """Return the check value of the pseudonym key for the ledger, hex: it shows a replaced key, and reveals nothing."""
    return hmac.new(pseudonym_key, b"dura pseudonym key check v1", hashlib.sha256).hexdigest()


def load_cohort(
    home: SiteHome, study: Study, dataset: str, *, progress: Callable[[int, int], None] | None = None
) -> Cohort:
    """Prepare the data set for the study's contract (cached on disk), without withdrawn patients, and split it.

    Raises:
        InputError: the data set is unknown, unreadable or does not fulfil the contract.
        TrustError: the ledger, which knows who has withdrawn and was held out, cannot be trusted.
    """
    registered = load_dataset(home, dataset)
    ledger = site_ledger(home)
    identity = identity_for(home, study)
    prepared = prepare_here(home, study.data, dataset, progress=progress)
    if study.evaluation.split == "recordings":
        sides, neither = _by_recording(prepared), frozenset[str]()
    else:
        sides, neither = _by_patient(prepared, study, identity.held_out, ledger.held_out_before())
    cohort = Cohort(sides, prepared, registered.public, study.evaluation.split, neither)
    require_sides(cohort)
    return cohort


def prepare_here(
    home: SiteHome, contract: DataContract, dataset: str, *, progress: Callable[[int, int], None] | None = None
) -> PreparedData:
    """Prepare a data set for a contract, without withdrawn patients, into the site's store; no offer is needed.

    Raises:
        InputError: the data set is unknown, unreadable or does not fulfil the contract.
        TrustError: the ledger, which knows who has withdrawn, cannot be trusted.
    """
    return prepare(
        load_dataset(home, dataset),
        contract,
        cache=home.cache,
        pseudonym_key=SiteKeys(home).pseudonym_key(),
        leave_out=site_ledger(home).withdrawn(),
        progress=progress,
        seal=seal_of(home),
        workers=load_settings(home).prepare_processes or cores(),
    )


def seal_of(home: SiteHome) -> Seal | None:
    """Return what encrypts the site's prepared recordings, or None if site.toml does not ask for it."""
    return Seal(SiteKeys(home).store_key()) if load_settings(home).encrypt_prepared else None


def require_sides(cohort: Cohort) -> None:
    """Refuse a cohort in which one side has so few patients that a single patient could be recognised.

    Raises:
        InputError: a side has too few patients.
    """
    for side, patients in (("training", cohort.training), ("held-out", cohort.held_out)):
        if len(patients) < MINIMUM_PER_SIDE:
            raise InputError(
                f"the {side} side of the data set has fewer than {MINIMUM_PER_SIDE} patients",
                hint="Register more patients. A keyed hash decides the split; it cannot be chosen by hand.",
            )


Side = tuple[tuple[str, TrainingPatient], ...]


def _by_patient(
    prepared: PreparedData, study: Study, size: float, before: frozenset[str]
) -> tuple[tuple[Side, Side], frozenset[str]]:
    parts: dict[str, list[tuple[str, TrainingPatient]]] = {"training": [], "held out": [], "neither": []}
    for patient in prepared.patients:
        side = side_of(patient.key, study.evaluation.held_out, size)
        if side == "training" and patient.key in before:
            side = "neither"  # held out by a study of an older version of dura, whose sides had other sizes
        parts[side].append((patient.key, TrainingPatient(patient.windows, patient.labels)))
    return (tuple(parts["training"]), tuple(parts["held out"])), frozenset(key for key, _ in parts["neither"])


def _by_recording(prepared: PreparedData) -> tuple[Side, Side]:
    """Hold out each patient's last recording; only studies without noise on public data may ask for it."""
    if any(np.unique(patient.recordings).size < 2 for patient in prepared.patients):  # noqa: PLR2004  # one to train, one to test
        raise InputError(
            'evaluation.split = "recordings" needs at least two recordings of every patient',
            hint='Leave out patients with one recording, or use split = "patients".',
        )
    training, held_out = (
        tuple((patient.key, part_of(patient, held_out=side)) for patient in prepared.patients) for side in (False, True)
    )
    return training, held_out


def part_of(patient: PatientData, *, held_out: bool) -> TrainingPatient:
    """Return a patient's last recording, or all others."""
    last: NDArray[np.bool_] = patient.recordings == patient.recordings.max()
    chosen = last == held_out
    return TrainingPatient(patient.windows[chosen], patient.labels[chosen])

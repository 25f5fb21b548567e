"""The patients of a study at this site: prepared, and split for ever into those who train and those held out.

The split is a threshold on a keyed hash of the pseudonym, so it needs no list, survives new patients and is the
same in every study: a patient who was held out once never trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dura_client.data.fingerprint import held_by_several
from dura_client.data.prepare import PreparedData, prepare
from dura_client.data.privacy_class import Step
from dura_client.data.registry import load_dataset
from dura_client.ledger.place import site_ledger
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.studies.approvals import ApprovedStudy
from dura_client.training.patient import TrainingPatient
from dura_client.training.split import held_out
from dura_common.errors import InputError
from dura_common.study import PatientNoise, Study

MINIMUM_PER_SIDE = 2
"""A side of the split with fewer patients would make one patient's score the released average."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who trains and who is held out, with the ledger keys of each side (hex, 64 characters each)."""

    training: tuple[TrainingPatient, ...]
    training_keys: tuple[str, ...]
    held_out: tuple[TrainingPatient, ...]
    held_out_keys: tuple[str, ...]
    public: bool
    steps: tuple[Step, ...]
    """What the recordings went through; the engine and the gate refuse a step that nobody vouches for."""
    shared_recordings: int
    """Recordings that lie under more than one patient of the two sides together: who holds one counts twice."""
    contents: frozenset[bytes]
    """Plain digests of all recordings, equal at any site; of public data sets only, otherwise empty."""


class Cohorts:
    """The cohort of the study that is under way; a withdrawal takes effect when it is asked for again.

    Args:
        home: the site's folder.
    """

    def __init__(self, home: SiteHome) -> None:
        self._home = home
        self._known: dict[tuple[str, frozenset[str]], Cohort] = {}

    def of(self, approved: ApprovedStudy) -> Cohort:
        """Return the cohort of a study without anybody who has withdrawn by now.

        Raises:
            DuraError: as for :func:`load_cohort`.
        """
        key = (approved.digest, site_ledger(self._home).withdrawn())
        if key not in self._known:
            # One study at a time stays in memory.
            self._known = {key: load_cohort(self._home, approved.study, approved.dataset)}
        return self._known[key]


def load_cohort(
    home: SiteHome, study: Study, dataset: str, *, progress: Callable[[int, int], None] | None = None
) -> Cohort:
    """Prepare the data set for the study's contract (cached on disk), without withdrawn patients, and split it.

    Raises:
        InputError: the data set is unknown, unreadable or does not fulfil the contract.
        TrustError: the ledger, which knows who has withdrawn, cannot be trusted.
    """
    registered = load_dataset(home, dataset)
    prepared = prepare(
        registered,
        study.data,
        cache=home.cache,
        pseudonym_key=SiteKeys(home).pseudonym_key(),
        leave_out=site_ledger(home).withdrawn(),
        progress=progress,
    )
    if study.evaluation.split == "recordings":
        cohort = _split_by_recording(prepared, public=registered.public)
    else:
        cohort = _split_by_patient(prepared, study.evaluation.held_out, public=registered.public)
    for side, patients in (("training", cohort.training), ("held-out", cohort.held_out)):
        if len(patients) < MINIMUM_PER_SIDE:
            raise InputError(
                f"the {side} side of the data set has fewer than {MINIMUM_PER_SIDE} patients",
                hint="Register more patients; the split by keyed hash cannot be chosen by hand.",
            )
    return cohort


def refuse_shared_recordings(cohort: Cohort, study: Study) -> None:
    """Refuse a study with noise where one person counts as two patients: the promise to a patient would not hold.

    Raises:
        InputError: a recording lies under more than one patient.
    """
    if cohort.shared_recordings and isinstance(study.privacy, PatientNoise):
        raise InputError(
            f"recordings under more than one patient of the data set: {cohort.shared_recordings}; in a study with "
            "noise there must be none",
            hint="`dura site data check` names them and says what to do.",
        )


def _split_by_patient(prepared: PreparedData, fraction: float, *, public: bool) -> Cohort:
    apart = [held_out(patient.key, fraction) for patient in prepared.patients]
    training = [patient for patient, out in zip(prepared.patients, apart, strict=True) if not out]
    testing = [patient for patient, out in zip(prepared.patients, apart, strict=True) if out]
    return Cohort(
        training=tuple(TrainingPatient(p.windows, p.labels) for p in training),
        training_keys=tuple(p.key for p in training),
        held_out=tuple(TrainingPatient(p.windows, p.labels) for p in testing),
        held_out_keys=tuple(p.key for p in testing),
        public=public,
        steps=prepared.steps,
        shared_recordings=held_by_several(patient.fingerprints for patient in prepared.patients),
        contents=_contents(prepared),
    )


def _split_by_recording(prepared: PreparedData, *, public: bool) -> Cohort:
    """Hold out each patient's last recording; only studies without noise on public data may ask for it."""
    patients = prepared.patients
    if any(np.unique(patient.recordings).size < 2 for patient in patients):  # noqa: PLR2004  # one to train, one to test
        raise InputError(
            'evaluation.split = "recordings" needs at least two recordings of every patient',
            hint='Leave out patients with one recording, or use split = "patients".',
        )
    keys = tuple(patient.key for patient in patients)
    sides: dict[bool, list[TrainingPatient]] = {False: [], True: []}
    for patient in patients:
        last = patient.recordings == patient.recordings.max()
        for testing in (False, True):
            chosen = last == testing
            sides[testing].append(TrainingPatient(patient.windows[chosen], patient.labels[chosen]))
    return Cohort(
        training=tuple(sides[False]),
        training_keys=keys,
        held_out=tuple(sides[True]),
        held_out_keys=keys,
        public=public,
        steps=prepared.steps,
        shared_recordings=held_by_several(patient.fingerprints for patient in prepared.patients),
        contents=_contents(prepared),
    )


def _contents(prepared: PreparedData) -> frozenset[bytes]:
    return frozenset(content for patient in prepared.patients for content in patient.contents)

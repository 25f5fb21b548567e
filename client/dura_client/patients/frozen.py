"""The patients of an approved study. The approval fixes them, and later changes of the data do not change them.

The manifest names every patient of both sides, with a digest of the patient's prepared data. It is stored next to the
approval. The ledger's allocation and the signed choice contain its digest. A running study takes its patients from the
manifest, so new patients are in no earlier study. If a patient's recordings are missing, unreadable or changed, the
patient counts as zero, without any message to the coordinator.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from dura_client.data.prepare import PatientData, digest_of, restore, steps_of
from dura_client.data.privacy_class import Step
from dura_client.data.registry import load_dataset
from dura_client.data.store.claim import cleaning
from dura_client.data.store.clean import Cleaned, Used, clean
from dura_client.ledger.ledger import Ledger
from dura_client.ledger.place import site_ledger
from dura_client.patients.cohort import Cohort, part_of, seal_of
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.settings import load_settings
from dura_client.training.patient import TrainingPatient
from dura_common.consortium.envelope import canonical_json
from dura_common.errors import DuraError, TrustError
from dura_common.privacy.blocks import Purpose
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import DataContract, Digest, Frozen, Word

log = logging.getLogger(__name__)

MAX_MANIFEST_BYTES = 1 << 30


class Manifest(Frozen):
    """The patients of one study, as its approval fixed them; never sent."""

    format: Literal[1] = 1
    study: Digest
    dataset: Word
    public: bool
    split: Literal["patients", "recordings"]
    folder: str
    """Digest of the cache folder with the prepared copies."""
    training: dict[Digest, Digest]
    """Maps the key of each training patient to the digest of the prepared data."""
    held_out: dict[Digest, Digest]
    recordings: dict[Digest, tuple[Digest, ...]]
    """Keyed fingerprints of each patient's recordings. They reveal a patient who comes back under another label."""
    contents: tuple[Digest, ...] = ()
    """Plain digests of all recordings; of public data sets only."""


def freeze(study: str, dataset: str, cohort: Cohort) -> Manifest:
    """Return the manifest of a cohort."""
    digests = {patient.key: digest_of(patient) for patient in cohort.members}
    return Manifest(
        study=study,
        dataset=dataset,
        public=cohort.public,
        split="recordings" if cohort.split == "recordings" else "patients",
        folder=cohort.prepared.folder,
        training={key: digests[key] for key in cohort.training_keys},
        held_out={key: digests[key] for key in cohort.held_out_keys},
        recordings={patient.key: tuple(print_.hex() for print_ in patient.fingerprints) for patient in cohort.members},
        contents=tuple(sorted(content.hex() for content in cohort.contents)),
    )


def keep(home: SiteHome, manifest: Manifest) -> str:
    """Write a manifest next to the approvals and return its digest."""
    content = canonical_json(manifest)
    private_folder(home.cohorts)
    known = hashlib.sha256(content).hexdigest()
    write_atomic(_path(home, manifest.study, known), content)
    return known


def read_manifest(home: SiteHome, study: str, known: str) -> Manifest:
    """Return the manifest of a study whose digest is known.

    Raises:
        TrustError: the manifest is missing or was replaced.
    """
    path = _path(home, study, known)
    older = home.cohorts / f"{study}.json"
    if not path.exists() and older.exists():  # of an earlier version of dura, which kept one for each study
        path = older
    if path.exists():
        content = read_limited(path, what="the frozen cohort", limit=MAX_MANIFEST_BYTES)
        if hashlib.sha256(content).hexdigest() == known:
            try:
                return Manifest.model_validate_json(content)
            except ValidationError as error:
                raise TrustError(f"the frozen cohort {path.name} does not have the expected form") from error
    raise TrustError(
        f"the frozen cohort {path.name} is missing or was altered",
        hint=f"Restore {path.parent} from the backup that the ledger belongs to.",
    )


def seen_under_other_keys(home: SiteHome, ledger: Ledger, cohort: Cohort, *, private: bool) -> frozenset[str]:
    """Return the keys of patients whose recordings were charged or withdrawn under another key before.

    A study without noise spends nothing, so only withdrawals count for it.

    Raises:
        TrustError: the ledger or a frozen cohort that it names cannot be trusted.
    """
    charged = ledger.charged() if private else ledger.withdrawn()
    holders: dict[str, set[str]] = {}
    for study, known in ledger.manifests():
        for key, prints in read_manifest(home, study, known).recordings.items():
            for print_ in prints:
                holders.setdefault(print_, set()).add(key)
    return frozenset(
        patient.key
        for patient in cohort.members
        if any((holders.get(print_.hex(), set()) - {patient.key}) & charged for print_ in patient.fingerprints)
    )


def open_studies_on(home: SiteHome, dataset: str) -> tuple[str, ...]:
    """Return the digests of studies that were approved on a data set and have not ended here.

    Raises:
        TrustError: the ledger or a frozen cohort that it names cannot be trusted.
    """
    ledger = site_ledger(home)
    return tuple(
        study
        for study, known in ledger.manifests()
        if ledger.allocation(study) is not None and read_manifest(home, study, known).dataset == dataset
    )


def in_use(home: SiteHome) -> frozenset[Used]:
    """Return the prepared patients of approved studies that have not ended here: nobody may remove them.

    Raises:
        TrustError: the ledger or a frozen cohort that it names cannot be trusted.
    """
    ledger = site_ledger(home)
    return frozenset(
        (manifest.folder, key, digest)
        for study, known in ledger.manifests()
        if ledger.allocation(study) is not None
        for manifest in (read_manifest(home, study, known),)
        for key, digest in (*manifest.training.items(), *manifest.held_out.items())
    )


def clean_store(home: SiteHome, now: float) -> Cleaned | None:
    """Remove old prepared recordings by the limits of site.toml; those of approved studies stay.

    Returns:
        What was removed; None if another process prepares or cleans up at the moment, and nothing was done.

    Raises:
        TrustError: it cannot be known which studies were approved; nothing is removed.
    """
    site = load_settings(home)
    with cleaning(home.cache) as alone:
        if not alone:
            return None
        return clean(home.cache, in_use(home), days=site.prepared_days, most_bytes=site.prepared_gib * 2**30, now=now)


def tidy_store(home: SiteHome, now: float) -> None:
    """Do what :func:`clean_store` does after something was prepared; a fault there spoils nothing, and is logged."""
    try:
        if home.cache.exists():
            clean_store(home, now)
    except (DuraError, OSError) as error:
        log.warning("old prepared recordings were not removed: %s", type(error).__name__)


@dataclass(frozen=True, slots=True)
class FrozenCohort:
    """The patients of a running study."""

    manifest: Manifest
    steps: tuple[Step, ...]
    training: Mapping[str, TrainingPatient]
    held_out: Mapping[str, TrainingPatient]
    nobody: TrainingPatient
    """A patient without windows counts as zero."""

    def side(self, purpose: Purpose, withdrawn: frozenset[str]) -> tuple[TrainingPatient, ...]:
        """Return all patients of one side in a fixed order. An empty patient takes the place of each withdrawn one."""
        patients = self.training if purpose == "train" else self.held_out
        return tuple(self.nobody if key in withdrawn else patient for key, patient in patients.items())

    @property
    def contents(self) -> frozenset[bytes]:
        """Plain digests of all recordings; of public data sets only, otherwise empty."""
        return frozenset(bytes.fromhex(content) for content in self.manifest.contents)


def load_frozen(home: SiteHome, manifest: Manifest, contract: DataContract) -> FrozenCohort:
    """Load the patients of a manifest. A patient who has withdrawn, or whose data have any fault, counts as zero."""
    shape = (0, *contract.shape)
    nobody = TrainingPatient(np.zeros(shape, dtype=np.float32), np.zeros(0, dtype=np.int64))
    found = _restored(home, manifest, contract)
    sides: list[dict[str, TrainingPatient]] = []
    for held_out, wanted in ((False, manifest.training), (True, manifest.held_out)):
        side = {}
        for key in sorted(wanted):
            patient = found.get(key)
            if patient is None:
                side[key] = nobody
            elif manifest.split == "recordings":
                side[key] = part_of(patient, held_out=held_out)
            else:
                side[key] = TrainingPatient(patient.windows, patient.labels)
        sides.append(side)
    return FrozenCohort(manifest, steps_of(contract), sides[0], sides[1], nobody)


def _restored(home: SiteHome, manifest: Manifest, contract: DataContract) -> dict[str, PatientData]:
    wanted = dict(sorted({**manifest.training, **manifest.held_out}.items()))
    try:
        dataset = load_dataset(home, manifest.dataset)
        pseudonym_key, seal = SiteKeys(home).pseudonym_key(), seal_of(home)
    except DuraError as error:
        log.warning("the study's data set cannot be read; its patients count as zero: %s", error.message)
        return {}
    folder = home.cache / manifest.folder
    restored = restore(
        dataset,
        contract,
        wanted,
        folder=folder,
        pseudonym_key=pseudonym_key,
        withdrawn=site_ledger(home).withdrawn,
        seal=seal,
    )
    return {key: patient for key, patient in restored if patient is not None}


def _path(home: SiteHome, study: str, known: str) -> Path:
    """Return the file of one frozen cohort: another cohort of the same study never overwrites it."""
    return home.cohorts / f"{study}-{known[:16]}.json"

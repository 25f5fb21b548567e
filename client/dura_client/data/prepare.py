"""From recordings to the study's patients: prepared one by one, kept in the site's store, found there again.

What is done with one patient's recordings stands in :mod:`dura_client.data.eeg.preparing.patient`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import Recording, find_recordings
from dura_client.data.eeg.preparing.patient import Preparation, signals_only, steps_of
from dura_client.data.eeg.signals import positions
from dura_client.data.privacy_class import Step
from dura_client.data.store.digests import FileDigests
from dura_client.data.store.entry import PatientData, digest_of, discard, open_entry, open_old
from dura_client.data.store.naming import EntryNames, recipe_name
from dura_client.data.store.parallel import do_all
from dura_client.data.store.seal import Damaged, Seal
from dura_common.errors import InputError
from dura_common.runtime.files import private_folder
from dura_common.study import DataContract

__all__ = [
    "PatientData",
    "PreparedData",
    "digest_of",
    "load_prepared",
    "prepare",
    "pseudonym",
    "restore",
    "signals_only",
    "steps_of",
]

log = logging.getLogger(__name__)

VERSION = 4
"""Part of the recipe's name; raised whenever preparation changes its result or what is kept of it."""
INDEX = "files"
"""Folder in the cache that remembers digests of recordings' files."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """All patients of a data set, sorted by key."""

    patients: tuple[PatientData, ...]
    steps: tuple[Step, ...]
    """Everything that the windows went through, with what each step depends on."""
    folder: str
    """Name of the recipe's folder in the cache where they lie."""
    made: int = 0
    """Patients who were prepared now; the others were there."""
    mended: int = 0
    """Of these, patients whose prepared copy was damaged."""


def prepare(
    dataset: DataSet,
    contract: DataContract,
    *,
    cache: Path,
    pseudonym_key: bytes,
    leave_out: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
    seal: Seal | None = None,
    workers: int = 1,
) -> PreparedData:
    """Bring a data set to a study's contract; patients whose recordings did not change come from the cache.

    Patients whose pseudonyms are to be left out are not even read, and count nowhere.

    Args:
        dataset: the registration.
        contract: what the study asks for.
        cache: folder of the store.
        pseudonym_key: the site's secret.
        leave_out: pseudonyms.
        progress: is told how many patients of how many are ready.
        seal: encrypts what is kept.
        workers: number of processes that prepare.

    Raises:
        InputError: unreadable recordings, unknown channels, no event of a class, or too few patients.
        HostError: the cache cannot be written.
    """
    contract = signals_only(contract)
    positions(contract.channels)  # an impossible contract is refused before hours of reading
    if dataset.task != contract.task:
        raise InputError(
            f"the data set {dataset.name} was registered for the task {dataset.task!r}, the study asks for "
            f"{contract.task!r}",
            hint=f"Register those recordings: `dura site data add NAME {dataset.root} --task {contract.task}`.",
        )
    recordings = find_recordings(dataset)
    patients = {
        pseudonym(subject, pseudonym_key): list(items)
        for subject, items in groupby(recordings, key=lambda item: item.subject)
    }
    patients = {key: items for key, items in patients.items() if key not in leave_out}
    if len(patients) < contract.minimum_patients:
        raise InputError(
            f"the data set {dataset.name} has fewer patients than the study demands, {contract.minimum_patients}"
        )
    recipe = private_folder(private_folder(cache) / recipe_name(contract, VERSION))
    work = Preparation(dataset, contract, pseudonym_key, seal)
    digests = FileDigests(cache / INDEX, dataset.root, pseudonym_key)
    names = EntryNames(work.folder, dataset, digests)
    targets = {key: recipe / key / names.of(items) for key, items in patients.items()}
    digests.save()
    found: dict[str, PatientData] = {}
    mended = 0
    for key, target in targets.items():
        there = target.exists()
        opened = _opened(target, seal)
        mended += there and opened is None
        if opened is not None:
            found[key] = opened
        if progress is not None:
            progress(len(found), len(patients))
    missing = [key for key in patients if key not in found]
    jobs = [(patients[key], targets[key]) for key in missing]
    for index in do_all(work, jobs, workers):
        key = missing[index]
        if not names.unchanged(patients[key]):
            discard(targets[key])
            raise InputError(
                f"recordings of the data set {dataset.name} changed while they were read",
                hint="Repeat the command when nobody writes into the folder any more.",
            )
        found[key] = open_entry(targets[key], seal)
        if progress is not None:
            progress(len(found), len(patients))
    prepared = PreparedData(
        tuple(found[key] for key in sorted(patients)), steps_of(contract), recipe.name, made=len(missing), mended=mended
    )
    _require_classes(dataset, contract, prepared)
    return prepared


def _require_classes(dataset: DataSet, contract: DataContract, prepared: PreparedData) -> None:
    seen = {int(label) for patient in prepared.patients for label in np.unique(patient.labels)}
    missing = [name for index, name in enumerate(contract.classes) if index not in seen]
    if missing:
        raise InputError(
            f"no patient of the data set {dataset.name} has an event of {', '.join(missing)}",
            hint=f"Say what the event codes mean: `dura site data update {dataset.name} --label CODE=CLASS`.",
        )


def _opened(target: Path, seal: Seal | None) -> PatientData | None:
    """Open an entry; one that is damaged is removed, so that it is prepared again."""
    if not target.exists():
        return None
    try:
        return open_entry(target, seal)
    except Damaged as error:
        log.warning("a prepared copy is damaged and is prepared again: %s", error)
        discard(target)
        return None


def restore(
    dataset: DataSet,
    contract: DataContract,
    wanted: Mapping[str, str],
    *,
    folder: Path,
    pseudonym_key: bytes,
    seal: Seal | None = None,
) -> Iterator[tuple[str, PatientData | None]]:
    """Yield patients exactly as they were prepared before, prepared again if their copy is gone.

    A patient's recordings may have changed since; what comes from the changed ones is another entry, and is not used.

    Args:
        dataset: the registration.
        contract: what the study asks for.
        wanted: digest of the prepared data by key.
        folder: of the recipe in the cache.
        pseudonym_key: the site's secret.
        seal: opens and encrypts what is kept.

    Yields:
        Key and patient. None stands for a patient whose data cannot be had as they were, for whatever reason: nobody
        but the log learns that, and not of whom.
    """
    again = _Again(Preparation(dataset, signals_only(contract), pseudonym_key, seal), folder)
    for key, digest in wanted.items():
        found = None
        try:
            found = _kept(folder / key, digest, seal) or again.patient(key, digest)
        except Exception as error:  # noqa: BLE001  # a reader may fail in any way, and one patient must not end a step
            log.warning("a patient's recordings cannot be read (%s); the patient counts zero", type(error).__name__)
        yield key, found


def _kept(folder: Path, digest: str, seal: Seal | None) -> PatientData | None:
    """Return the entry of one patient that has a digest."""
    if (folder / "windows.npy").exists():
        return open_old(folder, digest)
    for path in sorted(folder.glob("[0-9a-f]*")):
        found = _opened(path, seal)
        if found is not None and digest_of(found) == digest:
            return found
    return None


class _Again:
    """Prepares patients of a running study again from their recordings, which are looked for once."""

    def __init__(self, work: Preparation, folder: Path) -> None:
        self._work, self._folder = work, folder

    def patient(self, key: str, digest: str) -> PatientData | None:
        """Return a patient if the recordings still give what was approved."""
        recordings = self._subjects[key]
        private_folder(private_folder(self._folder.parent) / self._folder.name)
        target = self._folder / key / self._names.of(recordings)
        if not target.exists():
            self._work((recordings, target))
        found = open_entry(target, self._work.seal)
        return found if digest_of(found) == digest else None

    @cached_property
    def _names(self) -> EntryNames:
        work = self._work
        memory = FileDigests(self._folder.parent / INDEX, work.dataset.root, work.pseudonym_key)
        return EntryNames(work.folder, work.dataset, memory)

    @cached_property
    def _subjects(self) -> dict[str, list[Recording]]:
        subjects: dict[str, list[Recording]] = {}
        for recording in find_recordings(self._work.dataset):
            subjects.setdefault(pseudonym(recording.subject, self._work.pseudonym_key), []).append(recording)
        return subjects


def pseudonym(subject: str, key: bytes) -> str:
    """Return the keyed hash by which a patient is known in caches and ledger."""
    return hmac.new(key, b"dura patient v1\0" + subject.encode(), hashlib.sha256).hexdigest()


def load_prepared(folder: Path) -> tuple[PatientData, ...]:
    """Return the patients that lie prepared in a recipe's folder, sorted by key, one entry each.

    Raises:
        Damaged: an entry is not what was written.
    """
    return tuple(open_entry(entry) for patient in sorted(folder.iterdir()) for entry in patient.iterdir())

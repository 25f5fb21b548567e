"""From recordings and tables to the study's patients: prepared one by one, kept in the site's store, found there again.

What is done with recordings stands in :mod:`dura_client.data.eeg.preparing.windows`, with connectomes and tables in
:mod:`dura_client.data.sources.vectors`. Patients who break a rule of the study are left out here, by the study's own
rules, before an approval freezes the cohort.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.preparing.windows import WindowSource, window_steps
from dura_client.data.privacy_class import Step, step_of
from dura_client.data.sources.fitting import require_fitting
from dura_client.data.sources.leaving_out import why_left_out
from dura_client.data.sources.vectors import VectorSource, vector_steps, vectors_of
from dura_client.data.store.claim import preparing
from dura_client.data.store.digests import FileDigests
from dura_client.data.store.entry import Parts, PatientData, digest_of, discard, open_entry, open_old, write_entry
from dura_client.data.store.naming import recipe_name
from dura_client.data.store.parallel import do_all
from dura_client.data.store.seal import Damaged, Seal
from dura_common.errors import InputError
from dura_common.runtime.files import private_folder
from dura_common.study import DataContract, SignalContract

__all__ = ["PatientData", "PreparedData", "digest_of", "load_prepared", "prepare", "pseudonym", "restore", "steps_of"]

log = logging.getLogger(__name__)

VERSION = 6
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
    left_out: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Keys of patients who break a rule of the study, by the reason."""
    made: int = 0
    """Patients who were prepared now; the others were there."""
    mended: int = 0
    """Of these, patients whose prepared copy was damaged."""


class Source(Protocol):
    """What brings the patients of a data set to a contract."""

    def patients(self) -> Sequence[tuple[str, Any]]:
        """Return each patient with what the data set holds of the patient, sorted."""

    @property
    def tables(self) -> Sequence[Path]:
        """Tables that hold all patients; a patient depends on some cells of them."""

    def files(self, items: Any, /) -> list[Path]:
        """Return the files on which a patient depends."""

    def name(self, items: Any, digests: FileDigests, /) -> str:
        """Return a name, 32 hex digits, that changes whenever a patient would be prepared to something else."""

    def arrays(self, items: Any, key: bytes, work: Path, seal: Seal | None, /) -> Mapping[str, NDArray[Any] | Parts]:
        """Prepare what there is of one patient; fingerprints are keyed by the site's secret."""


@dataclass(frozen=True)
class Preparation:
    """Prepares patients of a data set for a contract. It can be sent to another process."""

    dataset: DataSet
    contract: DataContract
    pseudonym_key: bytes
    seal: Seal | None = None

    @cached_property
    def source(self) -> Source:
        """What brings the data set to the contract; made in each process anew."""
        return source_of(self.dataset, self.contract)

    def __reduce__(self) -> tuple[object, ...]:
        return Preparation, (self.dataset, self.contract, self.pseudonym_key, self.seal)

    def __call__(self, job: tuple[Any, Path], /) -> None:
        """Prepare one patient into an entry, which appears complete or not at all."""
        items, target = job
        write_entry(target, lambda work: self.source.arrays(items, self.pseudonym_key, work, self.seal), self.seal)


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
    """Bring a data set to a study's contract; patients whose data did not change come from the cache.

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
    require_fitting(dataset, contract)
    work = Preparation(dataset, contract, pseudonym_key, seal)
    digests = FileDigests(cache / INDEX, dataset.root, pseudonym_key)
    for path in work.source.tables:
        digests.watch(path)
    everybody = {pseudonym(subject, pseudonym_key): items for subject, items in work.source.patients()}
    patients = {key: items for key, items in everybody.items() if key not in leave_out}
    if len(patients) < contract.minimum_patients:
        raise InputError(
            f"the data set {dataset.name} has fewer patients than the study demands, {contract.minimum_patients}"
        )
    with preparing(cache):
        return _prepared(work, cache, patients, digests, progress=progress, workers=workers)


def _prepared(
    work: Preparation,
    cache: Path,
    patients: Mapping[str, Any],
    digests: FileDigests,
    *,
    progress: Callable[[int, int], None] | None,
    workers: int,
) -> PreparedData:
    """Bring patients, by key, to the contract while nobody cleans up the store."""
    dataset, contract, seal = work.dataset, work.contract, work.seal
    recipe = private_folder(private_folder(cache) / recipe_name(contract, VERSION))
    targets = {key: recipe / key / work.source.name(items, digests) for key, items in patients.items()}
    digests.save()
    found: dict[str, PatientData] = {}
    mended = 0

    def ready(key: str, patient: PatientData) -> None:
        found[key] = patient
        if progress is not None:
            progress(len(found), len(patients))

    for key, target in targets.items():
        there = target.exists()
        opened = _opened(target, seal)
        mended += there and opened is None
        if opened is not None:
            ready(key, opened)
    missing, tables = [key for key in patients if key not in found], work.source.tables
    for index in do_all(work, [(patients[key], targets[key]) for key in missing], workers):
        key = missing[index]
        if not all(digests.same(path) for path in (*tables, *work.source.files(patients[key]))):
            discard(targets[key])
            raise InputError(
                f"recordings of the data set {dataset.name} changed while they were read",
                hint="Repeat the command when nobody writes into the folder any more.",
            )
        ready(key, open_entry(targets[key], seal))
    kept, left_out = _by_rules(contract, [found[key] for key in sorted(patients)])
    _require_classes(dataset, contract, kept)
    return PreparedData(kept, steps_of(contract), recipe.name, left_out, made=len(missing), mended=mended)


def _by_rules(
    contract: DataContract, patients: Sequence[PatientData]
) -> tuple[tuple[PatientData, ...], dict[str, frozenset[str]]]:
    """Return who stays by the study's own rules, and the keys of the others by the reason."""
    reasons = {one.key: why_left_out(contract.leave_out, len(one.labels), one.broken) for one in patients}
    groups = sorted({why for why in reasons.values() if why is not None})
    left_out = {why: frozenset(key for key, reason in reasons.items() if reason == why) for why in groups}
    return tuple(one for one in patients if reasons[one.key] is None), left_out


def _require_classes(dataset: DataSet, contract: DataContract, patients: Sequence[PatientData]) -> None:
    seen = {int(label) for patient in patients for label in np.unique(patient.labels)}
    missing = [name for index, name in enumerate(contract.classes) if index not in seen]
    if missing:
        what = "event" if contract.cut == "events" else "example"
        raise InputError(
            f"no patient of the data set {dataset.name} has an {what} of {', '.join(missing)}",
            hint=f"Say what the codes mean: `dura site data update {dataset.name} --label CODE=CLASS`.",
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
    withdrawn: Callable[[], Collection[str]],
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
        withdrawn: returns who has withdrawn by now; nothing of them is read, and no prepared copy comes back.
        seal: opens and encrypts what is kept.

    Yields:
        Key and patient. None stands for a patient whose data cannot be had as they were, for whatever reason: nobody
        but the log learns that, and not of whom.
    """
    again = _Again(Preparation(dataset, contract, pseudonym_key, seal), folder, withdrawn)
    gone = withdrawn()
    for key, digest in wanted.items():
        found = None
        try:
            if key in gone:
                shutil.rmtree(folder / key, ignore_errors=True)
            else:
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

    def __init__(self, work: Preparation, folder: Path, withdrawn: Callable[[], Collection[str]]) -> None:
        self._work, self._folder, self._withdrawn = work, folder, withdrawn

    def patient(self, key: str, digest: str) -> PatientData | None:
        """Return a patient if the recordings still give what was approved, and nobody has withdrawn the patient."""
        if key in self._withdrawn():
            return None
        items = self._subjects[key]
        private_folder(private_folder(self._folder.parent) / self._folder.name)
        target = self._folder / key / self._work.source.name(items, self._digests)
        if not target.exists():
            self._work((items, target))
        if key in self._withdrawn():  # while the recordings were read
            shutil.rmtree(self._folder / key, ignore_errors=True)
            return None
        found = open_entry(target, self._work.seal)
        return found if digest_of(found) == digest else None

    @cached_property
    def _digests(self) -> FileDigests:
        return FileDigests(self._folder.parent / INDEX, self._work.dataset.root, self._work.pseudonym_key)

    @cached_property
    def _subjects(self) -> dict[str, Any]:
        key = self._work.pseudonym_key
        return {pseudonym(subject, key): items for subject, items in self._work.source.patients()}


def steps_of(contract: DataContract) -> tuple[Step, ...]:
    """Return the steps of preparation in their order."""
    functions = window_steps(contract) if isinstance(contract, SignalContract) else vector_steps(contract)
    return tuple(step_of(function) for function in functions)


def source_of(dataset: DataSet, contract: DataContract) -> Source:
    """Return what brings a data set to a contract."""
    if isinstance(contract, SignalContract):
        return WindowSource(dataset, contract)
    return VectorSource(vectors_of(dataset, contract))


def pseudonym(subject: str, key: bytes) -> str:
    """Return the keyed hash by which a patient is known in caches and ledger."""
    return hmac.new(key, b"dura patient v1\0" + subject.encode(), hashlib.sha256).hexdigest()


def load_prepared(folder: Path) -> tuple[PatientData, ...]:
    """Return the patients that lie prepared in a recipe's folder, sorted by key, one entry each.

    Raises:
        Damaged: an entry is not what was written.
    """
    return tuple(open_entry(entry) for patient in sorted(folder.iterdir()) for entry in patient.iterdir())

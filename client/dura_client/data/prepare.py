"""From recordings and tables to the study's examples, one patient in memory at a time, cached on disk.

What is done with recordings stands in :mod:`dura_client.data.eeg.preparing.windows`, with connectomes and tables in
:mod:`dura_client.data.sources.vectors`. Patients who break a rule of the study are left out here, by the study's own
rules, before an approval freezes the cohort.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.preparing.windows import WindowSource, window_steps
from dura_client.data.fingerprint import from_rows
from dura_client.data.privacy_class import Step, step_of
from dura_client.data.sources.fitting import require_fitting
from dura_client.data.sources.leaving_out import why_left_out
from dura_client.data.sources.vectors import VectorSource, vector_steps, vectors_of
from dura_common.errors import HostError, InputError
from dura_common.runtime.files import private_folder
from dura_common.study import DataContract, SignalContract

log = logging.getLogger(__name__)

VERSION = 4
"""Part of the cache's name; raised whenever preparation changes its result or what is kept of it."""
TEMPORARY = ".new-"
"""Prefix of a patient that is being written; a crash leaves such a folder behind and nothing reads it."""


@dataclass(frozen=True, slots=True)
class PatientData:
    """One patient, ready for a model. Arrays are memory maps."""

    key: str
    """Keyed hash of the BIDS label, 64 hex digits."""
    windows: NDArray[np.float32]
    """(windows, channels, samples), about unit variance."""
    labels: NDArray[np.int64] | NDArray[np.float32]
    """(windows,), index into the study's classes, or a value from -1 to 1."""
    recordings: NDArray[np.int64]
    """(windows,), index of the recording in time order."""
    fingerprints: tuple[bytes, ...]
    """Of each recording in time order, 32 bytes, keyed by the site's secret: equal for copies."""
    broken: tuple[int, ...]
    """Of each recording in time order, the study's rules that it breaks (:class:`~...leaving_out.Broken`)."""
    contents: tuple[bytes, ...]
    """Plain digests of the same recordings, equal at any site; of public data sets only, otherwise empty."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """All patients of a data set, sorted by key."""

    patients: tuple[PatientData, ...]
    steps: tuple[Step, ...]
    """Everything that the windows went through, with what each step depends on."""
    folder: str
    """Name of the folder in the cache where they lie."""
    left_out: Mapping[str, frozenset[str]]
    """Keys of patients who break a rule of the study, by the reason."""


class Source(Protocol):
    """What brings the patients of a data set to a contract."""

    def patients(self) -> list[tuple[str, Any]]:
        """Return each patient with what the data set holds of the patient, sorted."""

    def name(self, version: int) -> str:
        """Return a name that changes whenever a patient would be prepared to something else."""

    def arrays(self, items: Any, key: bytes) -> dict[str, NDArray[Any]]:
        """Prepare what there is of one patient; fingerprints are keyed by the site's secret."""


def prepare(
    dataset: DataSet,
    contract: DataContract,
    *,
    cache: Path,
    pseudonym_key: bytes,
    leave_out: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Bring a data set to a study's contract; prepared patients come from the cache.

    Patients whose pseudonyms are to be left out are not even read, and count nowhere.

    Raises:
        InputError: unreadable recordings, unknown channels, no event of a class, or too few patients.
        HostError: the cache cannot be written.
    """
    require_fitting(dataset, contract)
    source = source_of(dataset, contract)
    patients = [item for item in source.patients() if pseudonym(item[0], pseudonym_key) not in leave_out]
    if len(patients) < contract.minimum_patients:
        raise InputError(
            f"the data set {dataset.name} has fewer patients than the study demands, {contract.minimum_patients}"
        )
    folder = private_folder(private_folder(cache) / source.name(VERSION))
    for done, (subject, items) in enumerate(patients):
        target = folder / pseudonym(subject, pseudonym_key)
        if not target.exists():
            _keep(source.arrays(items, pseudonym_key), target)
        if progress is not None:
            progress(done + 1, len(patients))
    keys = sorted(pseudonym(subject, pseudonym_key) for subject, _ in patients)
    everybody = [_load(folder / key) for key in keys]
    left_out: dict[str, set[str]] = {}
    for patient in everybody:
        why = why_left_out(contract.leave_out, len(patient.labels), patient.broken)
        if why is not None:
            left_out.setdefault(why, set()).add(patient.key)
    out = {key for group in left_out.values() for key in group}
    prepared = PreparedData(
        tuple(patient for patient in everybody if patient.key not in out),
        steps_of(contract),
        folder.name,
        {why: frozenset(group) for why, group in left_out.items()},
    )
    seen = {int(label) for patient in prepared.patients for label in np.unique(patient.labels)}
    missing = [name for index, name in enumerate(contract.classes) if index not in seen]
    if missing:
        what = "event" if contract.cut == "events" else "example"
        raise InputError(
            f"no patient of the data set {dataset.name} has an {what} of {', '.join(missing)}",
            hint=f"Say what the codes mean: `dura site data update {dataset.name} --label CODE=CLASS`.",
        )
    return prepared


def restore(
    dataset: DataSet, contract: DataContract, keys: Collection[str], *, folder: Path, pseudonym_key: bytes
) -> Iterator[tuple[str, PatientData | None]]:
    """Yield patients by key as they were prepared before, prepared again if their copy is gone.

    None stands for a patient who cannot be had for whatever reason that the recordings give: nobody but the log learns
    that, and not of whom.
    """
    subjects: dict[str, Any] | None = None
    source = source_of(dataset, contract)
    for key in keys:
        found = None
        try:
            if not (folder / key).exists():
                if subjects is None:
                    private_folder(private_folder(folder.parent) / folder.name)
                    subjects = {pseudonym(subject, pseudonym_key): items for subject, items in source.patients()}
                _keep(source.arrays(subjects[key], pseudonym_key), folder / key)
            found = _load(folder / key)
        except Exception as error:  # noqa: BLE001  # a reader may fail in any way, and one patient must not end a step
            log.warning("a patient's recordings cannot be read (%s); the patient counts zero", type(error).__name__)
        yield key, found


def digest_of(patient: PatientData) -> str:
    """Return SHA-256 (hex) of what a patient was prepared to: windows, labels, and which recording each is of."""
    hasher = hashlib.sha256()
    for array in (patient.windows, patient.labels, patient.recordings):
        hasher.update(repr((array.dtype.str, array.shape)).encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def steps_of(contract: DataContract) -> tuple[Step, ...]:
    """Return the steps of preparation in their order."""
    functions = window_steps(contract) if isinstance(contract, SignalContract) else vector_steps(contract)
    return tuple(step_of(function) for function in functions)


def source_of(dataset: DataSet, contract: DataContract) -> Source:
    """Return what brings a data set to a contract."""
    return (
        WindowSource(dataset, contract)
        if isinstance(contract, SignalContract)
        else VectorSource(vectors_of(dataset, contract))
    )


def pseudonym(subject: str, key: bytes) -> str:
    """Return the keyed hash by which a patient is known in caches and ledger."""
    return hmac.new(key, b"dura patient v1\0" + subject.encode(), hashlib.sha256).hexdigest()


def _keep(arrays: Mapping[str, NDArray[Any]], target: Path) -> None:
    """Write a prepared patient into ``target``, which appears complete or not at all."""
    try:
        _store(arrays, target)
    except OSError as error:
        raise HostError(
            f"cannot write prepared recordings to {target.parent.parent}: {error.strerror}",
            hint="Check free space and permissions; what was prepared before is kept.",
        ) from error


def _store(arrays: Mapping[str, NDArray[Any]], target: Path) -> None:
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=TEMPORARY))
    try:
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("xb") as stream:
                np.save(stream, array, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():  # otherwise another process prepared the same patient meanwhile
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path) -> PatientData:
    return PatientData(
        key=folder.name,
        windows=np.load(folder / "windows.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy"),
        recordings=np.load(folder / "recordings.npy"),
        fingerprints=from_rows(np.load(folder / "fingerprints.npy")),
        contents=from_rows(np.load(folder / "contents.npy")),
        broken=tuple(int(rules) for rules in np.load(folder / "broken.npy")),
    )


def load_prepared(folder: Path) -> tuple[PatientData, ...]:
    """Return the patients that lie prepared in a folder of the cache, sorted by key; arrays are memory maps."""
    return tuple(_load(path) for path in sorted(folder.iterdir()))

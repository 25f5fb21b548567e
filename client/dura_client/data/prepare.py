"""From recordings to the study's windows, one recording in memory at a time, cached on disk.

In this order (each step uses one recording or one patient only, so nothing here is a statistic over patients):

1. values to volts, implausible units refused;
2. channel positions from the 10-05 system; flat, bad or absent channels are interpolated (spherical splines);
3. line filter where the band reaches the line, resampling and band-pass, all before windows are cut;
4. the study's channels, average reference over them (the same operator at every site);
5. windows around the events of the study's classes, scaled by the recording's robust deviation;
6. Euclidean alignment per patient (He and Wu 2020), with shrinkage since the reference makes covariances singular.

Between 1 and 2 the recording's fingerprint is taken, by which a copy under another name is known.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import Recording, check_amplitude, find_recordings, folder_of, load, open_recording
from dura_client.data.eeg.signals import (
    bring_to_rate_and_band,
    complete_channels,
    euclidean_alignment,
    positions,
    reference_and_scale,
)
from dura_client.data.fingerprint import as_rows, content_digest, from_rows, keyed
from dura_client.data.privacy_class import PrivacyClass, Step, declares, step_of
from dura_client.data.recordings.folder import BidsFolder
from dura_common.errors import HostError, InputError
from dura_common.runtime.files import private_folder
from dura_common.study import DataContract, SignalContract

log = logging.getLogger(__name__)

VERSION = 3
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
    labels: NDArray[np.int64]
    """(windows,), index into the study's classes."""
    recordings: NDArray[np.int64]
    """(windows,), index of the recording in time order."""
    fingerprints: tuple[bytes, ...]
    """Of each recording in time order, 32 bytes, keyed by the site's secret: equal for copies."""
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
    contract = signals_only(contract)
    positions(contract)  # an impossible contract is refused before hours of reading
    if dataset.task != contract.task:
        raise InputError(
            f"the data set {dataset.name} was registered for the task {dataset.task!r}, the study asks for "
            f"{contract.task!r}",
            hint=f"Register those recordings: `dura site data add NAME {dataset.root} --task {contract.task}`.",
        )
    bids, recordings = folder_of(dataset), find_recordings(dataset)
    patients = [(subject, list(items)) for subject, items in groupby(recordings, key=lambda item: item.subject)]
    patients = [item for item in patients if pseudonym(item[0], pseudonym_key) not in leave_out]
    if len(patients) < contract.minimum_patients:
        raise InputError(
            f"the data set {dataset.name} has fewer patients than the study demands, {contract.minimum_patients}"
        )
    folder = private_folder(private_folder(cache) / _cache_name(dataset, contract, recordings))
    for done, (subject, items) in enumerate(patients):
        target = folder / pseudonym(subject, pseudonym_key)
        if not target.exists():
            _prepare_patient(bids, dataset, contract, items, target, pseudonym_key)
        if progress is not None:
            progress(done + 1, len(patients))
    keys = sorted(pseudonym(subject, pseudonym_key) for subject, _ in patients)
    prepared = PreparedData(tuple(_load(folder / key) for key in keys), steps_of(contract), folder.name)
    seen = {int(label) for patient in prepared.patients for label in np.unique(patient.labels)}
    missing = [name for index, name in enumerate(contract.classes) if index not in seen]
    if missing:
        raise InputError(
            f"no patient of the data set {dataset.name} has an event of {', '.join(missing)}",
            hint=f"Say what the event codes mean: `dura site data update {dataset.name} --label CODE=CLASS`.",
        )
    return prepared


def signals_only(contract: DataContract) -> SignalContract:
    """Return a contract for recordings; :class:`InputError` for another source, which this version cannot prepare."""
    if not isinstance(contract, SignalContract):
        raise InputError(f'this version of dura prepares EEG only; the study asks for source = "{contract.source}"')
    return contract


def restore(
    dataset: DataSet, contract: DataContract, keys: Collection[str], *, folder: Path, pseudonym_key: bytes
) -> Iterator[tuple[str, PatientData | None]]:
    """Yield patients by key as they were prepared before, prepared again if their copy is gone.

    None stands for a patient who cannot be had for whatever reason that the recordings give: nobody but the log learns
    that, and not of whom.
    """
    subjects: dict[str, list[Recording]] | None = None
    contract = signals_only(contract)
    bids = folder_of(dataset)
    for key in keys:
        found = None
        try:
            if not (folder / key).exists():
                if subjects is None:
                    private_folder(private_folder(folder.parent) / folder.name)
                    subjects = _by_key(dataset, pseudonym_key)
                _prepare_patient(bids, dataset, contract, subjects[key], folder / key, pseudonym_key)
            found = _load(folder / key)
        except Exception as error:  # noqa: BLE001  # a reader may fail in any way, and one patient must not end a step
            log.warning("a patient's recordings cannot be read (%s); the patient counts zero", type(error).__name__)
        yield key, found


def _by_key(dataset: DataSet, pseudonym_key: bytes) -> dict[str, list[Recording]]:
    subjects: dict[str, list[Recording]] = {}
    for recording in find_recordings(dataset):
        subjects.setdefault(pseudonym(recording.subject, pseudonym_key), []).append(recording)
    return subjects


def digest_of(patient: PatientData) -> str:
    """Return SHA-256 (hex) of what a patient was prepared to: windows, labels, and which recording each is of."""
    hasher = hashlib.sha256()
    for array in (patient.windows, patient.labels, patient.recordings):
        hasher.update(repr((array.dtype.str, array.shape)).encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def steps_of(contract: DataContract) -> tuple[Step, ...]:
    """Return the steps of preparation in their order."""
    functions: list[Callable[..., Any]] = [
        open_recording,
        load,
        check_amplitude,
        complete_channels,
        bring_to_rate_and_band,
        reference_and_scale,
        cut,
    ]
    if signals_only(contract).alignment == "euclidean":
        functions.append(euclidean_alignment)
    return tuple(step_of(function) for function in functions)


def pseudonym(subject: str, key: bytes) -> str:
    """Return the keyed hash by which a patient is known in caches and ledger."""
    return hmac.new(key, b"dura patient v1\0" + subject.encode(), hashlib.sha256).hexdigest()


def _cache_name(dataset: DataSet, contract: SignalContract, recordings: Sequence[Recording]) -> str:
    hasher = hashlib.sha256(f"{VERSION}\0{contract.model_dump_json()}\0{dataset.scale}\0".encode())
    hasher.update(
        repr((sorted(dataset.labels.items()), sorted(dataset.scales.items()), dataset.public)).encode()
    )  # public: plain digests are kept
    for recording in recordings:
        for path in sorted(recording.path.parent.glob(recording.path.stem.removesuffix("_eeg") + "_*")):
            stat = path.stat()
            hasher.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return hasher.hexdigest()[:32]


def _prepare_patient(
    folder: BidsFolder,
    dataset: DataSet,
    contract: SignalContract,
    recordings: Sequence[Recording],
    target: Path,
    key: bytes,
) -> None:
    """Prepare one patient into ``target``, which appears complete or not at all."""
    parts = [_prepare_recording(folder, dataset, contract, recording) for recording in recordings]
    windows = np.concatenate([part.windows for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    origin = np.concatenate([np.full(len(part.labels), index, dtype=np.int64) for index, part in enumerate(parts)])
    contents = [part.content for part in parts]
    if contract.alignment == "euclidean" and len(windows):
        windows = euclidean_alignment(windows)  # 6
    arrays: dict[str, NDArray[Any]] = {
        "windows": windows.astype(np.float32),
        "labels": labels.astype(np.int64),
        "recordings": origin,
        "fingerprints": as_rows([keyed(content, key) for content in contents]),
        "contents": as_rows(contents if dataset.public else []),
    }
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
    )


@dataclass(frozen=True, slots=True)
class _Prepared:
    windows: NDArray[np.float64]
    labels: NDArray[np.int64]
    content: bytes
    """Plain digest of its samples."""


def _prepare_recording(
    folder: BidsFolder, dataset: DataSet, contract: SignalContract, recording: Recording
) -> _Prepared:
    opened = open_recording(folder, dataset, recording)
    loaded = load(opened)
    raw = loaded.raw
    check_amplitude(raw, dataset, opened.place)  # 1
    content = content_digest(raw, contract.channels)
    events = [(event.sample, dataset.class_of(event.code, opened.levels)) for event in opened.events]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MNE warns of short signals; such recordings hold no window
        complete_channels(raw, contract)  # 2
        bring_to_rate_and_band(raw, contract)  # 3
    signal = reference_and_scale(raw, contract)  # 4
    windows, labels = cut(signal, events, contract, opened.rate, loaded.stretches)  # 5
    return _Prepared(windows, labels, content)


@declares(PrivacyClass.PER_PATIENT)
def cut(
    signal: NDArray[np.float64],
    events: Sequence[tuple[int, str]],
    contract: SignalContract,
    rate: float,
    stretches: Sequence[tuple[int, int]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the windows around the events of the study's classes, and their labels.

    Args:
        signal: (channels, samples) at the study's rate.
        events: sample at the recording's own rate, and class.
        contract: what the study asks for.
        rate: of the recording, Hz.
        stretches: begin and end at the recording's rate; no window leaves the stretch of its event.

    Returns:
        Windows (windows, channels, samples) and labels (windows,).
    """
    windows, labels = [], []
    for at, name in events:
        begin = round((at / rate + contract.window_start) * contract.sampling_rate)
        end = begin + contract.window_samples
        if (
            name in contract.classes
            and _inside(begin, end, at, contract.sampling_rate / rate, stretches)
            and end <= signal.shape[1]
        ):
            windows.append(signal[:, begin:end])
            labels.append(contract.classes.index(name))
    shape = (0, len(contract.channels), contract.window_samples)
    return (np.stack(windows) if windows else np.zeros(shape)), np.array(labels, dtype=np.int64)


def _inside(begin: int, end: int, at: int, ratio: float, stretches: Sequence[tuple[int, int]]) -> bool:
    """Tell whether a window at the study's rate lies in the stretch of its event."""
    for first, last in stretches:
        if first <= at < last:
            return first * ratio - 0.5 < begin and end <= last * ratio + 0.5
    return False


def load_prepared(folder: Path) -> tuple[PatientData, ...]:
    """Return the patients that lie prepared in a folder of the cache, sorted by key; arrays are memory maps."""
    return tuple(_load(path) for path in sorted(folder.iterdir()))

"""From recordings to the study's windows, one recording in memory at a time, cached on disk.

In this order (each step uses one recording or one patient only, so nothing here is a statistic over patients):

1. values to volts, implausible units refused;
2. channel positions from the 10-05 system; flat, bad or absent channels are interpolated (spherical splines);
3. resampling and band-pass on the continuous signal, before windows are cut;
4. the study's channels, average reference over them (the same operator at every site);
5. windows around the events of the study's classes, scaled by the recording's robust deviation;
6. Euclidean alignment per patient (He and Wu 2020), with shrinkage since the reference makes covariances singular.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.bids import Recording, check_amplitude, codes, find_recordings, read
from dura_client.data.registry import DataSet
from dura_common.errors import InputError
from dura_common.runtime.files import private_folder
from dura_common.study import DataContract

VERSION = 1
"""Part of the cache's name; raised whenever preparation changes its result."""
SHRINKAGE = 0.05
BAD_DEVIATION = 5.0
"""Robust standard deviations of the log amplitude beyond which a channel counts as bad."""
FLAT_VOLTS = 1e-8


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


@dataclass(frozen=True, slots=True)
class PreparedData:
    """All patients of a data set, sorted by key."""

    patients: tuple[PatientData, ...]


def prepare(
    dataset: DataSet,
    contract: DataContract,
    *,
    cache: Path,
    pseudonym_key: bytes,
    progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Bring a data set to a study's contract; prepared patients come from the cache.

    Raises:
        InputError: unreadable recordings, unknown channels, no event of a class, or too few patients.
    """
    recordings = find_recordings(dataset)
    folder = private_folder(private_folder(cache) / _cache_name(dataset, contract, recordings))
    patients = [(subject, list(items)) for subject, items in groupby(recordings, key=lambda item: item.subject)]
    if len(patients) < contract.minimum_patients:
        raise InputError(
            f"the data set {dataset.name} has {len(patients)} patients; "
            f"the study demands at least {contract.minimum_patients}"
        )
    for done, (subject, items) in enumerate(patients):
        target = folder / pseudonym(subject, pseudonym_key)
        if not target.exists():
            _prepare_patient(dataset, contract, items, target)
        if progress is not None:
            progress(done + 1, len(patients))
    keys = sorted(pseudonym(subject, pseudonym_key) for subject, _ in patients)
    prepared = PreparedData(tuple(_load(folder / key) for key in keys))
    seen = {int(label) for patient in prepared.patients for label in np.unique(patient.labels)}
    missing = [name for index, name in enumerate(contract.classes) if index not in seen]
    if missing:
        raise InputError(
            f"no patient of the data set {dataset.name} has an event of {', '.join(missing)}",
            hint="Map the local event codes with `dura site data add --label CODE=CLASS`.",
        )
    return prepared


def pseudonym(subject: str, key: bytes) -> str:
    """Return the keyed hash by which a patient is known in caches and ledger."""
    return hmac.new(key, b"dura patient v1\0" + subject.encode(), hashlib.sha256).hexdigest()


def _cache_name(dataset: DataSet, contract: DataContract, recordings: Sequence[Recording]) -> str:
    hasher = hashlib.sha256(f"{VERSION}\0{contract.model_dump_json()}\0{dataset.scale}\0".encode())
    hasher.update(repr(sorted(dataset.labels.items())).encode())
    for recording in recordings:
        for path in sorted(recording.path.parent.glob(recording.path.stem.removesuffix("_eeg") + "_*")):
            stat = path.stat()
            hasher.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return hasher.hexdigest()[:32]


def _prepare_patient(dataset: DataSet, contract: DataContract, recordings: Sequence[Recording], target: Path) -> None:
    """Prepare one patient into ``target``, which appears complete or not at all."""
    parts = [_windows(dataset, contract, recording) for recording in recordings]
    windows = np.concatenate([part for part, _ in parts])
    labels = np.concatenate([part for _, part in parts])
    origin = np.concatenate([np.full(len(part), index) for index, (_, part) in enumerate(parts)])
    if contract.alignment == "euclidean" and len(windows):
        windows = euclidean_alignment(windows)
    temporary = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        np.save(temporary / "windows.npy", windows.astype(np.float32))
        np.save(temporary / "labels.npy", labels.astype(np.int64))
        np.save(temporary / "recordings.npy", origin.astype(np.int64))
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _load(folder: Path) -> PatientData:
    return PatientData(
        key=folder.name,
        windows=np.load(folder / "windows.npy", mmap_mode="r"),
        labels=np.load(folder / "labels.npy"),
        recordings=np.load(folder / "recordings.npy"),
    )


def _windows(
    dataset: DataSet, contract: DataContract, recording: Recording
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    raw = read(dataset, recording)
    check_amplitude(raw, dataset, recording)  # 1
    events = [(at, dataset.class_of(code)) for at, code in codes(raw)]
    raw.set_annotations(None)
    _complete_channels(raw, contract)  # 2
    if raw.info["sfreq"] != contract.sampling_rate:
        raw.resample(contract.sampling_rate, method="polyphase", verbose="error")  # 3
    raw.filter(*contract.band, verbose="error")
    signal = raw.get_data(picks=list(contract.channels))
    signal -= signal.mean(axis=0)  # 4
    deviation = np.median(np.abs(signal - np.median(signal, axis=1, keepdims=True))) * 1.4826
    signal /= max(deviation, FLAT_VOLTS)
    return _cut(signal, events, contract)  # 5


def _cut(
    signal: NDArray[np.float64], events: Sequence[tuple[float, str]], contract: DataContract
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    windows, labels = [], []
    for at, name in events:
        begin = round((at + contract.window_start) * contract.sampling_rate)
        end = begin + contract.window_samples
        if name in contract.classes and begin >= 0 and end <= signal.shape[1]:
            windows.append(signal[:, begin:end])
            labels.append(contract.classes.index(name))
    shape = (0, len(contract.channels), contract.window_samples)
    return (np.stack(windows) if windows else np.zeros(shape)), np.array(labels, dtype=np.int64)


def _complete_channels(raw: mne.io.BaseRaw, contract: DataContract) -> None:
    """Place all channels, mark bad ones, add absent ones, and interpolate what the study needs."""
    montage = mne.channels.make_standard_montage("colin27_1005")
    known = {name.lower(): name for name in montage.ch_names}
    unknown = [name for name in contract.channels if name.lower() not in known]
    if unknown:
        raise InputError(f"the study asks for channels that the 10-05 system does not know: {', '.join(unknown)}")
    raw.rename_channels({name: known[name.lower()] for name in raw.ch_names if name.lower() in known}, verbose="error")
    placed = [name for name in raw.ch_names if name in montage.ch_names]
    if not placed:
        raise InputError("a recording has no channel with a name of the 10-20 system")
    raw.pick(placed)
    wanted = [known[name.lower()] for name in contract.channels]
    absent = [name for name in wanted if name not in raw.ch_names]
    if absent:
        info = mne.create_info(absent, raw.info["sfreq"], "eeg", verbose="error")
        empty = mne.io.RawArray(np.zeros((len(absent), raw.n_times)), info, verbose="error")
        raw.add_channels([empty], force_update_info=True)
    raw.set_montage(montage, match_case=False, verbose="error")
    bad = set(raw.info["bads"]) | set(absent) | set(_suspicious(raw))
    raw.info["bads"] = sorted(bad)
    if len(bad) >= len(raw.ch_names) - 1:
        raise InputError("a recording has no good channel to interpolate from")
    if bad & set(wanted):
        raw.interpolate_bads(reset_bads=True, method={"eeg": "spline"}, verbose="error")


def _suspicious(raw: mne.io.BaseRaw) -> list[str]:
    """Return channels that are flat, or whose amplitude is far from the others' in the same recording."""
    amplitude = np.median(np.abs(np.diff(raw.get_data(), axis=1)), axis=1)
    flat = amplitude < FLAT_VOLTS * 1e-3
    logs = np.log(np.where(flat, 1.0, amplitude))
    centre = np.median(logs[~flat]) if (~flat).any() else 0.0
    spread = max(1.4826 * float(np.median(np.abs(logs[~flat] - centre))), 0.1) if (~flat).any() else 1.0
    return [
        name
        for name, value, dead in zip(raw.ch_names, logs, flat, strict=True)
        if dead or abs(value - centre) > BAD_DEVIATION * spread
    ]


def euclidean_alignment(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whiten windows (n, channels, samples) by the inverse square root of their mean covariance.

    He and Wu 2020, IEEE TBME 67:399. Unlabelled, and of one patient only; the covariance is shrunk towards a
    multiple of the identity by 5 %.
    """
    covariance = np.einsum("nct,ndt->cd", windows, windows) / (windows.shape[0] * windows.shape[2])
    size = len(covariance)
    mixed = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(mixed)
    whitener = vectors @ np.diag(np.maximum(values, 1e-12) ** -0.5) @ vectors.T
    aligned: NDArray[np.float64] = np.einsum("cd,ndt->nct", whitener, windows)
    return aligned

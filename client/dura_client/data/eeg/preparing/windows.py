"""From one patient's EEG recordings to the study's windows, one recording in memory at a time.

In this order (each step uses one recording or one patient only, so nothing here is a statistic over patients):

1. values to volts, implausible units refused;
2. channel positions from the 10-05 system; flat, bad or absent channels are interpolated (spherical splines);
3. line filter where the band reaches the line, resampling and band-pass, all before windows are cut;
4. the study's channels, average reference over them (the same operator at every site);
5. windows around events or along stretches, scaled by the recording's robust deviation;
6. Euclidean alignment per patient (He and Wu 2020), with shrinkage since the reference makes covariances singular.

Between 1 and 2 the recording's fingerprint is taken, by which a copy under another name is known.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import Recording, check_amplitude, find_recordings, folder_of, load, open_recording
from dura_client.data.eeg.preparing.cutting import cut, plan_windows
from dura_client.data.eeg.signals import (
    bring_to_rate_and_band,
    complete_channels,
    euclidean_alignment,
    positions,
    reference_and_scale,
)
from dura_client.data.fingerprint import as_rows, content_digest, keyed
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.sources.answers import Answers, answers_for, label_kind
from dura_client.data.sources.columns import table_files
from dura_client.data.sources.cuts import places
from dura_client.data.sources.leaving_out import broken_rules
from dura_common.study import SignalContract


def window_steps(contract: SignalContract) -> list[Callable[..., Any]]:
    """Return what recordings go through, in order."""
    functions: list[Callable[..., Any]] = [
        open_recording,
        load,
        check_amplitude,
        complete_channels,
        bring_to_rate_and_band,
        reference_and_scale,
        places,
        broken_rules,
        Answers.of,
        cut,
    ]
    return [*functions, euclidean_alignment] if contract.alignment == "euclidean" else functions


@dataclass(frozen=True)
class WindowSource:
    """Brings the recordings of a data set to a contract."""

    dataset: DataSet
    contract: SignalContract

    @cached_property
    def folder(self) -> BidsFolder:
        """The recordings' folder."""
        return folder_of(self.dataset)

    @cached_property
    def answers(self) -> Answers | None:
        """What the tables answer; None if the labels stand in no table."""
        return answers_for(self.dataset, self.contract)

    def patients(self) -> list[tuple[str, list[Recording]]]:
        """Return each patient with the patient's recordings.

        Raises:
            InputError: an impossible contract, no recordings, or no table has the answers.
        """
        positions(self.contract)  # an impossible contract is refused before hours of reading
        _ = self.answers
        found = find_recordings(self.dataset)
        return [(subject, list(items)) for subject, items in groupby(found, key=lambda item: item.subject)]

    def name(self, version: int) -> str:
        """Return a name that changes with the contract, the registration and every file beside a recording."""
        dataset, answers = self.dataset, self.answers
        told = (sorted(dataset.labels.items()), sorted(dataset.scales.items()), dataset.public)
        hasher = hashlib.sha256(f"{version}\0{self.contract.model_dump_json()}\0{dataset.scale}\0{told}\0".encode())
        paths = [] if answers is None else table_files(dataset)
        hasher.update(repr((sorted(dataset.columns.items()), dataset.missing)).encode())
        for recording in find_recordings(dataset):
            stem = recording.path.stem.removesuffix("_eeg")
            paths += sorted(recording.path.parent.glob(f"{stem}_*"))
        for path in paths:
            stat = path.stat()
            hasher.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        return hasher.hexdigest()[:32]

    def arrays(self, items: Sequence[Recording], key: bytes) -> dict[str, NDArray[Any]]:
        """Prepare one patient's recordings."""
        parts = [self._recording(recording) for recording in items]
        windows = np.concatenate([part.windows for part in parts])
        origin = [np.full(len(part.labels), index, dtype=np.int64) for index, part in enumerate(parts)]
        contents = [part.content for part in parts]
        if self.contract.alignment == "euclidean" and len(windows):
            windows = euclidean_alignment(windows)  # 6
        return {
            "windows": windows.astype(np.float32),
            "labels": np.concatenate([part.labels for part in parts]).astype(label_kind(self.contract)),
            "recordings": np.concatenate(origin),
            "fingerprints": as_rows([keyed(content, key) for content in contents]),
            "contents": as_rows(contents if self.dataset.public else []),
            "broken": np.array([part.broken for part in parts], dtype=np.uint8),
        }

    def _recording(self, recording: Recording) -> _Prepared:
        opened = open_recording(self.folder, self.dataset, recording)
        loaded = load(opened)
        raw = loaded.raw
        check_amplitude(raw, self.dataset, opened.place)  # 1
        content = content_digest(raw, self.contract.channels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MNE warns of short signals; such recordings hold no window
            interpolated = complete_channels(raw, self.contract)  # 2
            bring_to_rate_and_band(raw, self.contract)  # 3
        signal = reference_and_scale(raw, self.contract)  # 4
        planned = plan_windows(
            opened,
            self.dataset,
            self.contract,
            self.answers,
            stretches=loaded.stretches,
            interpolated=interpolated,
        )
        windows = cut(signal, planned.begins, self.contract)  # 5
        return _Prepared(windows, planned.labels[: len(windows)], content, int(planned.broken))


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One recording."""

    windows: NDArray[np.float64]
    labels: NDArray[Any]
    content: bytes
    """Plain digest of its samples."""
    broken: int
    """Rules of the study that it breaks."""

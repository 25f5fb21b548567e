"""From one patient's EEG or MEG recordings to the study's windows, block by block, whatever their length.

In this order (each step uses one recording or one patient only, so nothing here is a statistic over patients):

1. values to volts, of MEG to nanotesla and nanotesla per centimetre, implausible units refused;
2. channel positions from the 10-05 system; flat, bad or absent channels are interpolated (spherical splines), and the
   average over the study's channels is the reference: one operator, the same for every block. Of MEG, the study's
   sensors are picked, and a recording that lacks one, or in which one is flat or bad, is left out;
3. line filter where the band reaches it, resampling exact in time, band-pass, all before windows are cut;
4. windows around events or along stretches, scaled by the recording's robust deviation;
5. Euclidean alignment per patient (He and Wu 2020), with shrinkage since the reference makes covariances singular.

A first look at the recording finds bad channels and moments without numbers, and takes the fingerprint by which a copy
under another name is known. Windows wait in a file until the scale of their recording is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import Recording, check_amplitude, find_recordings, folder_of, named, open_recording
from dura_client.data.eeg.preparing.cutting import Cutter, cut, plan_windows
from dura_client.data.eeg.preparing.filters import bring_to_rate_and_band
from dura_client.data.eeg.preparing.survey import Blocks, survey
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.eeg.signals import (
    applied,
    complete_channels,
    euclidean_alignment,
    missing_sensors,
    positions,
    robust_deviation,
)
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.sources.answers import Answers, answers_for, label_kind
from dura_client.data.sources.columns import table_files
from dura_client.data.sources.cuts import places
from dura_client.data.sources.leaving_out import Broken, broken_rules
from dura_client.data.store.digests import FileDigests
from dura_client.data.store.entry import Parts
from dura_client.data.store.fingerprint import as_rows, keyed
from dura_client.data.store.naming import EntryNames, files_of
from dura_client.data.store.seal import Seal, reading, writing
from dura_common.study import COLUMN_LABELS, SignalContract

THINNED = 1 << 13
"""Samples of a channel, at most, from which the scale of a recording is taken: evenly thinned where there are more.

It is known to a hundredth then."""
CHUNK_BYTES = 8 << 20
"""Of windows that are held at once."""


def window_steps(contract: SignalContract) -> list[Callable[..., Any]]:
    """Return what recordings go through, in order."""
    functions: list[Callable[..., Any]] = [
        open_recording,
        survey,
        check_amplitude,
        complete_channels,
        bring_to_rate_and_band,
        places,
        broken_rules,
        Answers.of,
        cut,
        robust_deviation,
    ]
    return [*functions, euclidean_alignment] if contract.alignment == "euclidean" else functions


@dataclass(frozen=True, slots=True)
class _Cut:
    path: Path
    """Where the windows wait, float32 (windows, channels, samples), not scaled."""
    labels: NDArray[Any]
    scale: float
    content: bytes
    broken: int
    """Rules of the study that the recording breaks."""


@dataclass(frozen=True)
class WindowSource:
    """Brings the recordings of a data set to a contract."""

    dataset: DataSet
    contract: SignalContract
    block: int | None = None
    """Samples of a block; by default a minute of the recording. The result does not depend on it."""

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
        if self.contract.source == "eeg":
            positions(self.contract.channels)  # an impossible contract is refused before hours of reading
        _ = self.answers
        found = find_recordings(self.dataset)
        return [(subject, list(items)) for subject, items in groupby(found, key=lambda item: item.subject)]

    @property
    def tables(self) -> list[Path]:
        """Tables in which answers stand."""
        return [] if self.contract.label not in COLUMN_LABELS else sorted(self._aside)

    def files(self, items: Sequence[Recording]) -> list[Path]:
        """Return every file on which a patient depends, but tables, which hold all patients."""
        return [path for item in items for path in self._files_of(item)]

    def name(self, items: Sequence[Recording], digests: FileDigests) -> str:
        """Return the name of a patient's entry, 32 hex digits."""
        answer = None if self.answers is None else self.answers.of
        return EntryNames(self.folder, self.dataset, digests, self._files_of, answer).of(items)

    @cached_property
    def _aside(self) -> frozenset[Path]:
        return frozenset(table_files(self.dataset))

    @cached_property
    def _found(self) -> dict[Path, list[Path]]:
        """Files by recording, as far as somebody asked for them."""
        return {}

    def _files_of(self, recording: Recording) -> list[Path]:
        if recording.path not in self._found:
            self._found[recording.path] = files_of(self.folder, recording, self._aside)
        return self._found[recording.path]

    def arrays(
        self, items: Sequence[Recording], key: bytes, work: Path, seal: Seal | None
    ) -> dict[str, NDArray[Any] | Parts]:
        """Prepare one patient's recordings; ``work`` is a folder for what waits."""
        cuts = []
        for number, item in enumerate(items):
            with named(self.folder, self.dataset, item):
                cuts.append(self._recording(item, work / str(number), seal))
        origin = [np.full(len(one.labels), number, dtype=np.int64) for number, one in enumerate(cuts)]
        contents = [one.content for one in cuts]
        labels = np.concatenate([one.labels for one in cuts]).astype(label_kind(self.contract))
        shape = (len(labels), *self.contract.shape)
        whitener = np.eye(shape[1])
        if self.contract.alignment == "euclidean" and len(labels):
            products = (np.einsum("nct,ndt->cd", part, part, optimize=True) for part in self._windows(cuts, seal))
            whitener = euclidean_alignment(np.sum(list(products), axis=0) / (shape[0] * shape[2]))  # 5

        def aligned() -> Iterator[NDArray[np.float32]]:
            for part in self._windows(cuts, seal):
                yield np.matmul(whitener, part).astype(np.float32)

        return {
            "windows": Parts(shape, np.dtype(np.float32), aligned),
            "labels": labels,
            "recordings": np.concatenate(origin),
            "fingerprints": as_rows([keyed(content, key) for content in contents]),
            "contents": as_rows(contents if self.dataset.public else []),
            "broken": np.array([one.broken for one in cuts], dtype=np.uint8),
        }

    def _windows(self, cuts: Sequence[_Cut], seal: Seal | None) -> Iterator[NDArray[np.float64]]:
        """Yield the scaled windows of all recordings in order, some at a time."""
        shape = self.contract.shape
        size = 4 * shape[0] * shape[1]
        for one in cuts:
            with reading(one.path, seal) as stream:
                while content := stream.read(max(CHUNK_BYTES // size, 1) * size):
                    yield np.frombuffer(content, dtype=np.float32).reshape(-1, *shape).astype(np.float64) / one.scale

    def _recording(self, recording: Recording, path: Path, seal: Seal | None) -> _Cut:
        """Bring one recording to the contract and leave its windows in a file."""
        opened = open_recording(self.folder, self.dataset, recording)
        blocks = Blocks(opened, self.block)
        seen = survey(opened, blocks, self.contract.channels)
        check_amplitude(seen.amplitude, self.dataset, opened.place)  # 1
        names = [item.name for item in opened.channels]
        missing = missing_sensors(names, seen.bad, self.contract.channels)
        planned = plan_windows(
            opened,
            self.dataset,
            self.contract,
            self.answers,
            stretches=seen.stretches,
            interpolated=len(missing) / len(self.contract.channels),
        )
        if Broken.SENSORS in planned.broken:
            with writing(path, seal, lasting=False):
                return _Cut(path, planned.labels, 1.0, seen.content, int(planned.broken))
        operator = complete_channels(names, seen.bad, self.contract)  # 2
        thin, done = _Thinned(opened, self.contract), 0
        with writing(path, seal, lasting=False) as stream:
            for stretch in seen.stretches:
                begins = cut(planned.begins, self.contract, opened.rate, stretch)  # 4
                cutter = Cutter(begins, self.contract.window_samples)
                for block in self._filtered(opened, blocks, operator, stretch):
                    thin.add(block)
                    for window in cutter.push(block):
                        stream.write(np.ascontiguousarray(window, dtype=np.float32).data)
                        done += 1
        if done != len(planned.labels):
            raise RuntimeError(f"{len(planned.labels)} windows were planned and {done} were cut")
        return _Cut(path, planned.labels, thin.deviation(), seen.content, int(planned.broken))

    def _filtered(
        self, opened: SignalRecording, blocks: Blocks, operator: NDArray[np.float64], stretch: tuple[int, int]
    ) -> Iterator[NDArray[np.float64]]:
        """Yield a stretch of the study's channels, filtered, at the study's rate."""
        chain = bring_to_rate_and_band(self.contract, opened.rate, opened.line)  # 3
        for begin in range(*stretch, blocks.size):
            yield chain.push(applied(operator, blocks.whole(begin, min(begin + blocks.size, stretch[1]))))
        yield chain.finish()


class _Thinned:
    """Evenly spaced samples of a recording's signal, as many as are needed for its scale."""

    def __init__(self, opened: SignalRecording, contract: SignalContract) -> None:
        total = opened.samples * contract.sampling_rate / opened.rate
        self._step = max(1, -(-int(total) // THINNED))
        self._at = 0
        self._kept: list[NDArray[np.float32]] = []

    def add(self, block: NDArray[np.float64]) -> None:
        """Take the next block."""
        self._kept.append(block[:, -self._at % self._step :: self._step].astype(np.float32))
        self._at += block.shape[1]

    def deviation(self) -> float:
        """Return the robust standard deviation."""
        kept = [block for block in self._kept if block.size]
        return robust_deviation(np.concatenate(kept, axis=1)) if kept else 1.0

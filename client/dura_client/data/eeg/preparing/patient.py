"""One patient of a study: the recordings brought to the contract, block by block, whatever their length.

In this order (each step uses one recording or one patient only, so nothing here is a statistic over patients):

1. values to volts, implausible units refused;
2. channel positions from the 10-05 system; flat, bad or absent channels are interpolated (spherical splines), and the
   average over the study's channels is the reference: one operator, the same for every block;
3. line filter where the band reaches it, resampling exact in time, band-pass, all before windows are cut;
4. windows around the events of the study's classes, scaled by the recording's robust deviation;
5. Euclidean alignment per patient (He and Wu 2020), with shrinkage since the reference makes covariances singular.

A first look at the recording finds bad channels and moments without numbers, and takes the fingerprint by which a copy
under another name is known. Windows wait in a file until the scale of their recording is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import Recording, check_amplitude, folder_of, open_recording
from dura_client.data.eeg.preparing.cutting import Cutter, cut
from dura_client.data.eeg.preparing.filters import bring_to_rate_and_band
from dura_client.data.eeg.preparing.survey import Blocks, survey
from dura_client.data.eeg.recording import EegRecording
from dura_client.data.eeg.signals import complete_channels, euclidean_alignment, robust_deviation
from dura_client.data.privacy_class import Step, step_of
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.store.entry import Parts, write_entry
from dura_client.data.store.fingerprint import as_rows, keyed
from dura_client.data.store.seal import Seal, reading, writing
from dura_common.errors import InputError
from dura_common.study import DataContract, SignalContract

THINNED = 1 << 18
"""Samples of a channel, at most, from which the scale of a recording is taken: evenly thinned where there are more."""
CHUNK_BYTES = 8 << 20
"""Of windows that are held at once."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """The windows of one recording."""

    path: Path
    """Where they wait, float32 (windows, channels, samples), not scaled."""
    labels: tuple[int, ...]
    scale: float
    content: bytes


@dataclass(frozen=True)
class Preparation:
    """Prepares patients of a data set for a contract. It can be sent to another process."""

    dataset: DataSet
    contract: SignalContract
    pseudonym_key: bytes
    seal: Seal | None = None
    block: int | None = None
    """Samples of a block; by default a minute of the recording. The result does not depend on it."""

    @cached_property
    def folder(self) -> BidsFolder:
        """The recordings' folder."""
        return folder_of(self.dataset)

    def __getstate__(self) -> tuple[object, ...]:
        return self.dataset, self.contract, self.pseudonym_key, self.seal, self.block

    def __setstate__(self, state: tuple[object, ...]) -> None:
        for name, value in zip(("dataset", "contract", "pseudonym_key", "seal", "block"), state, strict=True):
            object.__setattr__(self, name, value)

    def __call__(self, job: tuple[Sequence[Recording], Path], /) -> None:
        """Prepare one patient's recordings into an entry, which appears complete or not at all."""
        recordings, target = job
        write_entry(target, lambda work: self._arrays(recordings, work), self.seal)

    def _arrays(self, recordings: Sequence[Recording], work: Path) -> dict[str, NDArray[Any] | Parts]:
        cuts = [self._recording(item, work / str(number)) for number, item in enumerate(recordings)]
        labels = [label for one in cuts for label in one.labels]
        origin = [np.full(len(one.labels), number, dtype=np.int64) for number, one in enumerate(cuts)]
        contents = [one.content for one in cuts]
        shape = (len(labels), len(self.contract.channels), self.contract.window_samples)
        whitener = np.eye(shape[1])
        if self.contract.alignment == "euclidean" and labels:
            products = (np.einsum("nct,ndt->cd", part, part, optimize=True) for part in self._windows(cuts))
            whitener = euclidean_alignment(np.sum(list(products), axis=0) / (shape[0] * shape[2]))  # 5

        def aligned() -> Iterator[NDArray[np.float32]]:
            for part in self._windows(cuts):
                yield np.matmul(whitener, part).astype(np.float32)

        return {
            "windows": Parts(shape, np.dtype(np.float32), aligned),
            "labels": np.array(labels, dtype=np.int64),
            "recordings": np.concatenate(origin),
            "fingerprints": as_rows([keyed(content, self.pseudonym_key) for content in contents]),
            "contents": as_rows(contents if self.dataset.public else []),
        }

    def _windows(self, cuts: Sequence[_Cut]) -> Iterator[NDArray[np.float64]]:
        """Yield the scaled windows of all recordings in order, some at a time."""
        shape = (len(self.contract.channels), self.contract.window_samples)
        size = 4 * shape[0] * shape[1]
        for one in cuts:
            with reading(one.path, self.seal) as stream:
                while content := stream.read(max(CHUNK_BYTES // size, 1) * size):
                    yield np.frombuffer(content, dtype=np.float32).reshape(-1, *shape).astype(np.float64) / one.scale

    def _recording(self, recording: Recording, path: Path) -> _Cut:
        """Bring one recording to the contract and leave its windows in a file."""
        opened = open_recording(self.folder, self.dataset, recording)
        blocks = Blocks(opened, self.block)
        seen = survey(opened, blocks, self.contract.channels)
        check_amplitude(seen.amplitude, self.dataset, opened.place)  # 1
        operator = complete_channels([item.name for item in opened.channels], seen.bad, self.contract)  # 2
        events = [(event.sample, self.dataset.class_of(event.code, opened.levels)) for event in opened.events]
        thin = _Thinned(opened, self.contract)
        labels: list[int] = []
        with writing(path, self.seal) as stream:
            for stretch in seen.stretches:
                windows = cut(events, self.contract, opened.rate, stretch)  # 4
                cutter = Cutter(windows, self.contract.window_samples)
                for block in self._filtered(opened, blocks, operator, stretch):
                    thin.add(block)
                    for window in cutter.push(block):
                        stream.write(np.ascontiguousarray(window, dtype=np.float32).data)
                labels += [window.label for window in windows]
        return _Cut(path, tuple(labels), thin.deviation(), seen.content)

    def _filtered(
        self, opened: EegRecording, blocks: Blocks, operator: NDArray[np.float64], stretch: tuple[int, int]
    ) -> Iterator[NDArray[np.float64]]:
        """Yield a stretch of the study's channels, filtered, at the study's rate."""
        chain = bring_to_rate_and_band(self.contract, opened.rate, opened.line)  # 3
        for begin in range(*stretch, blocks.size):
            yield chain.push(operator @ blocks.whole(begin, min(begin + blocks.size, stretch[1])))
        yield chain.finish()


class _Thinned:
    """Evenly spaced samples of a recording's signal, as many as are needed for its scale."""

    def __init__(self, opened: EegRecording, contract: SignalContract) -> None:
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


def steps_of(contract: DataContract) -> tuple[Step, ...]:
    """Return the steps of preparation in their order."""
    functions: list[Callable[..., Any]] = [
        open_recording,
        survey,
        check_amplitude,
        complete_channels,
        bring_to_rate_and_band,
        cut,
        robust_deviation,
    ]
    if signals_only(contract).alignment == "euclidean":
        functions.append(euclidean_alignment)
    return tuple(step_of(function) for function in functions)


def signals_only(contract: DataContract) -> SignalContract:
    """Return a contract for recordings; :class:`InputError` for another source, which this version cannot prepare."""
    if not isinstance(contract, SignalContract):
        raise InputError(f'this version of dura prepares EEG only; the study asks for source = "{contract.source}"')
    return contract

"""One pass over a recording's samples, block by block: what amplitudes, spectra and copies show.

Memory is bounded by a block, whatever the recording's length. Nothing is filtered or changed here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_client.data.doctor.compared.sketch import Sketcher
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.eeg.signals import PART_SECONDS, far_from_others, step_sizes
from dura_client.data.store.fingerprint import digest_of, points

BLOCK_SECONDS = 60.0
MARGIN_SECONDS = 2.0
"""On both sides of a block, for the filters of the sketch."""
SPECTRUM_SECONDS = 4.0
ALIKE = 0.9999
"""Correlation of two channels' differences beyond which they are copied or bridged."""
SPECTRA = 4
"""Segments of each block that the spectrum is averaged over."""
TOGETHER = (2.0, 20.0)
"""Hz: the band in which channels are held against one another."""
SLOW_SECONDS = 2.0
HELD_SECONDS = 0.5
"""All channels unchanged for so long is no signal."""
BINS = np.logspace(-2, 4, 61)
"""Edges of the histogram of amplitudes, millionths (microvolts, femtotesla)."""


@dataclass(frozen=True)
class Look:
    """What a recording's samples show. Arrays are by channel where not said otherwise."""

    amplitude: float
    """Median absolute value in millionths (microvolts, femtotesla), offsets removed; NaN if there is none."""
    broken: NDArray[np.int64]
    """Samples that are not numbers."""
    broken_moments: int
    """Samples at which a channel that is mostly whole is not a number."""
    clipped: NDArray[np.float64]
    """Share of samples at the channel's own highest or lowest value, in runs."""
    flat: NDArray[np.bool_]
    size: NDArray[np.float64]
    """Median absolute difference of neighbouring samples, in the unit that recordings are held in."""
    sorts: tuple[str, ...]
    """Of the channels."""
    alike: tuple[tuple[int, int, float], ...]
    """Pairs of channels whose differences of samples correlate almost perfectly, with the correlation."""
    correlation: NDArray[np.float64]
    """(channels, channels), in the band of :data:`TOGETHER`."""
    offset: NDArray[np.float64]
    """Median value of each channel in millionths."""
    usual: NDArray[np.float64]
    """Median absolute value of each channel in millionths, slow drifts removed."""
    highest: NDArray[np.float64]
    """The same of its largest value."""
    held: float
    """Seconds in which no channel changes."""
    frequencies: NDArray[np.float64]
    """Hz."""
    spectrum: NDArray[np.float64]
    """Median over channels of the power density at these frequencies, in millionths squared a hertz (uV^2/Hz)."""
    histogram: NDArray[np.int64]
    """Counts of absolute values between :data:`BINS`, a few thousand values in all."""
    digest: bytes
    """Of the exact samples; equal for exact copies."""
    sketch: NDArray[np.float32]
    """Envelopes by which a copy is known (streams, quarters of a second)."""

    @property
    def odd(self) -> NDArray[np.bool_]:
        """Channels that are flat or unlike the others of their sort: no study uses what they hold."""
        found: NDArray[np.bool_] = self.flat | far_from_others(self.size, self.sorts)
        return found


def look(opened: SignalRecording) -> Look:
    """Read a recording once."""
    tally = _Tally([channel.sort for channel in opened.channels], opened.rate)
    names = sorted(channel.name.lower() for channel in opened.channels)
    order = [[channel.name.lower() for channel in opened.channels].index(name) for name in names]
    rows, columns = points(len(names), opened.samples)
    picked = np.zeros(len(rows))
    sketcher = Sketcher([channel.name for channel in opened.channels], opened.rate)
    for begin, end, values, margin in blocks(opened):
        inner = values[:, margin[0] : values.shape[1] - margin[1]]
        tally.add(inner)
        here = (columns >= begin) & (columns < end)
        picked[here] = inner[np.take(order, rows[here]), columns[here] - begin]
        sketcher.add(np.where(np.isfinite(values), values, 0.0), margin, (end - begin) / opened.rate)
    return tally.result(digest_of(names, opened.samples, picked), sketcher.result())


def blocks(opened: SignalRecording) -> Iterator[tuple[int, int, NDArray[np.float64], tuple[int, int]]]:
    """Yield begin, end, samples with margins (channels, samples), and the margins' lengths, of each block."""
    size, margin = max(round(BLOCK_SECONDS * opened.rate), 1), round(MARGIN_SECONDS * opened.rate)
    for piece in opened.pieces:
        last = piece.first + piece.samples
        for begin in range(piece.first, last, size):
            end = min(begin + size, last)
            before, after = min(margin, begin - piece.first), min(margin, last - end)
            yield begin, end, opened.read(begin - before, end + after), (before, after)


def _slow(values: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return the mean of each stretch of :data:`SLOW_SECONDS` (channels, samples): offset and drift of an electrode."""
    width = max(round(SLOW_SECONDS * rate), 1)
    begins = np.arange(0, max(values.shape[1], 1), width)
    counts = np.diff([*begins, values.shape[1]])
    means = np.add.reduceat(values, begins, axis=1) / np.maximum(counts, 1) if values.shape[1] else values
    return np.repeat(means, counts, axis=1)


class _Tally:
    """Sums over blocks."""

    def __init__(self, sorts: Sequence[str], rate: float) -> None:
        channels = len(sorts)
        self.sorts = tuple(sorts)
        self.rate = rate
        self.samples = 0
        self.broken = np.zeros(channels, dtype=np.int64)
        self.broken_moments = 0
        self.extremes = np.tile(np.array([np.inf, -np.inf])[:, None], (1, channels))
        self.at_extremes = np.zeros((2, channels), dtype=np.int64)
        self.covariance = np.zeros((channels, channels))
        self.amplitudes: list[float] = []
        self.sizes: list[NDArray[np.float64]] = []
        self.cross = np.zeros((channels, channels))
        self.offsets: list[NDArray[np.float64]] = []
        self.usual: list[NDArray[np.float64]] = []
        self.highest = np.zeros(channels)
        self.held = 0.0
        self.spectra: list[NDArray[np.float64]] = []
        self.histogram = np.zeros(len(BINS) - 1, dtype=np.int64)

    def add(self, values: NDArray[np.float64]) -> None:
        """Count one block (channels, samples)."""
        finite = np.isfinite(values)
        if not finite.all():
            whole = finite.mean(axis=1) > 0.5  # noqa: PLR2004  # a channel that is mostly broken is lost as a whole
            self.broken += (~finite).sum(axis=1)
            self.broken_moments += int((~finite[whole]).any(axis=0).sum())
            values = np.where(finite, values, 0.0)
        self.samples += values.shape[1]
        self._extremes(values)
        self._held(values)
        steps = np.diff(values[:, : round(PART_SECONDS * self.rate)], axis=1)
        if steps.shape[1]:
            self.sizes.append(step_sizes(values, self.rate))
            self.covariance += steps @ steps.T
        thin = values[:, :: max(1, values.shape[1] // 512)]
        offset = np.median(thin, axis=1, keepdims=True)
        centred, thinned = (values - offset) * 1e6, np.abs(thin - offset) * 1e6
        level = np.abs(thin - _slow(values, self.rate)[:, :: max(1, values.shape[1] // 512)]) * 1e6
        self.amplitudes.append(float(np.median(level)))
        self.offsets.append(offset[:, 0] * 1e6)
        self.usual.append(np.median(level, axis=1))
        self.highest = np.maximum(self.highest, np.abs(centred).max(axis=1, initial=0.0))
        self.histogram += np.histogram(np.clip(thinned, BINS[0], BINS[-1] * 0.999), BINS)[0]
        self._spectra(centred)

    def _extremes(self, values: NDArray[np.float64]) -> None:
        """Count samples at each channel's highest and lowest value whose neighbour lies there too."""
        for row, (found, better) in enumerate(((values.min(axis=1), np.less), (values.max(axis=1), np.greater))):
            at = values == found[:, None]
            runs = (at[:, 1:] & at[:, :-1]).sum(axis=1)
            beyond, same = better(found, self.extremes[row]), found == self.extremes[row]
            self.at_extremes[row] = np.where(
                beyond, runs, np.where(same, self.at_extremes[row] + runs, self.at_extremes[row])
            )
            self.extremes[row] = np.where(beyond, found, self.extremes[row])

    def _held(self, values: NDArray[np.float64]) -> None:
        moving = np.flatnonzero((values[:, 1:] != values[:, :-1]).any(axis=0))
        edges = np.concatenate([[-1], moving, [values.shape[1] - 1]])
        runs = np.diff(edges) - 1
        self.held += float(runs[runs >= HELD_SECONDS * self.rate].sum()) / self.rate

    def _spectra(self, centred: NDArray[np.float64]) -> None:
        width = round(SPECTRUM_SECONDS * self.rate)
        count = min(SPECTRA, centred.shape[1] // width)
        window = np.hanning(width)
        axis = np.fft.rfftfreq(width, 1 / self.rate)
        inside = (axis >= TOGETHER[0]) & (axis <= TOGETHER[1])
        for number in range(count):
            begin = (centred.shape[1] - width) * number // max(count - 1, 1)
            waves = np.fft.rfft(centred[:, begin : begin + width] * window, axis=1)
            self.cross += (waves[:, inside] @ waves[:, inside].conj().T).real
            power = np.abs(waves) ** 2
            self.spectra.append(np.median(power, axis=0) / (self.rate * (window**2).sum()))

    def result(self, digest: bytes, sketch: NDArray[np.float32]) -> Look:
        """Return what was seen."""
        flat = (self.extremes[0] == self.extremes[1]) | ~np.isfinite(self.extremes[0])
        width = round(SPECTRUM_SECONDS * self.rate)
        channels = len(flat)
        return Look(
            amplitude=float(np.median(self.amplitudes)) if self.amplitudes else float("nan"),
            broken=self.broken,
            broken_moments=self.broken_moments,
            clipped=np.where(flat, 0.0, self.at_extremes.sum(axis=0) / max(self.samples, 1)),
            flat=flat,
            size=np.median(self.sizes, axis=0) if self.sizes else np.zeros(channels),
            sorts=self.sorts,
            alike=self._alike(),
            correlation=_correlation(self.cross),
            offset=np.median(self.offsets, axis=0) if self.offsets else np.zeros(channels),
            usual=np.median(self.usual, axis=0) if self.usual else np.zeros(channels),
            highest=self.highest,
            held=0.0 if flat.all() else self.held,
            frequencies=np.fft.rfftfreq(width, 1 / self.rate).astype(np.float64),
            spectrum=np.mean(self.spectra, axis=0) if self.spectra else np.zeros(width // 2 + 1),
            histogram=self.histogram,
            digest=digest,
            sketch=sketch,
        )

    def _alike(self) -> tuple[tuple[int, int, float], ...]:
        r = _correlation(self.covariance)
        pairs = np.argwhere(np.triu(np.abs(r) > ALIKE, 1))
        return tuple((int(a), int(b), float(r[a, b])) for a, b in pairs)


def _correlation(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return correlations; those of a channel that never changes are zero."""
    power = np.diag(covariance)
    scale = np.sqrt(np.where(power > 0, power, 1.0))
    found: NDArray[np.float64] = covariance / scale[:, None] / scale[None, :]
    return found

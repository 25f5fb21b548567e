"""A first look at a whole recording, block by block: what must be known before the first block can be filtered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.eeg.sensors.amplitude import amplitude_of
from dura_client.data.eeg.signals import far_from_others, step_sizes
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.store.fingerprint import digest_of, points

BLOCK_SECONDS = 60.0
AMPLITUDE_SECONDS = 60.0
MOST_MISSING = 0.5
"""Share of a channel's samples."""
HELD_BYTES = 64 << 20
"""A recording that takes less is read once."""


class Blocks:
    """A recording's samples (channels, samples) in the unit that it is held in; what is not a number is zero."""

    def __init__(self, opened: SignalRecording, block: int | None = None) -> None:
        self._opened = opened
        most = HELD_BYTES // (8 * max(len(opened.channels), 1))
        self.size = block or max(min(round(BLOCK_SECONDS * opened.rate), most), 1)
        small = len(opened.channels) * opened.samples * 8 <= HELD_BYTES
        self._all = opened.read(0, opened.samples) if small else None

    def raw(self, begin: int, end: int) -> NDArray[np.float64]:
        """Return samples as they are."""
        return self._opened.read(begin, end) if self._all is None else self._all[:, begin:end]

    def whole(self, begin: int, end: int) -> NDArray[np.float64]:
        """Return samples with zero where a value is not a number."""
        values = self.raw(begin, end)
        finite = np.isfinite(values)
        return values if finite.all() else np.where(finite, values, 0.0)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a study needs to know of a recording."""

    amplitude: float
    """Median absolute value in millionths (microvolts, femtotesla) over the first minute, offsets removed."""
    bad: frozenset[str]
    """Channels that are marked bad, lost, flat or unlike the others."""
    stretches: tuple[tuple[int, int], ...]
    """Begin and end, in samples, of what is whole: no gap inside, every value of a channel in use a number."""
    content: bytes
    """Plain digest of the study's channels."""


@declares(PrivacyClass.PER_PATIENT)
def survey(opened: SignalRecording, blocks: Blocks, channels: tuple[str, ...]) -> Survey:
    """Read a recording once.

    A channel of which more than :data:`MOST_MISSING` are not numbers is bad; elsewhere the moment is left out for all
    channels.

    Args:
        opened: the recording.
        blocks: its samples.
        channels: of the study, for the fingerprint; without any of them, all channels by name.
    """
    names = [channel.name for channel in opened.channels]
    lower = {name.lower(): index for index, name in enumerate(names)}
    wanted = [name.lower() for name in channels if name.lower() in lower] or sorted(lower)
    rows, columns = points(len(wanted), opened.samples)
    values, sizes = np.zeros(len(rows)), []
    broken: dict[int, NDArray[np.uint8]] = {}  # packed: of a recording full of gaps, bits are enough to hold
    missing = np.zeros(len(names), dtype=np.int64)
    for begin, end in _spans(opened, round(BLOCK_SECONDS * opened.rate)):
        raw = blocks.raw(begin, end)
        finite = np.isfinite(raw)
        if not finite.all():
            broken[begin], raw = np.packbits(~finite, axis=1), np.where(finite, raw, 0.0)
            missing += (~finite).sum(axis=1)
        here = (columns >= begin) & (columns < end)
        values[here] = raw[[lower[wanted[row]] for row in rows[here]], columns[here] - begin]
        if raw.shape[1] > 1:
            sizes.append(step_sizes(raw, opened.rate))
    lost = missing > MOST_MISSING * opened.samples
    declared = {channel.name for channel in opened.channels if channel.bad}
    declared |= {name for name, gone in zip(names, lost, strict=True) if gone}
    odd = (
        far_from_others(np.median(sizes, axis=0), [item.sort for item in opened.channels])
        if sizes
        else np.zeros(len(names), dtype=bool)
    )
    good = [index for index, name in enumerate(names) if name not in declared] or list(range(len(names)))
    first = blocks.whole(0, min(opened.samples, round(AMPLITUDE_SECONDS * opened.rate)))
    return Survey(
        amplitude=amplitude_of(first[good]),
        bad=frozenset(declared | {name for name, one in zip(names, odd, strict=True) if one}),
        stretches=_stretches(opened, {begin: _runs(bits[~lost], begin) for begin, bits in broken.items()}),
        content=digest_of(wanted, opened.samples, values),
    )


def _spans(opened: SignalRecording, size: int) -> list[tuple[int, int]]:
    """Return begin and end of blocks that cross no gap."""
    return [
        (begin, min(begin + max(size, 1), piece.first + piece.samples))
        for piece in opened.pieces
        for begin in range(piece.first, piece.first + piece.samples, max(size, 1))
    ]


def _runs(bits: NDArray[np.uint8], begin: int) -> list[int]:
    """Return begin and end, in turn, of the moments of a block at which any of some channels is not a number."""
    moments = np.unpackbits(np.bitwise_or.reduce(bits, axis=0)) if len(bits) else np.zeros(0, dtype=np.uint8)
    return [begin + int(at) for at in np.flatnonzero(np.diff(moments.astype(np.int8), prepend=0, append=0))]


def _stretches(opened: SignalRecording, broken: dict[int, list[int]]) -> tuple[tuple[int, int], ...]:
    """Return the parts of all pieces in which no moment is left out."""
    found = []
    for piece in opened.pieces:
        last = piece.first + piece.samples
        gone = [edge for begin, edges in broken.items() if piece.first <= begin < last for edge in edges]
        edges = [piece.first, *gone, last]
        found += [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if end > begin]
    return tuple(found)

"""A sketch of a recording by which a copy is known although it was cut, filtered, resampled, rescaled or re-referenced.

Differences of neighbouring channels do not depend on the reference; the logarithm of their power in three bands, four
times a second, does not depend on rate and unit once its mean is removed. The sketch is patient data: it is compared
inside the site and never stored or sent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BANDS = ((4.0, 8.0), (8.0, 13.0), (13.0, 24.0))
"""Hz."""
RATE = 64
"""Of the filtered signals, Hz."""
PER_SECOND = 4
SMOOTHING = np.hanning(PER_SECOND + 3)[1:-1]
"""About a second."""
FLOOR = 1e-30


class Sketcher:
    """Makes a sketch out of blocks that follow one another."""

    def __init__(self, names: Sequence[str], rate: float) -> None:
        self.rate = rate
        self.order = sorted(range(len(names)), key=lambda index: names[index])
        self.parts: list[NDArray[np.float64]] = []

    def add(self, values: NDArray[np.float64], margin: tuple[int, int], seconds: float) -> None:
        """Add a block (channels, samples) with its margins; ``seconds`` is its length without them."""
        ordered = values[self.order]
        signal = np.diff(ordered, axis=0) if len(ordered) > 1 else ordered
        bins = int(seconds * PER_SECOND)
        if not bins or self.rate < 2 * BANDS[-1][1]:
            return
        samples = signal.shape[1]
        width = round(samples / self.rate * RATE)
        spectrum = np.fft.rfft(_tapered(signal - signal.mean(axis=1, keepdims=True), margin), axis=1)
        frequencies = np.fft.rfftfreq(samples, 1 / self.rate)
        kept = min(width // 2 + 1, len(frequencies))
        first, step = round(margin[0] / self.rate * RATE), RATE // PER_SECOND
        power = []
        for low, high in BANDS:
            inside = spectrum[:, :kept] * ((frequencies[:kept] >= low) & (frequencies[:kept] < high))
            filtered = np.fft.irfft(inside, n=width, axis=1) * (width / samples)
            part = filtered[:, first : first + bins * step]
            short = bins * step - part.shape[1]
            part = np.pad(part, ((0, 0), (0, short)), mode="edge") if short > 0 else part
            power.append((part**2).reshape(len(part), bins, step).mean(axis=2))
        self.parts.append(np.concatenate(power))

    def result(self) -> NDArray[np.float32]:
        """Return the sketch (streams, quarters of a second)."""
        if not self.parts:
            return np.zeros((0, 0), dtype=np.float32)
        power = np.concatenate(self.parts, axis=1)
        if power.shape[1] < len(SMOOTHING):
            return np.zeros((0, 0), dtype=np.float32)
        smooth = np.apply_along_axis(lambda row: np.convolve(row, SMOOTHING / SMOOTHING.sum(), mode="valid"), 1, power)
        found: NDArray[np.float32] = np.log(smooth + FLOOR).astype(np.float32)
        return found


def _tapered(signal: NDArray[np.float64], margin: tuple[int, int]) -> NDArray[np.float64]:
    """Fade the margins in and out, so that the ends of a block do not ring."""
    window = np.ones(signal.shape[1])
    for size, edge in ((margin[0], slice(0, margin[0])), (margin[1], slice(signal.shape[1] - margin[1], None))):
        if size:
            ramp = np.hanning(2 * size)[:size]
            window[edge] = ramp if edge.start == 0 else ramp[::-1]
    return signal * window

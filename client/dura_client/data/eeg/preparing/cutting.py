"""Windows out of a signal that comes in blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.study import SignalContract


@dataclass(frozen=True, slots=True)
class Window:
    """Where one window lies."""

    begin: int
    """Sample at the study's rate from the begin of the stretch."""
    label: int
    """Index into the study's classes."""


@declares(PrivacyClass.PER_PATIENT)
def cut(
    events: Sequence[tuple[int, str]], contract: SignalContract, rate: float, stretch: tuple[int, int]
) -> tuple[Window, ...]:
    """Return the windows around the events of the study's classes that lie whole in one stretch, in order of time.

    Args:
        events: sample at the recording's own rate, and class.
        contract: what the study asks for.
        rate: of the recording, Hz.
        stretch: begin and end at the recording's rate; a window belongs to the stretch of its event.
    """
    first, last = stretch
    samples = -(-(last - first) * contract.sampling_rate // rate)
    windows = []
    for at, name in events:
        begin = round(((at - first) / rate + contract.window_start) * contract.sampling_rate)
        inside = first <= at < last and begin >= 0 and begin + contract.window_samples <= samples
        if name in contract.classes and inside:
            windows.append(Window(begin, contract.classes.index(name)))
    return tuple(sorted(windows, key=lambda window: window.begin))


class Cutter:
    """Cuts the windows of one stretch out of blocks (channels, samples) at the study's rate."""

    def __init__(self, windows: Sequence[Window], length: int) -> None:
        self._windows = list(windows)
        self._length = length
        self._held: NDArray[np.float64] | None = None
        self._begin = 0
        """Index of the first held sample."""

    def push(self, block: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Take the next block and yield the windows (channels, samples) that end in it."""
        held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        end = self._begin + held.shape[1]
        done = 0
        for window in self._windows:
            if window.begin + self._length > end:
                break
            yield held[:, window.begin - self._begin : window.begin - self._begin + self._length]
            done += 1
        del self._windows[:done]
        oldest = min(self._windows[0].begin, end) if self._windows else end
        self._held, self._begin = held[:, oldest - self._begin :].copy(), oldest

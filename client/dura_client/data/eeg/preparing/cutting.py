"""From a recording's marks and the study's rules to the places, labels and samples of its windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.sources.answers import Answers
from dura_client.data.sources.cuts import EVEN, Places, Span, places, without
from dura_client.data.sources.leaving_out import Broken, broken_rules
from dura_common.study import SignalContract

NOWHERE = Places((), (), 0)


@dataclass(frozen=True, slots=True)
class Planned:
    """Which windows a recording gives to a study."""

    begins: tuple[int, ...]
    """In samples at the study's rate."""
    labels: NDArray[Any]
    """(windows,), int64 classes or float32 values."""
    broken: Broken
    """Rules of the study that the recording breaks; it then has no window."""
    lost: int
    """Windows that would have crossed a gap, a BAD mark or a moment without values."""


def plan_windows(
    opened: SignalRecording,
    dataset: DataSet,
    contract: SignalContract,
    answers: Answers | None,
    *,
    stretches: Sequence[Span],
    interpolated: float,
) -> Planned:
    """Return where the windows of a recording begin and what each is labelled.

    Sensors of MEG are not interpolated: a recording that lacks one of the study's has no window.

    Args:
        opened: the recording.
        dataset: its registration.
        contract: what the study asks for.
        answers: of the tables, for a label that stands in one.
        stretches: parts without a gap in which every value is a number, at the recording's rate.
        interpolated: share of the study's channels that are absent or bad.
    """
    marks = opened.marked(dataset)
    whole = without(stretches, opened.bad_spans)
    found = places(contract, marks, rate=opened.rate, samples=opened.samples, stretches=whole)
    filled = interpolated if contract.source == "eeg" else 0.0
    broken = broken_rules(contract.leave_out, interpolated=filled, rejected=found.rejected, seconds=opened.seconds)
    if interpolated > filled:
        broken |= Broken.SENSORS
    answer: float | None = None
    if answers is not None:
        answer = answers.of(opened.recording.subject, opened.recording.entities.get("ses"))
        broken |= Broken(0) if answer is not None else Broken.ANSWER
    kept = NOWHERE if broken else found
    kind = np.int64 if contract.target == "class" else np.float32
    labels = np.array(kept.classes if answers is None else [answer] * len(kept.begins), dtype=kind)
    return Planned(kept.begins, labels, broken, found.lost)


@declares(PrivacyClass.PER_PATIENT)
def cut(begins: Sequence[int], contract: SignalContract, rate: float, stretch: Span) -> tuple[int, ...]:
    """Return where the windows of one stretch begin, in samples at the study's rate from the begin of the stretch.

    Args:
        begins: of all windows of the recording, in samples at the study's rate from its first sample, in order.
        contract: what the study asks for.
        rate: of the recording, Hz.
        stretch: begin and end at the recording's rate; windows lie whole in it, but for half a sample of rounding.
    """
    ratio = contract.sampling_rate / rate
    first, last = stretch[0] * ratio, stretch[1] * ratio
    latest = int(np.ceil(last - first - EVEN)) - contract.window_samples
    return tuple(
        min(max(round(begin - first), 0), latest)
        for begin in begins
        if first - 0.5 < begin and begin + contract.window_samples <= last + 0.5 and latest >= 0
    )


class Cutter:
    """Cuts the windows of one stretch out of blocks (channels, samples) at the study's rate."""

    def __init__(self, begins: Sequence[int], length: int) -> None:
        self._begins = list(begins)
        self._length = length
        self._held: NDArray[np.float64] | None = None
        self._begin = 0
        """Index of the first held sample."""

    def push(self, block: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Take the next block and yield the windows (channels, samples) that end in it."""
        held = block if self._held is None else np.concatenate([self._held, block], axis=1)
        end = self._begin + held.shape[1]
        done = 0
        for begin in self._begins:
            if begin + self._length > end:
                break
            yield held[:, begin - self._begin : begin - self._begin + self._length]
            done += 1
        del self._begins[:done]
        oldest = min(self._begins[0], end) if self._begins else end
        self._held, self._begin = held[:, oldest - self._begin :].copy(), oldest

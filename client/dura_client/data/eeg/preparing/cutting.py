"""From a recording's marks and the study's rules to the places, labels and samples of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.recording import EegRecording
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.sources.answers import Answers
from dura_client.data.sources.cuts import Places, Span, places, without
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
    opened: EegRecording,
    dataset: DataSet,
    contract: SignalContract,
    answers: Answers | None,
    *,
    stretches: Sequence[Span],
    interpolated: float,
) -> Planned:
    """Return where the windows of a recording begin and what each is labelled.

    Args:
        opened: the recording.
        dataset: its registration.
        contract: what the study asks for.
        answers: of the tables, for a label that stands in one.
        stretches: parts without a gap in which every value is a number, at the recording's rate.
        interpolated: share of the study's channels that are interpolated.
    """
    marks = opened.marked(dataset)
    whole = without(stretches, opened.bad_spans)
    found = places(contract, marks, rate=opened.rate, samples=opened.samples, stretches=whole)
    broken = broken_rules(
        contract.leave_out, interpolated=interpolated, rejected=found.rejected, seconds=opened.seconds
    )
    answer: float | None = None
    if answers is not None:
        answer = answers.of(opened.recording.subject, opened.recording.entities.get("ses"))
        broken |= Broken(0) if answer is not None else Broken.ANSWER
    kept = NOWHERE if broken else found
    kind = np.int64 if contract.target == "class" else np.float32
    labels = np.array(kept.classes if answers is None else [answer] * len(kept.begins), dtype=kind)
    return Planned(kept.begins, labels, broken, found.lost)


@declares(PrivacyClass.PER_PATIENT)
def cut(signal: NDArray[np.float64], begins: Sequence[int], contract: SignalContract) -> NDArray[np.float64]:
    """Return windows (windows, channels, samples) of a signal (channels, samples) at the study's rate."""
    length = contract.window_samples
    windows = [signal[:, begin : begin + length] for begin in begins if begin + length <= signal.shape[1]]
    return np.stack(windows) if windows else np.zeros((0, len(contract.channels), length))

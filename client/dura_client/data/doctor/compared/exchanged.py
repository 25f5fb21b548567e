"""Channels whose names were exchanged in one recording, by how the data set's other recordings correlate.

A place on the head correlates with the others in its own way, and much alike in all people who were recorded against
the same reference. Where two channels of a recording behave as each other do elsewhere, and neither as itself, two
plugs or two lines of a table were exchanged. Nothing is said where the recordings do not resemble each other, or where
two places are so near that it could be chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dura_client.data.doctor.look import Look
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.findings.finding import Finding, found, listed

FEWEST_OTHERS = 3
"""Recordings of other patients that a recording is held against."""
FEWEST_CHANNELS = 8
RESEMBLING = 0.7
"""Correlation, median over channels, of a recording's pattern with that of the others, below which nothing is said."""
LIKE_THE_OTHER = 0.8
"""Correlation of a channel's pattern with that of the channel it was exchanged with."""
BETTER = 0.6
"""By how much, for each of the two, that correlation exceeds the one with its own pattern."""


def exchanged(opened: Sequence[SignalRecording], looks: Sequence[Look]) -> list[Finding]:
    """Return a finding for each recording in which two channels look exchanged."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, item in enumerate(opened):
        if item.measure.source == "eeg":
            groups[tuple(sorted(channel.name.lower() for channel in item.channels))].append(number)
    findings = []
    for names, numbers in groups.items():
        if len(names) < FEWEST_CHANNELS or len(set(names)) < len(names):
            continue
        orders = {number: _order(opened[number]) for number in numbers}
        patterns = {number: _pattern(looks[number], order) for number, order in orders.items()}
        for number, usual in _usual(opened, patterns).items():
            usable = ~looks[number].odd[orders[number]]
            own = _own(patterns[number], usual)
            if not usable.any() or np.median(own[usable]) < RESEMBLING:
                continue
            place, shown = opened[number].place, [opened[number].channels[index].name for index in orders[number]]
            inverted = np.flatnonzero(usable & (own < -LIKE_THE_OTHER)).tolist()
            if inverted:
                names_of = listed(shown[index] for index in inverted)
                cause = f"{names_of}: upside down against the other channels, as the other recordings have them"
                findings.append(found("CH-POL", place, cause))
            pairs = _pairs(patterns[number], usual, np.flatnonzero(usable).tolist())
            findings += [_finding(place, shown[one], shown[other]) for one, other in pairs]
    return findings


def _usual(
    opened: Sequence[SignalRecording], patterns: Mapping[int, NDArray[np.float64]]
) -> dict[int, NDArray[np.float64]]:
    """Return the mean pattern of the recordings of other patients, for each recording that has enough of them."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number in patterns:
        groups[opened[number].recording.subject].append(number)
    total = np.sum(list(patterns.values()), axis=0)
    usual: dict[int, NDArray[np.float64]] = {}
    for numbers in groups.values():
        count = len(patterns) - len(numbers)
        if count >= FEWEST_OTHERS:
            mean = (total - np.sum([patterns[number] for number in numbers], axis=0)) / count
            usual |= dict.fromkeys(numbers, mean)
    return usual


def _finding(place: str, one: str, other: str) -> Finding:
    cause = f"{one} goes with the other channels as {other} does in the other recordings, and {other} as {one} does"
    return found("CH-SWAP", place, cause)


def _order(item: SignalRecording) -> NDArray[np.int64]:
    return np.argsort([channel.name.lower() for channel in item.channels])


def _pattern(seen: Look, order: NDArray[np.int64]) -> NDArray[np.float64]:
    pattern: NDArray[np.float64] = np.arctanh(np.clip(seen.correlation, -0.99, 0.99))[np.ix_(order, order)]
    return pattern


def _own(mine: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much each channel's pattern (channels,) is as it is in the other recordings."""
    return np.array([_alike(mine[k], usual[k], (k,)) for k in range(len(mine))])


def _pairs(mine: NDArray[np.float64], usual: NDArray[np.float64], usable: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of channels of one recording that look exchanged, each channel in one pair at most.

    Args:
        mine: (channels, channels), how the recording's channels go together.
        usual: the same of the other recordings.
        usable: the channels that hold a signal.
    """
    candidates = []
    for one, other in combinations(usable, 2):
        crossed = min(_alike(mine[one], usual[other], (one, other)), _alike(mine[other], usual[one], (one, other)))
        if crossed < LIKE_THE_OTHER:
            continue
        itself = max(_alike(mine[one], usual[one], (one, other)), _alike(mine[other], usual[other], (one, other)))
        if crossed - itself > BETTER:
            candidates.append((crossed - itself, one, other))
    taken: set[int] = set()
    pairs = []
    for _, one, other in sorted(candidates, reverse=True):
        if not {one, other} & taken:
            taken |= {one, other}
            pairs.append((one, other))
    return pairs


def _alike(mine: NDArray[np.float64], usual: NDArray[np.float64], without: tuple[int, ...]) -> float:
    a, b = np.delete(mine, without), np.delete(usual, without)
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else 0.0

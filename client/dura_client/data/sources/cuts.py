"""Where the windows of a recording begin, and what each is labelled: around events, or one after the other.

Nothing here reads a sample. A window never crosses a gap, a BAD mark or a moment whose values are not numbers; windows
that would are counted as lost. Positions are samples of the recorded time, gaps left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.study import SignalContract

Span = tuple[int, int]
"""Begin and end, in samples."""
EVEN = 1e-6
"""Of a sample: what rounding may take from the end of a stretch."""


@dataclass(frozen=True, slots=True)
class Marked:
    """An event or an annotated stretch of a recording."""

    begin: int
    """In samples of the recording."""
    end: int
    """Equal to ``begin`` for a mark without a duration."""
    name: str
    """Class name, after the site's mapping."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the windows of one recording begin."""

    begins: tuple[int, ...]
    """In samples at the study's rate, in order of time."""
    classes: tuple[int, ...]
    """Of each window, the index of its event's or annotation's class; -1 where the label stands in a column."""
    lost: int
    """Windows that would cross a gap, a BAD mark or a moment without values."""

    @property
    def rejected(self) -> float:
        """Share of the windows that were lost; 0 if there were none at all."""
        wanted = len(self.begins) + self.lost
        return self.lost / wanted if wanted else 0.0


@declares(PrivacyClass.PER_PATIENT)
def places(
    contract: SignalContract, marks: Sequence[Marked], *, rate: float, samples: int, stretches: Sequence[Span]
) -> Places:
    """Return where the windows of one recording begin.

    Args:
        contract: what the study asks for.
        marks: events and annotated stretches with the class names of the study.
        rate: of the recording, Hz.
        samples: length of the recording.
        stretches: parts that are whole (no gap, no BAD mark, every value a number), in order, at the recording's rate.
    """
    ratio = contract.sampling_rate / rate
    whole = [(begin * ratio, end * ratio) for begin, end in stretches]
    if contract.cut == "events":
        wanted = list(_around(contract, marks, ratio))
    else:
        wanted = list(_along(contract, marks, ratio, samples * ratio))
    length = contract.window_samples
    total = round(samples * ratio)
    kept, lost = [], 0
    for begin, index, at in wanted:
        inside = any(
            first - 0.5 < begin and begin + length <= last + 0.5 and first - 0.5 <= at < last + 0.5
            for first, last in whole
        )
        if inside and begin >= 0 and begin + length <= total:
            kept.append((begin, index))
        else:
            lost += 1
    kept = _thinned(sorted(set(kept)), contract.most_per_class)
    return Places(tuple(begin for begin, _ in kept), tuple(index for _, index in kept), lost)


def _around(contract: SignalContract, marks: Sequence[Marked], ratio: float) -> Iterator[tuple[int, int, float]]:
    """Yield begin, class and event of a window for each event of the study."""
    offset = contract.window_start * contract.sampling_rate
    names = contract.within or contract.classes
    for mark in marks:
        if mark.name in names:
            index = -1 if contract.within else contract.classes.index(mark.name)
            at = mark.begin * ratio
            yield round(at + offset), index, at


def _along(
    contract: SignalContract, marks: Sequence[Marked], ratio: float, total: float
) -> Iterator[tuple[int, int, float]]:
    """Yield begin, class and place of consecutive windows, from the beginning of each stretch that a label covers."""
    length = contract.window_samples
    step = (contract.window_step or contract.window_length) * contract.sampling_rate
    for begin, end, index in _labelled(contract, marks, round(total / ratio)):
        count = int(np.floor(((end - begin) * ratio - length) / step + EVEN)) + 1
        for number in range(max(count, 0)):
            at = begin * ratio + number * step
            yield round(at), index, at


def _labelled(contract: SignalContract, marks: Sequence[Marked], samples: int) -> list[tuple[int, int, int]]:
    """Return stretches with their class: neighbours of one class joined, what two classes claim left out."""
    if contract.label != "annotation":
        if not contract.within:
            return [(0, samples, -1)]
        return [(begin, end, -1) for begin, end in joined([m for m in marks if m.name in contract.within], samples)]
    spans = {
        index: joined([mark for mark in marks if mark.name == name], samples)
        for index, name in enumerate(contract.classes)
        if name != contract.background
    }
    everything = [(begin, end, index) for index, some in spans.items() for begin, end in some]
    found = []
    for index, some in spans.items():
        others = [(begin, end) for begin, end, other in everything if other != index]
        found += [(begin, end, index) for begin, end in without(some, others)]
    if contract.background is not None:
        rest = without([(0, samples)], [(begin, end) for begin, end, _ in everything])
        found += [(begin, end, contract.classes.index(contract.background)) for begin, end in rest]
    return sorted(found)


def joined(marks: Sequence[Marked], samples: int) -> list[Span]:
    """Return the stretches that marks cover, those that touch or overlap joined, cut at the ends of the recording."""
    found: list[Span] = []
    for begin, end in sorted((max(mark.begin, 0), min(mark.end, samples)) for mark in marks if mark.end > mark.begin):
        if found and begin <= found[-1][1] + 1:  # two stretches that meet, but for rounding
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif end > begin:
            found.append((begin, end))
    return found


def without(stretches: Sequence[Span], spans: Sequence[Span]) -> list[Span]:
    """Return what is left of stretches without some spans; a span without length parts a stretch in two."""
    left = list(stretches)
    for first, last in sorted(spans):
        parts: list[Span] = []
        for begin, end in left:
            if last < begin or first > end or (first == last and first in {begin, end}):
                parts.append((begin, end))
                continue
            parts += [(begin, min(first, end))] if first > begin else []
            parts += [(max(last, begin), end)] if last < end else []
        left = parts
    return sorted(left)


def _thinned(kept: list[tuple[int, int]], most: int | None) -> list[tuple[int, int]]:
    """Return at most so many windows of each class, spread evenly over time."""
    if most is None:
        return kept
    groups: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for item in kept:
        groups[item[1]].append(item)
    chosen = []
    for group in groups.values():
        picks = np.unique(np.linspace(0, len(group) - 1, min(most, len(group))).round().astype(int))
        chosen += [group[pick] for pick in picks]
    return sorted(chosen)

"""Says what is in a data set and what is wrong with it, for the data manager's own eyes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import (
    PLAUSIBLE_MICROVOLTS,
    Recording,
    amplitude,
    codes,
    find_recordings,
    read,
    suggest_scale,
)
from dura_client.data.fingerprint import content_digest
from dura_common.errors import InputError


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a data set holds. Counts are live values: they stay at the site."""

    patients: int
    recordings: int
    readable: int
    events: dict[str, int]
    """Class name (or unmapped code) to number of events."""
    channels: dict[str, int]
    """Channel to number of recordings that have it."""
    rates: dict[float, int]
    line_frequencies: dict[str, int]
    faults: tuple[str, ...]


def diagnose(dataset: DataSet, progress: Callable[[int, int], None] | None = None) -> Diagnosis:
    """Read every recording once and gather what a study would meet.

    Raises:
        InputError: the data set has no recordings at all.
    """
    recordings = find_recordings(dataset)
    events: Counter[str] = Counter()
    channels: Counter[str] = Counter()
    rates: Counter[float] = Counter()
    lines: Counter[str] = Counter()
    scales: Counter[float] = Counter()
    faults: list[str] = []
    readable = 0
    contents: dict[bytes, Recording] = {}
    for done, recording in enumerate(recordings, start=1):
        place = recording.path.relative_to(dataset.root)
        try:
            raw = read(dataset, recording)
        except InputError as error:
            faults.append(f"{place}: {error.message}")
        else:
            readable += 1
            channels.update(raw.ch_names)
            rates[float(raw.info["sfreq"])] += 1
            lines[f"{raw.info['line_freq']:g}" if raw.info["line_freq"] else "not declared"] += 1
            found = codes(raw)
            events.update(dataset.class_of(code) for _, code in found)
            seen = amplitude(raw)
            if not found:
                faults.append(f"the recording {place} has no event")
            if not np.isfinite(seen) or seen == 0:
                faults.append(f"the recording {place} holds no signal")
            elif not PLAUSIBLE_MICROVOLTS[0] <= seen <= PLAUSIBLE_MICROVOLTS[1]:
                scales[suggest_scale(seen) * dataset.scale] += 1
            else:
                twin = contents.setdefault(content_digest(raw), recording)
                if twin is not recording:
                    faults.append(_held_twice(dataset, twin, recording))
        if progress is not None:
            progress(done, len(recordings))
    faults += [
        f"{count} of {readable} recordings have a wrong unit; register the data set with --scale {scale:g}"
        for scale, count in scales.items()
    ]
    return Diagnosis(
        patients=len({item.subject for item in recordings}),
        recordings=len(recordings),
        readable=readable,
        events=dict(events.most_common()),
        channels=dict(channels.most_common()),
        rates=dict(rates),
        line_frequencies=dict(lines),
        faults=tuple(faults),
    )


def _held_twice(dataset: DataSet, first: Recording, second: Recording) -> str:
    """Say what two copies of one recording mean, and what to do."""
    places = [item.path.relative_to(dataset.root) for item in (first, second)]
    found = f"{places[1]} holds the same samples as {places[0]}"
    if first.subject == second.subject:
        return f"{found}: one recording of one patient counts double; move one of the two out of the folder"
    return (
        f"{found}: one person counts as two patients, and studies with noise are refused; find out whose recording it "
        "is, move the other copy out of the folder, and if both patients are one person, file them under one label"
    )

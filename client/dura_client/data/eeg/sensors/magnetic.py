"""Which channels of a recording are magnetometers and gradiometers that a study can use, and what is odd about them.

The recording's own header says what a sensor is; channels.tsv can only take it out. Names lose their blanks (``MEG
0113`` is MEG0113) and the number of the system that CTF writes behind them (``MLC11-2908`` is MLC11).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dura_client.data.eeg.channels import Channel, Chosen, unique
from dura_client.data.eeg.declared import Declared
from dura_client.data.eeg.sensors.amplitude import HELD
from dura_client.data.findings.finding import counted, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import Note, Signal, Source, Unreadable

SENSORS = {"MEGMAG", "MEGGRADAXIAL", "MEGGRADPLANAR"}
REFERENCES = "MEGREFMAG"
ALSO = {"MEG", *SENSORS}
"""What channels.tsv may call a sensor."""
_SYSTEM = re.compile(r"(?<=\d)-\d{2,5}$")


def name_of(label: str) -> str:
    """Return the name of a sensor as studies write it."""
    return _SYSTEM.sub("", re.sub(r"\s+", "", label))


def choose_magnetic(source: Source, declared: Declared) -> Chosen:
    """Return the sensors to use.

    Raises:
        Unreadable: there is none, and why.
    """
    signals = source.signals
    notes: list[Note] = list(declared.notes)
    there = [index for index, signal in enumerate(signals) if signal.kind in SENSORS]
    if not there:
        kinds = sorted({signal.kind or "of no known type" for signal in signals})
        raise Unreadable("CH-NONE", f"it has no MEG sensor: its {len(signals)} channels are {listed(kinds)}")
    usable = [index for index in there if declared.kind_of(signals[index].label) in {"", *ALSO}]
    if len(usable) < len(there):
        apart = _names(signals, [index for index in there if index not in usable])
        notes.append(Note("CH-TYPE", f"{apart}: sensors by the recording, something else by channels.tsv; not used"))
    unknown = [index for index in usable if signals[index].unit not in HELD]
    if unknown:
        units = listed(sorted({signals[index].unit or "(empty)" for index in unknown}))
        notes.append(Note("CH-UNIT", f"{_names(signals, unknown)}: the unit is written {units}", grade=Grade.LOSES))
    usable = [index for index in usable if index not in unknown]
    channels = [_channel(index, signals[index], declared) for index in usable]
    rate = signals[there[0]].rate
    kept = unique(source, channels, rate, notes)
    if not kept:
        raise Unreadable("CH-NONE", f"none of its {counted(len(there), 'sensor')} can be used")
    notes += _said(kept, signals, declared)
    return Chosen(tuple(kept), rate, tuple(notes))


def _channel(index: int, signal: Signal, declared: Declared) -> Channel:
    return Channel(
        index=index,
        label=signal.label,
        name=name_of(signal.label),
        on_scalp=True,
        bad=signal.bad or declared.is_bad(signal.label),
        sort=signal.kind,
        held=HELD[signal.unit],
    )


def _said(kept: Sequence[Channel], signals: Sequence[Signal], declared: Declared) -> list[Note]:
    notes = []
    renamed = [channel for channel in kept if channel.label != channel.name]
    if renamed:
        pairs = listed(f"{channel.label} as {channel.name}" for channel in renamed)
        notes.append(Note("CH-ALIAS", f"{counted(len(renamed), 'name')}: {pairs}"))
    bad = [channel for channel in kept if channel.bad]
    if bad:
        notes.append(Note("CH-BAD", f"{counted(len(bad), 'sensor')}: {listed(channel.name for channel in bad)}"))
    unsaid = [channel for channel in bad if not declared.is_bad(channel.label)]
    if unsaid and declared.kinds:
        names = listed(channel.name for channel in unsaid)
        notes.append(Note("CH-TYPE", f"{names}: bad by the recording, not by channels.tsv; taken as bad"))
    references = sum(signal.kind == REFERENCES for signal in signals)
    if references:
        notes.append(Note("MEG-STATE", f"reference sensors are not used ({references})"))
    return notes


def _names(signals: Sequence[Signal], indices: Sequence[int]) -> str:
    return listed(signals[index].label for index in indices)

"""Which channels of a clinic's recording become which electrodes, by the mapping file, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import mne
import numpy as np

from dura_client.data.eeg.names import Site, canonical, interpret, scalp
from dura_client.data.findings.finding import listed
from dura_client.data.findings.grade import Grade
from dura_client.data.importing.mapping import Mapping
from dura_client.data.recordings.source import UNITS, Note, Signal, Source, Unreadable

NEAREST_DEGREES = 9.0
"""How far from an electrode of the 10-05 system a place of a cap may lie, seen from the middle of the head."""


@dataclass(frozen=True, slots=True)
class Electrode:
    """One channel to write."""

    index: int
    """In the source."""
    name: str
    factor: float
    """From what the source gives to volts."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """All of them, at one rate."""

    electrodes: tuple[Electrode, ...]
    rate: float
    notes: tuple[Note, ...]


def choose(source: Source, mapping: Mapping, scale: float) -> Chosen:
    """Return the channels that the mapping names.

    Raises:
        Unreadable: none of them can be used, and why.
    """
    signals = source.signals
    notes: list[Note] = []
    wanted = _wanted(signals, mapping, notes)
    if not wanted:
        raise _nothing(signals)
    electrodes = _usable(signals, wanted, mapping, scale, notes)
    if not electrodes:
        raise Unreadable(notes[-1].code, f"no channel can be used: {notes[-1].cause}")
    rate = Counter(signals[item.index].rate for item in electrodes).most_common(1)[0][0]
    apart = [item for item in electrodes if signals[item.index].rate != rate]
    if apart:
        lost = listed(signals[item.index].label for item in apart)
        notes.append(Note("RATE-MIX", f"the EEG has {rate:g} Hz; left out at other rates: {lost}", grade=Grade.LOSES))
    kept = [item for item in electrodes if item not in apart]
    names = Counter(item.name for item in kept)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        notes.append(Note("CH-DUP", f"several channels are {listed(twice)}; all of these are left out"))
    kept = [item for item in kept if names[item.name] == 1]
    if not kept:
        raise Unreadable("CH-DUP", "every channel shares its name with another one")
    return Chosen(tuple(kept), rate, tuple(notes))


def _wanted(signals: Sequence[Signal], mapping: Mapping, notes: list[Note]) -> dict[int, str]:
    """Return the electrode of each channel that the mapping names."""
    places = cap_names(mapping.cap) if mapping.cap else {}
    wanted: dict[int, str] = {}
    unknown = []
    meanings = interpret([signal.label for signal in signals])
    for index, (signal, meaning) in enumerate(zip(signals, meanings, strict=True)):
        label = signal.label.strip()
        name = places.get(label, mapping.channels.get(label))
        if name and label not in places and meaning.site is Site.CAP and name == canonical(label):
            raise _nothing(signals)  # C3 is the third place of the third bundle here, and no electrode
        if name is None:
            unknown.append(label)
        elif name:
            wanted[index] = canonical(name)
    if unknown:
        notes.append(Note("CH-NAME", f"the mapping has no line for {listed(unknown)}; they are left out"))
    return wanted


def _nothing(signals: Sequence[Signal]) -> Unreadable:
    """Say why a recording has no electrode: what its labels are instead."""
    names = interpret([signal.label for signal in signals])
    labels = listed(signal.label for signal in signals)
    counts = Counter(name.site for name in names)
    for site, code, what in (
        (Site.PAIR, "CH-BIP", "pairs of electrodes: {n} of {all} channels ({labels}) are differences of two"),
        (Site.CAP, "CH-ABC", "places of a cap whose layout is not declared ({labels})"),
        (Site.INSIDE, "CH-IEEG", "contacts inside the head ({labels})"),
    ):
        if counts[site]:
            return Unreadable(code, "its channels are " + what.format(n=counts[site], all=len(names), labels=labels))
    return Unreadable("CH-NAME", f"the mapping names no electrode among its channels: {labels}")


def _usable(
    signals: Sequence[Signal], wanted: dict[int, str], mapping: Mapping, scale: float, notes: list[Note]
) -> list[Electrode]:
    electrodes, uncalibrated, unitless, strange = [], [], [], []
    for index, name in wanted.items():
        signal = signals[index]
        meant = mapping.units.get(signal.unit, signal.unit)
        if signal.fault:
            uncalibrated.append(signal.label)
        elif signal.volts is None and meant not in UNITS:
            unitless.append(signal.label)
        elif name.lower() not in scalp():
            strange.append(name)
        else:
            factor = 1.0 if signal.volts is not None else UNITS[meant]
            electrodes.append(Electrode(index, name, factor * scale))
    if strange:
        notes.append(Note("CH-NAME", f"no electrodes of the 10-05 system: {listed(strange)}; they are left out"))
    if unitless:
        units = listed(sorted({signals[index].unit or "(empty)" for index in wanted if signals[index].volts is None}))
        notes.append(
            Note(
                "CH-UNIT",
                f"{listed(unitless)}: the unit is written {units}",
                "Say in the table [units] of the mapping file what it means.",
            )
        )
    if uncalibrated:
        notes.append(Note("CH-CAL", f"{listed(uncalibrated)}; they are left out"))
    return electrodes


@cache
def cap_names(cap: str) -> dict[str, str]:
    """Return the electrode of the 10-05 system nearest to each place of a cap, each electrode once.

    Raises:
        Unreadable: nobody knows the cap.
    """
    try:
        places = mne.channels.make_standard_montage(cap).get_positions()["ch_pos"]
    except ValueError as error:
        raise Unreadable("CH-ABC", f"the mapping names the cap {cap!r}, which is not known") from error
    electrodes = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    names = [name for name in scalp().values() if name in electrodes]
    there = _directions(np.array([electrodes[name] for name in names]))
    here = _directions(np.array(list(places.values())))
    angles = np.degrees(np.arccos(np.clip(here @ there.T, -1.0, 1.0)))
    best: dict[str, tuple[float, str]] = {}
    for place, row in zip(places, angles, strict=True):
        nearest = int(np.argmin(row))
        name, angle = names[nearest], float(row[nearest])
        if angle <= NEAREST_DEGREES and angle < best.get(name, (np.inf, ""))[0]:
            best[name] = (angle, place)
    chosen = {place: name for name, (_, place) in best.items()}
    return {place: chosen.get(place, "") for place in places}


def _directions(
    positions: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return directions from the middle of the sphere that fits the positions best."""
    system = np.hstack([2 * positions, np.ones((len(positions), 1))])
    middle = np.linalg.lstsq(system, (positions**2).sum(axis=1), rcond=None)[0][:3]
    centred = positions - middle
    directions: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = centred / np.linalg.norm(
        centred, axis=1, keepdims=True
    )
    return directions

"""Which channels of a recording are EEG that a study can use: by channels.tsv, by the file, by name; and what is odd.

The recording's own header gives units and rates. channels.tsv gives types and bad channels, matched by name whatever
its order. Everything that is not used is named with the reason.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dura_client.data.eeg.declared import Declared
from dura_client.data.eeg.names import Name, Site, interpret
from dura_client.data.findings.finding import listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import Note, Signal, Source, Unreadable, length

ODD_RATE = 1e-6
COMPARED_SECONDS = 20.0
"""Of two channels of one name; from the beginning."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel that can be used."""

    index: int
    """In the source."""
    label: str
    """As the file has it."""
    name: str
    """In the 10-05 system, or as written if the system does not know it; of MEG, without blanks."""
    on_scalp: bool
    """Whether the name has a position on the scalp; of MEG, always."""
    bad: bool
    """Marked bad in channels.tsv or, of MEG, in the recording."""
    sort: str = "EEG"
    """BIDS type: only channels of one sort can be compared in size."""
    held: float = 1.0
    """Factor from what the source gives to the unit that recordings are held in."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The channels of a recording."""

    channels: tuple[Channel, ...]
    rate: float
    notes: tuple[Note, ...]


def choose(source: Source, declared: Declared) -> Chosen:
    """Return the channels to use.

    Raises:
        Unreadable: there is none, and why.
    """
    signals = source.signals
    names = interpret([signal.label for signal in signals])
    notes: list[Note] = list(declared.notes)
    kinds = [_kind(signal, name, declared) for signal, name in zip(signals, names, strict=True)]
    candidates = [index for index, kind in enumerate(kinds) if kind == "EEG"]
    usable = _usable(signals, names, candidates, notes)
    _refuse_if_none(signals, names, kinds, candidates, usable, notes)
    rate = Counter(signals[index].rate for index in usable).most_common(1)[0][0]
    usable = _of_rate(signals, usable, rate, notes)
    channels = [
        Channel(
            index,
            signals[index].label,
            names[index].name,
            names[index].site is Site.SCALP,
            declared.is_bad(signals[index].label),
        )
        for index in usable
    ]
    kept = unique(source, channels, rate, notes)
    notes += _said_of_names(kept, signals, names, kinds)
    notes += _filters([signals[channel.index] for channel in kept if channel.on_scalp])
    if not kept:
        raise Unreadable("CH-DUP", "every EEG channel shares its name with another one")
    return Chosen(tuple(kept), rate, tuple(notes))


def _kind(signal: Signal, name: Name, declared: Declared) -> str:
    """Return the BIDS type: as declared, as the file says, or by name."""
    kind = declared.kind_of(signal.label) or signal.kind
    if kind:
        return kind
    return "MISC" if name.site is Site.OTHER else "EEG"


def _usable(signals: Sequence[Signal], names: Sequence[Name], candidates: list[int], notes: list[Note]) -> list[int]:
    """Return EEG channels of known calibration and unit, one electrode against the reference each."""
    uncalibrated = [index for index in candidates if signals[index].fault]
    if uncalibrated:
        faults = sorted({signals[index].fault for index in uncalibrated})
        notes.append(Note("CH-CAL", f"{_names(signals, uncalibrated)}: {listed(faults)}"))
    inverted = [index for index in candidates if signals[index].inverted and not signals[index].fault]
    if inverted:
        share = f"{len(inverted)} of {len(candidates)} channels ({_names(signals, inverted)})"
        cause = f"{share}: the header's minimum lies above its maximum"
        notes.append(Note("CH-POL", cause, grade=Grade.LOSES if len(inverted) < len(candidates) else None))
    unitless = [
        index
        for index in candidates
        if signals[index].volts is None
        and not signals[index].fault
        and names[index].site in {Site.SCALP, Site.EAR, Site.PAIR}
    ]
    if unitless:
        units = sorted({signals[index].unit or "(empty)" for index in unitless})
        notes.append(
            Note(
                "CH-UNIT",
                f"{_names(signals, unitless)}: the unit is written {listed(units)}, which may be volts or microvolts "
                "(a factor of a million)",
            )
        )
    for site, code, what in (
        (Site.PAIR, "CH-BIP", "each is the difference of two electrodes"),
        (Site.CAP, "CH-ABC", "letters or numbers of a cap whose layout is not declared"),
        (Site.INSIDE, "CH-IEEG", "running numbers behind one prefix, as contacts of depth or grid electrodes have"),
    ):
        some = [index for index in candidates if names[index].site is site]
        if some:
            cause = f"{len(some)} of {len(candidates)} channels ({_names(signals, some)}): {what}"
            notes.append(Note(code, cause, grade=Grade.LOSES if len(some) < len(candidates) else None))
    left_out = {*uncalibrated, *unitless}
    return [
        index
        for index in candidates
        if index not in left_out
        and signals[index].volts is not None
        and names[index].site not in {Site.PAIR, Site.CAP, Site.INSIDE, Site.EAR}
    ]


def _refuse_if_none(
    signals: Sequence[Signal],
    names: Sequence[Name],
    kinds: Sequence[str],
    candidates: list[int],
    usable: list[int],
    notes: list[Note],
) -> None:
    if any(names[index].site is Site.SCALP for index in usable):
        return
    for code in ("CH-BIP", "CH-ABC", "CH-IEEG", "CH-UNIT", "CH-CAL"):
        note = next((note for note in notes if note.code == code), None)
        if note is not None:
            raise Unreadable(code, f"no channel can be used: {note.cause}")
    inside = [index for index, kind in enumerate(kinds) if kind in {"SEEG", "ECOG", "DBS"}]
    if inside and not candidates:
        raise Unreadable(
            "CH-IEEG",
            f"channels.tsv declares {len(inside)} channels as {listed(sorted({kinds[index] for index in inside}))}",
        )
    hidden = [index for index, name in enumerate(names) if name.site is Site.SCALP]
    if hidden:
        said = sorted({kinds[index] for index in hidden})
        raise Unreadable(
            "CH-TYPE",
            f"channels.tsv declares {len(hidden)} channels with names of electrodes as {listed(said)}, and none as EEG",
        )
    if not candidates:
        raise Unreadable("CH-NONE", f"its {len(signals)} channels are {listed(sorted(set(kinds)))}")
    raise Unreadable("CH-NAME", f"no channel has a name of the 10-05 system: {_names(signals, candidates)}")


def _of_rate(signals: Sequence[Signal], usable: list[int], rate: float, notes: list[Note]) -> list[int]:
    """Return the channels of the recording's own rate, and say what other rates there are."""
    others = sorted({signal.rate for signal in signals} - {rate})
    if others:
        apart = [index for index in usable if signals[index].rate != rate]
        lost = f"; these EEG channels are not used: {_names(signals, apart)}" if apart else ""
        notes.append(
            Note(
                "RATE-MIX",
                f"the EEG has {rate:g} Hz; other channels have {listed(f'{one:g}' for one in others)} Hz{lost}",
                grade=Grade.LOSES if apart else None,
            )
        )
    if abs(rate - round(rate)) > ODD_RATE * rate:
        notes.append(Note("RATE-MIX", f"the sampling rate is {rate:.6g} Hz, not a whole number"))
    return [index for index in usable if signals[index].rate == rate]


def unique(source: Source, channels: list[Channel], rate: float, notes: list[Note]) -> list[Channel]:
    """Return channels with distinct names: one of equal samples, none of several that differ."""
    groups: dict[str, list[Channel]] = defaultdict(list)
    for channel in channels:
        groups[channel.name.lower()].append(channel)
    gone: set[int] = set()
    stop = min(length(source.pieces(rate)), round(COMPARED_SECONDS * rate))
    for group in groups.values():
        if len(group) == 1:
            continue
        samples = source.read([channel.index for channel in group], 0, stop)
        labels = listed(channel.label for channel in group)
        if all((row == samples[0]).all() for row in samples[1:]):
            notes.append(
                Note("CH-DUP", f"{labels} are one electrode with the same samples; one was kept", grade=Grade.KNOW)
            )
            gone |= {channel.index for channel in group[1:]}
        else:
            notes.append(Note("CH-DUP", f"{labels} are one electrode with different samples; none of them is used"))
            gone |= {channel.index for channel in group}
    return [channel for channel in channels if channel.index not in gone]


def _said_of_names(
    kept: Sequence[Channel], signals: Sequence[Signal], names: Sequence[Name], kinds: Sequence[str]
) -> list[Note]:
    notes = []
    unknown = [channel.label for channel in kept if not channel.on_scalp]
    if unknown:
        notes.append(Note("CH-NAME", f"{len(unknown)} EEG channels without a position are not used: {listed(unknown)}"))
    renamed = [channel for channel in kept if channel.on_scalp and channel.label.strip() != channel.name]
    if renamed:
        pairs = listed(f"{channel.label} as {channel.name}" for channel in renamed)
        notes.append(Note("CH-ALIAS", f"{len(renamed)} names: {pairs}"))
    ears = [index for index, name in enumerate(names) if name.site is Site.EAR and kinds[index] == "EEG"]
    if ears:
        notes.append(Note("CH-EAR", _names(signals, ears)))
    return notes


def _filters(signals: Sequence[Signal]) -> list[Note]:
    unread = {signal.filter_text for signal in signals if not signal.filter_told}
    if unread:
        cause = f"{len(unread)} filters of EEG channels are written in a form that is not known; they were not compared"
        return [Note("FILT-MIX", cause, "Ask what the recorder filtered; a study's band must lie inside its filters.")]
    bands = sorted({signal.band for signal in signals}, key=str)
    texts = {" ".join(signal.filter_text.lower().split()) for signal in signals}
    if len(bands) < 2 <= len(texts):  # noqa: PLR2004  # one band for all
        return [Note("FILT-MIX", f"EEG channels have {len(texts)} different filters of one band, such as of the mains")]
    if len(bands) < 2:  # noqa: PLR2004  # one filter for all
        return []
    return [Note("FILT-MIX", f"EEG channels have {len(bands)} different filters: {listed(map(band_text, bands))}")]


def band_text(band: tuple[float | None, float | None]) -> str:
    """Return a recorder's filter in words."""
    low, high = ("open" if edge is None else f"{edge:g} Hz" for edge in band)
    return f"{low} to {high}"


def _names(signals: Sequence[Signal], indices: Sequence[int]) -> str:
    return listed(signals[index].label for index in indices)

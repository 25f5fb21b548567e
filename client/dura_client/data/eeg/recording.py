"""One recording of a BIDS folder, opened: its channels, events and line frequency, with a finding for every oddity.

The doctor and the preparation open recordings through this one door, so what a study uses is what was shown before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.beside.described import (
    Band,
    Measured,
    declared_band,
    description_notes,
    line_of,
    narrowest,
)
from dura_client.data.eeg.beside.levels import level_notes, meanings
from dura_client.data.eeg.beside.marks import mark_notes
from dura_client.data.eeg.beside.table import from_table
from dura_client.data.eeg.channels import Channel, choose
from dura_client.data.eeg.declared import NOTHING, declared_by
from dura_client.data.eeg.events import Event, Events, from_marks, span_of
from dura_client.data.eeg.sensors.amplitude import MEASURES, Measure
from dura_client.data.eeg.sensors.electrodes import electrode_findings
from dura_client.data.eeg.sensors.magnetic import choose_magnetic
from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf_text import is_identifying
from dura_client.data.recordings.folder import BidsFolder, Recording
from dura_client.data.recordings.opening import open_source, require_parts
from dura_client.data.recordings.sidecars import Merged, merged_json, nearest_table
from dura_client.data.recordings.source import Note, Piece, Source, Unreadable, length
from dura_client.data.recordings.tables import HARMLESS
from dura_client.data.sources.cuts import Marked

USED_KEYS = ("PowerLineFrequency", "SamplingFrequency", "RecordingDuration", "RecordingType", "EEGReference")


@dataclass(frozen=True)
class SignalRecording:
    """An opened recording. Samples are read when they are asked for."""

    recording: Recording
    place: str
    source: Source
    channels: tuple[Channel, ...]
    """EEG channels with a position on the scalp, or MEG sensors; distinct names."""
    measure: Measure
    """What the channels measure."""
    rate: float
    """Hz."""
    pieces: tuple[Piece, ...]
    """Stretches without a gap."""
    events: tuple[Event, ...]
    bad_spans: tuple[tuple[int, int], ...]
    """Begin and end, in samples, of what is marked as bad; no window crosses them."""
    levels: dict[str, str]
    """What the recording's own sidecars say that codes mean."""
    line: float | None
    """Line frequency in Hz, as declared."""
    line_fault: str
    """Why there is none, in words; empty if there is one."""
    cutoffs: Band
    """High-pass and low-pass in Hz that the description and channels.tsv declare, beside those of the header."""
    values: Mapping[str, frozenset[str]]
    """What the column value of events.tsv says of each code."""
    scale: float
    """Factor of the registration to volts, or to tesla and tesla per metre."""
    findings: tuple[Finding, ...]

    @property
    def samples(self) -> int:
        """Number of samples of a channel."""
        return length(self.pieces)

    @property
    def seconds(self) -> float:
        """Recorded time, gaps left out."""
        return sum(piece.samples for piece in self.pieces) / self.rate

    @property
    def bad(self) -> tuple[str, ...]:
        """Names of channels that are marked bad."""
        return tuple(channel.name for channel in self.channels if channel.bad)

    def band_of(self, channel: Channel) -> Band:
        """Return what all filters let pass that the header or the sidecars declare of a channel."""
        return narrowest(self.source.signals[channel.index].band, self.cutoffs)

    def read(self, start: int, stop: int, channels: Sequence[Channel] | None = None) -> NDArray[np.float64]:
        """Return samples (channels, samples) in the unit that recordings are held in; all channels by default."""
        chosen = self.channels if channels is None else channels
        values = self.source.read([channel.index for channel in chosen], start, stop)
        factors = np.array([[channel.held * self.scale] for channel in chosen])
        return values if (factors == 1.0).all() else values * factors

    def marked(self, dataset: DataSet) -> list[Marked]:
        """Return events and annotated stretches by the class names of studies."""
        return [
            Marked(event.sample, self.end_of(event), dataset.class_of(event.code, self.levels)) for event in self.events
        ]

    def end_of(self, event: Event) -> int:
        """Return the sample at which an annotation ends, by the clock."""
        piece = next(piece for piece in reversed(self.pieces) if piece.first <= event.sample)
        onset = piece.clock + (event.sample - piece.first) / self.rate
        return max(span_of(onset, event.duration, self.rate, self.pieces)[1], event.sample)


def open_signals(folder: BidsFolder, dataset: DataSet, recording: Recording) -> SignalRecording:
    """Open one recording with everything beside it.

    Raises:
        Unreadable: it cannot be used, and why.
    """
    place = folder.place(recording.path)
    described = f"_{folder.kind}.json"
    sidecar = merged_json(folder, recording, described)
    findings = list(sidecar.findings)
    said = sidecar.content.get("RecordingType", "")
    if "epoched" in (one.lower() for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)):
        raise Unreadable("FILE-EPOCH", f"its {described} says RecordingType epoched")
    source = open_source(recording.path)
    require_parts(recording.path, source)
    notes = list(source.notes)
    declared = NOTHING
    table, file, beside = nearest_table(folder, recording, "_channels.tsv")
    findings += beside
    if table is not None:
        declared = declared_by(table, source.signals) if table.columns else NOTHING
        notes += [_table_note("channels.tsv", problem.kind, problem.text) for problem in table.problems]
        findings += _from_above(folder, recording, file)
    elif file is None:
        instead = "were guessed from their names" if folder.kind == "eeg" else "are those of the recording"
        notes.append(Note("SIDE-NONE", f"there is no channels.tsv; types of channels {instead}"))
    chosen = (choose if folder.kind == "eeg" else choose_magnetic)(source, declared)
    notes += chosen.notes
    pieces = source.pieces(chosen.rate)
    notes += _header_notes(source)
    if sidecar.files:
        kinds = list(declared.kinds.values())
        measured = Measured(
            folder.task, chosen.rate, length(pieces) / chosen.rate, len(pieces), kinds.count("EEG") if kinds else None
        )
        notes += description_notes(sidecar.content, described, measured)
    else:
        also = " and the reference are" if described == "_eeg.json" else " is"
        notes.append(Note("SIDE-NONE", f"there is no {described}: the line frequency{also} not known"))
    findings += _inherited(folder, sidecar)
    line, line_fault = line_of(sidecar.content)
    events, event_findings = _events(folder, recording, source, chosen.rate, pieces)
    findings += event_findings
    notes += events.notes
    levels = merged_json(folder, recording, "_events.json")
    findings += levels.findings
    notes += level_notes(levels.content, {event.code for event in events.events})
    if folder.kind == "eeg":
        findings += electrode_findings(folder, recording, [channel.label for channel in chosen.channels])
    findings += [found(note.code, place, note.cause, remedy=note.remedy, grade=note.grade) for note in notes]
    return SignalRecording(
        recording=recording,
        place=place,
        source=source,
        channels=tuple(channel for channel in chosen.channels if channel.on_scalp),
        measure=MEASURES[folder.kind],
        rate=chosen.rate,
        pieces=pieces,
        events=events.events,
        bad_spans=events.bad,
        levels=meanings(levels.content),
        cutoffs=narrowest(declared_band(sidecar.content), declared.cutoffs),
        values=events.values,
        line=line,
        line_fault=line_fault,
        scale=dataset.scale_of(place),
        findings=tuple(findings),
    )


def _table_note(what: str, kind: str, text: str) -> Note:
    if kind in {"encoding", "bom"}:
        return Note("EV-ENC", f"{what}: {text}")
    if kind == "empty":
        return Note("SIDE-NONE", f"{what} is empty")
    return Note("SIDE-TABLE", f"{what}: {text}", grade=Grade.KNOW if kind in HARMLESS else None)


def _header_notes(source: Source) -> list[Note]:
    notes = []
    if source.identity:
        notes.append(Note("ID-HEAD", f"the header fills in: {', '.join(source.identity)}"))
    return notes


def _inherited(folder: BidsFolder, sidecar: Merged) -> list[Finding]:
    """Say which values come from a higher level although a nearer file exists."""
    if len(sidecar.files) < 2:  # noqa: PLR2004  # one level loses nothing
        return []
    above: dict[Path, list[str]] = {}
    for key in USED_KEYS:
        origin = sidecar.origin.get(key)
        if origin is not None and origin != sidecar.files[-1]:
            above.setdefault(origin, []).append(key)
    return [
        found(
            "SIDE-LOST", folder.place(path), f"it gives {', '.join(keys)}, which files nearer to recordings leave out"
        )
        for path, keys in above.items()
    ]


def _from_above(folder: BidsFolder, recording: Recording, file: Path | None) -> list[Finding]:
    """Say that a table beside no recording speaks for this one too."""
    if file is None or file.parent == recording.path.parent:
        return []
    return [found("SIDE-LOST", folder.place(file), "it counts for every recording below its folder that has no own")]


def _events(
    folder: BidsFolder, recording: Recording, source: Source, rate: float, pieces: Sequence[Piece]
) -> tuple[Events, list[Finding]]:
    table, file, beside = nearest_table(folder, recording, "_events.tsv")
    findings = list(beside)
    notes: list[Note] = []
    if table is not None:
        events = from_table(table, rate, pieces)
        telling = [name for name in table.columns if is_identifying(name)]
        notes += [Note("ID-HEAD", f"events.tsv has the columns {listed(telling)}")] if telling else []
        notes += events.notes
        if events.events or table.rows or table.problems:
            findings += _from_above(folder, recording, file)
            notes += mark_notes(events, source, rate, pieces) if events.events else []
            return _or_none(_with_bad(folder, events, source, rate, pieces), notes), findings
    elif file is None:
        notes.append(Note("SIDE-NONE", "there is no events.tsv"))
    own = from_marks(source, rate, pieces)
    return _or_none(own, [*notes, *own.notes]), findings


def _with_bad(folder: BidsFolder, events: Events, source: Source, rate: float, pieces: Sequence[Piece]) -> Events:
    """Return events with what the recording itself marks as bad; FIF files keep such marks beside an events.tsv."""
    if folder.kind != "meg":
        return events
    own = from_marks(source, rate, pieces).bad
    return replace(events, bad=tuple(sorted({*events.bad, *own})))


def _or_none(events: Events, notes: list[Note]) -> Events:
    more = notes if events.events else [*notes, Note("EV-NONE", "no event can be used")]
    return replace(events, notes=tuple(more))

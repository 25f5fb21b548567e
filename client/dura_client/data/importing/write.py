"""Writes one recording of a clinic into the BIDS folder: samples, mapped names and mapped events, and nothing else.

Nothing is copied from the old header. Samples are written block by block as 32-bit floats in microvolts (BrainVision),
so that no recording is too long and nothing is rounded to coarser steps. The header is written last: without it there
is no recording, so a broken run leaves none behind. Of MEG see :mod:`dura_client.data.importing.magnetic`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dura_client.data.eeg.events import Events, from_marks, place_marks
from dura_client.data.findings.finding import counted
from dura_client.data.importing import magnetic
from dura_client.data.importing.chosen import Chosen, choose
from dura_client.data.importing.layouts import LAYOUTS, Told
from dura_client.data.importing.mapping import Listed, Mapping
from dura_client.data.importing.opened import opened
from dura_client.data.recordings.source import Note, Piece, Source, length
from dura_common.runtime.files import private_folder

BLOCK_SECONDS = 60.0
MICRO = 1e6


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a recording."""

    notes: tuple[Note, ...]
    removed: tuple[str, ...]
    """Header fields that could identify a person and were not copied; never their values."""
    events: dict[str, int]
    """Class to number of events."""


def write_recording(root: Path, item: Listed, mapping: Mapping, stem: Path) -> Written:
    """Write a recording to ``stem`` (a path without suffix and ending).

    Raises:
        Unreadable: it cannot be used, and why.
        OSError: it cannot be written.
    """
    path = root / item.file
    layout = LAYOUTS[mapping.layout]
    with opened(path) as found:
        source = found.source
        chosen = magnetic.choose(source, mapping) if mapping.source == "meg" else choose(source, mapping, item.scale)
        pieces = source.pieces(chosen.rate)
        told = layout.events(root, path)
        if told.marks is None and found.hypnogram:
            told = Told(found.hypnogram)
        listed = (
            from_marks(source, chosen.rate, pieces)
            if told.marks is None
            else place_marks(told.marks, chosen.rate, pieces)
        )
        rows, unknown = _mapped(listed, mapping)
        notes = [*source.notes, *found.notes, *told.notes, *chosen.notes, *listed.notes]
        if unknown:
            notes.append(Note("EV-MAP", f"the mapping has no line for {counted(unknown, 'event')}; they are left out"))
        private_folder(stem.parent)
        for old in recordings_at(stem, mapping.source):
            old.unlink()
        _write(stem, "_events.tsv", _events(rows, chosen.rate))
        if isinstance(chosen, Chosen):
            _write_brainvision(stem, source, mapping, chosen, pieces)
        else:
            _write(stem, "_channels.tsv", magnetic.channels_of(chosen))
            _write(stem, "_meg.json", magnetic.description_of(mapping, chosen, pieces))
            magnetic.write_samples(_beside(stem, "_meg.fif"), path, source, chosen, item.scale)
        counts: dict[str, int] = {}
        for _, _, name in rows:
            counts[name] = counts.get(name, 0) + 1
        return Written(tuple(notes), source.identity, counts)


def recordings_at(stem: Path, source: str) -> list[Path]:
    """Return the files of a recording that were written to ``stem``, but for sidecars."""
    if source == "meg":
        return sorted(stem.parent.glob(f"{stem.name}_meg.fif")) + sorted(
            stem.parent.glob(f"{stem.name}_split-*_meg.fif")
        )
    return [path for ending in ("_eeg.vhdr", "_eeg.eeg", "_eeg.vmrk") if (path := _beside(stem, ending)).exists()]


def _write_brainvision(stem: Path, source: Source, mapping: Mapping, chosen: Chosen, pieces: Sequence[Piece]) -> None:
    _write_samples(_beside(stem, "_eeg.eeg"), source, chosen, pieces)
    _write(stem, "_eeg.vmrk", _markers(stem, pieces))
    _write(stem, "_channels.tsv", _channels(chosen))
    _write(stem, "_eeg.json", _description(mapping, chosen, pieces))
    _write(stem, "_eeg.vhdr", _header(stem, chosen))


def _mapped(found: Events, mapping: Mapping) -> tuple[list[tuple[int, float, str]], int]:
    """Return sample, duration and class of the events that have a class, and how many have an unknown code."""
    rows, unknown = [], 0
    for event in found.events:
        name = mapping.events.get(event.code)
        if name is None:
            unknown += 1
        elif name:
            rows.append((event.sample, event.duration, name))
    return rows, unknown


def _beside(stem: Path, ending: str) -> Path:
    return stem.with_name(stem.name + ending)


def _write(stem: Path, ending: str, text: str) -> None:
    path = _beside(stem, ending)
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _write_samples(path: Path, source: Source, chosen: Chosen, pieces: Sequence[Piece]) -> None:
    indices = [item.index for item in chosen.electrodes]
    factors = np.array([[item.factor * MICRO] for item in chosen.electrodes])
    samples, block = length(pieces), max(round(BLOCK_SECONDS * chosen.rate), 1)
    with path.open("wb") as stream:
        for begin in range(0, samples, block):
            values = source.read(indices, begin, min(begin + block, samples)) * factors
            stream.write(np.ascontiguousarray(values.T, dtype="<f4").tobytes())
        stream.flush()
        os.fsync(stream.fileno())


def _header(stem: Path, chosen: Chosen) -> str:
    channels = "\n".join(f"Ch{number}={item.name},,1,µV" for number, item in enumerate(chosen.electrodes, start=1))
    return (
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}_eeg.eeg\nMarkerFile={stem.name}_eeg.vmrk\nDataFormat=BINARY\n"
        f"DataOrientation=MULTIPLEXED\nNumberOfChannels={len(chosen.electrodes)}\n"
        f"SamplingInterval={MICRO / chosen.rate!r}\n\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n\n"
        f"[Channel Infos]\n{channels}\n"
    )


def _markers(stem: Path, pieces: Sequence[Piece]) -> str:
    """Return the marker file: where stretches without a gap begin, and no date."""
    marks = "\n".join(f"Mk{number}=New Segment,,{piece.first + 1},1,0" for number, piece in enumerate(pieces, start=1))
    return (
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem.name}_eeg.eeg\n\n[Marker Infos]\n{marks}\n"
    )


def _channels(chosen: Chosen) -> str:
    rows = [f"{item.name}\tEEG\tµV\t{chosen.rate:.10g}\tgood" for item in chosen.electrodes]
    return "\n".join(["name\ttype\tunits\tsampling_frequency\tstatus", *rows]) + "\n"


def _events(rows: Sequence[tuple[int, float, str]], rate: float) -> str:
    lines = [f"{sample / rate:.6f}\t{duration:.6g}\t{name}\t{sample}" for sample, duration, name in rows]
    return "\n".join(["onset\tduration\ttrial_type\tsample", *lines]) + "\n"


def _description(mapping: Mapping, chosen: Chosen, pieces: Sequence[Piece]) -> str:
    content = {
        "TaskName": mapping.task,
        "SamplingFrequency": chosen.rate,
        "PowerLineFrequency": mapping.line_frequency,
        "EEGReference": mapping.reference,
        "SoftwareFilters": "n/a",
        "RecordingDuration": length(pieces) / chosen.rate,
        "RecordingType": "continuous" if len(pieces) == 1 else "discontinuous",
        "EEGChannelCount": len(chosen.electrodes),
    }
    return json.dumps(content, indent=2) + "\n"

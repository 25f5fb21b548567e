"""Writes one MEG recording of a clinic into the BIDS folder as FIF: sensors, their places, samples, and nothing else.

Nothing is copied from the old header but the sensors themselves and where the helmet was. Samples are written block by
block as 32-bit floats in tesla and tesla per metre; a recording beyond 2 GB is split as BIDS names it. The files appear
when they are whole, the first of them last.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.eeg.channels import Channel, Chosen
from dura_client.data.eeg.declared import NOTHING
from dura_client.data.eeg.sensors.magnetic import choose_magnetic
from dura_client.data.findings.finding import listed
from dura_client.data.importing.mapping import Mapping
from dura_client.data.recordings.source import Note, Piece, Source, Unreadable, length
from dura_client.data.recordings.through_mne import SKIPPED, MneSource, listening
from dura_common.runtime.files import SHARED_FILE

JOINT = "EDGE boundary"
KEPT = ("kind", "coil_type", "unit", "coord_frame")
"""Of a sensor's description; its place is kept as well."""
BLOCK_SECONDS = 10.0


def choose(source: Source, mapping: Mapping) -> Chosen:
    """Return the sensors that the mapping does not leave out.

    Raises:
        Unreadable: none of them can be used, and why.
    """
    chosen = choose_magnetic(source, NOTHING)
    left_out = {label for label, name in mapping.channels.items() if not name}
    gone = [channel.label for channel in chosen.channels if channel.label.strip() in left_out]
    kept = tuple(channel for channel in chosen.channels if channel.label not in gone)
    if not kept:
        raise Unreadable("CH-NONE", "the mapping leaves out every sensor of it")
    notes = [Note("CH-TYPE", f"left out by the mapping: {listed(gone)}")] if gone else []
    return Chosen(kept, chosen.rate, (*chosen.notes, *notes))


def write_samples(target: Path, origin: Path, source: Source, chosen: Chosen, scale: float) -> None:
    """Write the samples of a recording, with its gaps.

    Raises:
        OSError: it cannot be written.
    """
    if not isinstance(source, MneSource):
        raise TypeError(f"sensors of an MEG come from MNE's readers, not from {type(source).__name__}")
    copy = _Copy(_info(source, chosen), origin, source, [channel.index for channel in chosen.channels], scale)
    gaps = _gaps(source.pieces(chosen.rate), chosen.rate)
    copy.set_annotations(mne.Annotations(*zip(*gaps, strict=True)) if gaps else None)
    with tempfile.TemporaryDirectory(prefix=".dura-import-", dir=target.parent) as folder, listening():
        copy.save(
            Path(folder) / target.name,
            fmt="single",
            buffer_size_sec=BLOCK_SECONDS,
            split_naming="bids",
            verbose="warning",
        )
        for path in sorted(Path(folder).iterdir(), reverse=True):
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            path.chmod(SHARED_FILE)
            path.replace(target.parent / path.name)


class _Copy(mne.io.BaseRaw):  # type: ignore[misc]  # MNE has no types
    """What MNE's writer asks for samples: those of a source, read when they are written."""

    def __init__(self, info: mne.Info, origin: Path, source: MneSource, indices: Sequence[int], scale: float) -> None:
        told = {"source": source, "indices": np.array(indices), "scale": scale}  # MNE hands nothing else to the reading
        last = [source.raw.n_times - 1]
        super().__init__(info, last_samps=last, filenames=[origin], raw_extras=[told], verbose="warning")

    def _read_segment_file(
        self, data: NDArray[Any], idx: Any, fi: int, start: int, stop: int, cals: Any, mult: Any
    ) -> None:
        del cals, mult  # samples come in the unit in which they are written, and without projections
        told = self._raw_extras[fi]
        data[:] = told["scale"] * told["source"].read(told["indices"][idx].tolist(), start, stop)


def _info(source: MneSource, chosen: Chosen) -> mne.Info:
    """Return a new description with the sensors, their places and the helmet's place, and nothing of a person."""
    kinds = ["mag" if channel.sort == "MEGMAG" else "grad" for channel in chosen.channels]
    info = mne.create_info([channel.name for channel in chosen.channels], chosen.rate, kinds, verbose="warning")
    for mine, channel in zip(info["chs"], chosen.channels, strict=True):
        theirs = source.raw.info["chs"][channel.index]
        mine.update({key: theirs[key] for key in KEPT})
        mine["loc"] = theirs["loc"].copy()
    info["bads"] = [channel.name for channel in chosen.channels if channel.bad]
    with info._unlock():  # noqa: SLF001  # the documented way to give a place to a helmet
        info["dev_head_t"] = source.raw.info["dev_head_t"]
    return info


def _gaps(pieces: Sequence[Piece], rate: float) -> list[tuple[float, float, str]]:
    """Return onset, duration and name of the marks that say where a recording was interrupted."""
    marks = []
    end = 0
    for piece in pieces:
        if piece.first > end:
            marks.append((end / rate, (piece.first - end) / rate, SKIPPED))
        elif piece.first:
            marks.append((piece.first / rate, 0.0, JOINT))
        end = piece.first + piece.samples
    return marks


def channels_of(chosen: Chosen) -> str:
    """Return the channels.tsv."""
    rows = [_row(channel, chosen.rate) for channel in chosen.channels]
    return "\n".join(["name\ttype\tunits\tsampling_frequency\tstatus", *rows]) + "\n"


def _row(channel: Channel, rate: float) -> str:
    unit = "T" if channel.sort == "MEGMAG" else "T/m"
    return f"{channel.name}\t{channel.sort}\t{unit}\t{rate:.10g}\t{'bad' if channel.bad else 'good'}"


def description_of(mapping: Mapping, chosen: Chosen, pieces: Sequence[Piece]) -> str:
    """Return the meg.json."""
    content = {
        "TaskName": mapping.task,
        "SamplingFrequency": chosen.rate,
        "PowerLineFrequency": mapping.line_frequency,
        "DewarPosition": "n/a",
        "SoftwareFilters": "n/a",
        "DigitizedLandmarks": False,
        "DigitizedHeadPoints": False,
        "RecordingDuration": length(pieces) / chosen.rate,
        "RecordingType": "continuous" if len(pieces) == 1 else "discontinuous",
        "MEGChannelCount": len(chosen.channels),
    }
    return json.dumps(content, indent=2) + "\n"

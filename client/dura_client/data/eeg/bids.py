"""What other parts of the site ask of a data set's EEG: its recordings, and one recording as MNE's object.

The place of a recording names a patient, so it stands in an error's hint, which only the command line shows to
the data manager; the message, which logs keep too, does without.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.amplitude import amplitude_of, is_plausible, suggest_scale
from dura_client.data.eeg.recording import EegRecording, open_eeg
from dura_client.data.findings.finding import found
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.recordings.folder import BidsFolder, Recording
from dura_client.data.recordings.source import Unreadable
from dura_common.errors import InputError

__all__ = ["Recording", "amplitude", "check_amplitude", "find_recordings", "folder_of", "load", "open_recording"]

AMPLITUDE_SECONDS = 60
MOST_MISSING = 0.5
"""Share of a channel's samples."""


def folder_of(dataset: DataSet) -> BidsFolder:
    """Return the folder of a data set, ready to be looked at."""
    return BidsFolder(Path(dataset.root), dataset.task or "")


def find_recordings(dataset: DataSet) -> list[Recording]:
    """Return the recordings of the data set's task, sorted by patient, session and run.

    Raises:
        InputError: there are none.
    """
    recordings = folder_of(dataset).recordings
    if not recordings:
        raise InputError(
            f"the data set {dataset.name} has no recordings of the task {dataset.task!r}",
            hint=f"Expected files such as sub-01/eeg/sub-01_task-{dataset.task}_eeg.edf below the folder; "
            f"`dura site data check {dataset.name}` names files that look like recordings.",
        )
    return list(recordings)


@declares(PrivacyClass.PER_PATIENT)
def open_recording(folder: BidsFolder, dataset: DataSet, recording: Recording) -> EegRecording:
    """Open one recording with its channels and events; samples are not read yet.

    Raises:
        InputError: unreadable, without EEG channels, or otherwise of no use; the hint says where and why.
    """
    try:
        return open_eeg(folder, dataset, recording)
    except Unreadable as error:
        what = found(error.note.code, folder.place(recording.path), error.note.cause, remedy=error.note.remedy)
        raise InputError(
            f"a recording of the data set {dataset.name} cannot be read: {what.title}",
            hint=f"It is {what.place}: {what.cause}. {what.remedy} Look at all: `dura site data check {dataset.name}`.",
        ) from error


@dataclass(frozen=True, slots=True)
class Loaded:
    """A recording's samples."""

    raw: mne.io.RawArray
    """Scalp EEG in volts, bad channels marked; where the samples are not numbers, zero."""
    stretches: tuple[tuple[int, int], ...]
    """Begin and end, in samples, of what is whole: no gap inside, every value a number."""


@declares(PrivacyClass.PER_PATIENT)
def load(opened: EegRecording) -> Loaded:
    """Read a recording's scalp EEG into memory.

    A mark lies at each edge of a stretch, at which MNE's filters stop and start anew. A channel of which more than
    :data:`MOST_MISSING` are not numbers is marked bad; elsewhere the moment is left out for all channels.
    """
    values = opened.read(0, opened.samples)
    broken = ~np.isfinite(values)
    values[broken] = 0.0
    lost = broken.mean(axis=1) > MOST_MISSING
    moments = broken[~lost].any(axis=0)
    info = mne.create_info([channel.name for channel in opened.channels], opened.rate, "eeg", verbose="warning")
    raw = mne.io.RawArray(values, info, verbose="warning")
    raw.info["line_freq"] = opened.line
    raw.info["bads"] = [
        channel.name for channel, gone in zip(opened.channels, lost, strict=True) if channel.bad or gone
    ]
    stretches = _stretches(opened, moments)
    edges = sorted({edge for stretch in stretches for edge in stretch} - {0, opened.samples})
    if edges:
        raw.set_annotations(mne.Annotations([edge / opened.rate for edge in edges], 0.0, "EDGE boundary"))
    return Loaded(raw, stretches)


def _stretches(opened: EegRecording, moments: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Return the parts of all pieces in which no moment is left out."""
    found = []
    for piece in opened.pieces:
        part = moments[piece.first : piece.first + piece.samples]
        changes = np.flatnonzero(np.diff(part.astype(np.int8)))
        edges = [0, *(int(at) + 1 for at in changes), piece.samples]
        found += [
            (piece.first + begin, piece.first + end)
            for begin, end in itertools.pairwise(edges)
            if end > begin and not part[begin]
        ]
    return tuple(found)


def amplitude(raw: mne.io.BaseRaw) -> float:
    """Return the median absolute value in microvolts, offsets removed: what wrong units show in."""
    good = [index for index, name in enumerate(raw.ch_names) if name not in raw.info["bads"]] or None
    return amplitude_of(raw.get_data(picks=good, stop=min(raw.n_times, round(AMPLITUDE_SECONDS * raw.info["sfreq"]))))


@declares(PrivacyClass.PER_PATIENT)
def check_amplitude(raw: mne.io.BaseRaw, dataset: DataSet, place: str) -> None:
    """Refuse a recording that holds no signal, or whose unit is wrong.

    Raises:
        InputError: flat, not finite, or implausible in amplitude; the hint says which scale would mend it.
    """
    seen = amplitude(raw)
    if not np.isfinite(seen) or seen == 0:
        raise InputError(
            f"a recording of the data set {dataset.name} holds no signal: it is flat, or its values are not numbers",
            hint=f"It is {place}. Leave it out.",
        )
    if not is_plausible(seen):
        factor = suggest_scale(seen) * dataset.scale_of(place)
        raise InputError(
            f"the unit of a recording of the data set {dataset.name} is wrong: its values are not those of scalp EEG",
            hint=f"It is {place}. If the file declares the wrong unit, correct it: "
            f"`dura site data update {dataset.name} --scale {factor:g}` for all recordings, "
            f"`--scale {place}={factor:g}` for this one.",
        )

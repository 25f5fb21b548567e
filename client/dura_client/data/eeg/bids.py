"""What other parts of the site ask of a data set's EEG or MEG: its recordings, and one recording opened.

The place of a recording names a patient, so it stands in an error's hint, which only the command line shows to
the data manager; the message, which logs keep too, does without.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.recording import SignalRecording, open_signals
from dura_client.data.eeg.sensors.amplitude import MEASURES
from dura_client.data.findings.finding import found
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.recordings.folder import BidsFolder, Recording
from dura_client.data.recordings.source import Unreadable
from dura_common.errors import InputError

__all__ = ["Recording", "check_amplitude", "find_recordings", "folder_of", "open_recording"]


def folder_of(dataset: DataSet) -> BidsFolder:
    """Return the folder of a data set, ready to be looked at."""
    return BidsFolder(Path(dataset.root), dataset.task or "", dataset.source)


def find_recordings(dataset: DataSet) -> list[Recording]:
    """Return the recordings of the data set's task, sorted by patient, session and run.

    Raises:
        InputError: there are none.
    """
    folder = folder_of(dataset)
    recordings = folder.recordings
    if not recordings:
        raise InputError(
            f"the data set {dataset.name} has no recordings of the task {dataset.task!r}",
            hint=f"Expected files such as {example_of(folder)} below the folder; "
            f"`dura site data check {dataset.name}` names files that look like recordings.",
        )
    return list(recordings)


def example_of(folder: BidsFolder) -> str:
    """Return the name of a recording that a folder might hold."""
    return f"sub-01/{folder.kind}/sub-01_task-{folder.task}_{folder.kind}{folder.form.endings[0]}"


@declares(PrivacyClass.PER_PATIENT)
def open_recording(folder: BidsFolder, dataset: DataSet, recording: Recording) -> SignalRecording:
    """Open one recording with its channels and events; samples are not read yet.

    Raises:
        InputError: unreadable, without channels of its kind, or otherwise of no use; the hint says where and why.
    """
    with named(folder, dataset, recording):
        return open_signals(folder, dataset, recording)


@contextmanager
def named(folder: BidsFolder, dataset: DataSet, recording: Recording) -> Iterator[None]:
    """Say which recording it is that turns out to be unreadable while the block runs.

    Raises:
        InputError: it is; the hint says where and why.
    """
    try:
        yield
    except Unreadable as error:
        what = found(error.note.code, folder.place(recording.path), error.note.cause, remedy=error.note.remedy)
        raise InputError(
            f"a recording of the data set {dataset.name} cannot be read: {what.title}",
            hint=f"It is {what.place}: {what.cause}. {what.remedy} Look at all: `dura site data check {dataset.name}`.",
        ) from error


@declares(PrivacyClass.PER_PATIENT)
def check_amplitude(seen: float, dataset: DataSet, place: str) -> None:
    """Refuse a recording that holds no signal, or whose unit is wrong, by its median amplitude in millionths.

    Raises:
        InputError: flat, not finite, or implausible in amplitude; the hint says which scale would mend it.
    """
    if not np.isfinite(seen) or seen == 0:
        raise InputError(
            f"a recording of the data set {dataset.name} holds no signal: it is flat, or its values are not numbers",
            hint=f"It is {place}. Leave it out.",
        )
    measure = MEASURES[dataset.source]
    if not measure.is_plausible(seen):
        factor = measure.suggest_scale(seen) * dataset.scale_of(place)
        raise InputError(
            f"the unit of a recording of the data set {dataset.name} is wrong: "
            f"its values are not those of {measure.name}",
            hint=f"It is {place}. If the file declares the wrong unit, correct it: "
            f"`dura site data update {dataset.name} --scale {factor:g}` for all recordings, "
            f"`--scale {place}={factor:g}` for this one.",
        )

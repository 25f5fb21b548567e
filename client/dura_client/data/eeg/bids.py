"""Recordings of a BIDS-EEG folder, found by name and read through mne-bids one at a time.

The place of a recording names a patient, so it stands in an error's hint, which only the command line shows to
the data manager; the message, which logs keep too, does without.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
from mne_bids import get_bids_path_from_fname, read_raw_bids

from dura_client.data.dataset import DataSet
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.errors import InputError

SUFFIXES = (".edf", ".vhdr", ".bdf", ".set")
"""The four formats of BIDS-EEG."""
PLAUSIBLE_MICROVOLTS = (0.5, 500.0)
"""Range of the median absolute value of scalp EEG after its offset is removed."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of one patient."""

    path: Path
    subject: str


def find_recordings(dataset: DataSet) -> list[Recording]:
    """Return the recordings of the data set's task, sorted by patient, session and run.

    Raises:
        InputError: there are none.
    """
    root = Path(dataset.root)
    found = [
        Recording(path, path.name.split("_")[0].removeprefix("sub-"))
        for path in root.glob("sub-*/**/eeg/sub-*_eeg.*")
        if path.suffix in SUFFIXES and f"_task-{dataset.task}_" in path.name
    ]
    if not found:
        raise InputError(
            f"the data set {dataset.name} has no recordings of the task {dataset.task!r}",
            hint=f"Expected files such as sub-01/eeg/sub-01_task-{dataset.task}_eeg.edf below the folder.",
        )
    return sorted(found, key=lambda item: (item.subject, _in_time(item.path.name), item.path.name))


def _in_time(name: str) -> list[int]:
    """Return the numbers in a file name, so that run-10 comes after run-2."""
    return [int(digits) for digits in re.findall(r"(?:ses|run)-(\d+)", name)]


@declares(PrivacyClass.PER_PATIENT)
def read(dataset: DataSet, recording: Recording) -> mne.io.BaseRaw:
    """Read one recording into memory, in volts, EEG channels only, with its events as annotations.

    Raises:
        InputError: unreadable, without EEG channels, or with amplitudes that no scalp EEG has.
    """
    place = recording.path.relative_to(dataset.root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            raw = read_raw_bids(get_bids_path_from_fname(recording.path, verbose="error"), verbose="error")
            raw.pick("eeg", exclude=[])
            raw.load_data(verbose="error")
    except Exception as error:  # readers raise many kinds for broken files; the place is what helps
        raise InputError(
            f"a recording of the data set {dataset.name} cannot be read ({type(error).__name__})",
            hint=f"It is {place}. Look at it with `dura site data check {dataset.name}`; repair or leave it out.",
        ) from error
    if dataset.scale != 1.0:
        raw.apply_function(lambda values: values * dataset.scale, channel_wise=False, verbose="error")
    return raw


def amplitude(raw: mne.io.BaseRaw) -> float:
    """Return the median absolute value in microvolts, offsets removed: what wrong units show in."""
    good = [index for index, name in enumerate(raw.ch_names) if name not in raw.info["bads"]] or None
    values = raw.get_data(picks=good, stop=min(raw.n_times, round(60 * raw.info["sfreq"])))
    centred = values - np.median(values, axis=1, keepdims=True)
    return float(np.median(np.abs(centred)) * 1e6)


@declares(PrivacyClass.PER_PATIENT)
def check_amplitude(raw: mne.io.BaseRaw, dataset: DataSet, recording: Recording) -> None:
    """Refuse a recording that holds no signal, or whose unit is wrong.

    Raises:
        InputError: flat, not finite, or implausible in amplitude; the hint says which scale would mend it.
    """
    low, high = PLAUSIBLE_MICROVOLTS
    place = recording.path.relative_to(dataset.root)
    seen = amplitude(raw)
    if not np.isfinite(seen) or seen == 0:
        raise InputError(
            f"a recording of the data set {dataset.name} holds no signal: it is flat, or its values are no numbers",
            hint=f"It is {place}. Leave it out.",
        )
    if not low <= seen <= high:
        suggestion = suggest_scale(seen) * dataset.scale
        raise InputError(
            f"the unit of a recording of the data set {dataset.name} is wrong: its values are not those of scalp EEG",
            hint=f"It is {place}. Register with --scale {suggestion:g} if the files declare the wrong unit.",
        )


def suggest_scale(microvolts: float) -> float:
    """Return the power of a thousand that brings a median amplitude into the plausible range, or 1."""
    low, high = PLAUSIBLE_MICROVOLTS
    for factor in (1.0, 1e-3, 1e-6, 1e3, 1e6, 1e-9, 1e9):
        if low <= microvolts * factor <= high:
            return factor
    return 1.0


def codes(raw: mne.io.BaseRaw) -> list[tuple[float, str]]:
    """Return the events of a recording: seconds from its first sample, and code."""
    return [
        (float(onset) - raw.first_time, str(description).removeprefix("Stimulus/").strip())
        for onset, description in zip(raw.annotations.onset, raw.annotations.description, strict=True)
    ]

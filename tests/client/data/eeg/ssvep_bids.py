"""Write the real SSVEP recordings (Kalunga2016, CC0) as a BIDS folder, for tests of the whole path on real input.

Source: shared/data/ssvep_exo, whose README says how it was made. Rules:

- subject 1's first recording comes from the original GDF, subject 2's from the original FIF with its event file;
  all others from the cut epochs, six seconds each, laid end to end;
- both originals miss volts by a thousand, in opposite directions (FIF too large, GDF too small);
- the recording filed under subjects 3 and 7 stays with 3, unless a test wants both; the one that the authors excluded
  is left out;
- runs of a subject are numbered in time order, and events are named after what flickered.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
import pytest
from mne_bids import BIDSPath, write_raw_bids
from numpy.typing import NDArray
from tests.support.processes import real_data

TASK = "ssvep"
CLASSES = ("rest", "13Hz", "21Hz", "17Hz")
"""In the order of the source's codes 1 to 4 (GDF: 33024 to 33027)."""
CHANNELS = ("Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4")
RATE = 256.0
LINE = 50
EPOCH_SECONDS = 6
TRIAL_BEGINS = "32779"
"""OpenViBE's VisualStimulationStart, the event that a label code announces."""
FIRST_LABEL = 33024
FIF_TO_VOLTS = 1e-3
GDF_TO_VOLTS = 1e3
GDF = {(1, "2012.07.06-19.02.16")}
FIF = {(2, "2012.07.19-17.36.23")}
DUPLICATE = (7, "2012.07.11-15.33.08")
EXCLUDED = (8, "2013.04.06-16.22.32")
"""Synchronisation problem, says the source's README."""


@dataclass(frozen=True, slots=True)
class Continuous:
    """One recording: volts (channels, samples), and seconds and class of each trial."""

    signal: NDArray[np.float64]
    onsets: NDArray[np.float64]
    names: tuple[str, ...]


def find_data() -> Path | None:
    """Return the folder of the test recordings, or None where a checkout comes without it."""
    return real_data("ssvep_exo/ssvep_exo_epochs.npz")


needs_recordings = pytest.mark.skipif(
    find_data() is None, reason="the real recordings are absent; set DURA_TEST_DATA to their folder"
)
"""Marks tests that read the real recordings."""


def write_bids(out_root: Path, subjects: list[int], data_dir: Path, *, both_copies: bool = False) -> None:
    """Write the recordings of ``subjects`` (1 to 8) below ``out_root``; ``data_dir`` holds ssvep_exo.

    With ``both_copies`` the recording of subjects 3 and 7 is written for both, as the source has it.
    """
    left_out = {EXCLUDED} if both_copies else {EXCLUDED, DUPLICATE}
    source = data_dir / "ssvep_exo"
    with np.load(source / "ssvep_exo_epochs.npz", allow_pickle=False) as archive:
        epochs = {name: archive[name] for name in ("x", "scale_V", "y", "subject", "recording")}
    for subject in subjects:
        names = sorted(set(epochs["recording"][epochs["subject"] == subject].tolist()))
        kept = [name for name in names if (subject, name) not in left_out]
        for run, name in enumerate(kept, start=1):
            if (subject, name) in GDF:
                recording = from_gdf(source / "original" / f"subject{subject:02d}-record-[{name}].gdf")
            elif (subject, name) in FIF:
                recording = from_fif(source / "original" / f"subject{subject:02d}-record-[{name}]_raw.fif")
            else:
                recording = _from_epochs(epochs, subject, name)
            _write(recording, BIDSPath(root=out_root, subject=f"{subject:02d}", task=TASK, run=run, datatype="eeg"))


def from_gdf(path: Path) -> Continuous:
    """Read an original GDF file: a label code says the class, the next start of stimulation the time."""
    raw = mne.io.read_raw_gdf(path, preload=True, verbose="error")
    onsets: list[float] = []
    names: list[str] = []
    announced = ""
    for onset, code in zip(raw.annotations.onset, map(str, raw.annotations.description), strict=True):
        if FIRST_LABEL <= int(code) < FIRST_LABEL + len(CLASSES):
            announced = CLASSES[int(code) - FIRST_LABEL]
        elif code == TRIAL_BEGINS and announced:
            onsets.append(float(onset))
            names.append(announced)
            announced = ""
    return Continuous(raw.get_data(picks=list(CHANNELS)) * GDF_TO_VOLTS, np.array(onsets), tuple(names))


def from_fif(path: Path) -> Continuous:
    """Read an original FIF file and the event file beside it."""
    raw = mne.io.read_raw_fif(path, preload=True, verbose="error")
    events = mne.read_events(path.with_name(path.name.replace("_raw.fif", "-eve.fif")), verbose="error")
    onsets = (events[:, 0] - raw.first_samp) / RATE
    return Continuous(
        raw.get_data(picks=list(CHANNELS)) * FIF_TO_VOLTS, onsets, tuple(CLASSES[code - 1] for code in events[:, 2])
    )


def _from_epochs(epochs: dict[str, NDArray[np.generic]], subject: int, name: str) -> Continuous:
    chosen = (epochs["subject"] == subject) & (epochs["recording"] == name)
    trials = epochs["x"][chosen].astype(np.float64) * float(epochs["scale_V"])
    trials -= np.median(trials, axis=2, keepdims=True)  # smaller steps where one trial meets the next
    codes = epochs["y"][chosen].astype(int)
    return Continuous(
        np.concatenate(list(trials), axis=1),
        np.arange(len(trials), dtype=np.float64) * EPOCH_SECONDS,
        tuple(CLASSES[code - 1] for code in codes),
    )


def _write(recording: Continuous, path: BIDSPath) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.RawArray(recording.signal, mne.create_info(list(CHANNELS), RATE, "eeg"), verbose="error")
        raw.info["line_freq"] = LINE
        raw.set_montage("colin27_1005", verbose="error")
        raw.set_annotations(mne.Annotations(recording.onsets, np.zeros(len(recording.onsets)), list(recording.names)))
        write_raw_bids(raw, path, format="BrainVision", allow_preload=True, overwrite=True, verbose="error")

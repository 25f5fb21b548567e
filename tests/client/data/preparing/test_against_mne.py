"""Real recordings of three formats, prepared by dura and by an independent pipeline of MNE on the whole recording."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import savemat
from tests.client.data.eeg.ssvep_bids import find_data, needs_recordings

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from dura_common.study import SignalContract

DATA = find_data()
pytestmark = needs_recordings
KEY = b"k" * 32
LINE = 50
ONSETS = (1.0, 2.01, 3.2, 4.123, 5.0)
STUDY = SignalContract(
    task="look",
    channels=("F3", "Cz", "C4", "P3", "Oz", "AFz"),
    sampling_rate=96.0,
    band=(4.0, 40.0),
    window_start=-0.2,
    window_length=1.0,
    classes=("one", "two"),
    alignment="none",
    minimum_patients=1,
)
"""The recording has no Oz and no AFz. 1000 Hz to 96 Hz is 12 to 125, and the line lies in the filter's slope."""


def write(folder: Path, ending: str) -> Path:
    """Write a real recording (BrainVision's own test recording, 32 channels, 7.9 s) in a format; return the file."""
    raw = mne.io.read_raw_brainvision(DATA / "formats" / "odd" / "test.vhdr", preload=True, verbose="error")  # type: ignore[operator]  # skipped without
    raw.pick("eeg").pick([name for name in raw.ch_names if name not in ("Oz", "AFz")]).set_annotations(None)
    path = folder / "sub-01" / "eeg" / f"sub-01_task-look_eeg{ending}"
    path.parent.mkdir(parents=True)
    if ending == ".set":
        microvolts = raw.get_data() * 1e6
        locations = np.array([(name,) for name in raw.ch_names], dtype=[("labels", "O")])
        content = {"data": microvolts, "srate": raw.info["sfreq"], "nbchan": len(microvolts), "trials": 1}
        events = np.zeros(0, dtype=[("type", "O"), ("latency", "O")])
        points = {"pnts": microvolts.shape[1], "xmin": 0.0, "xmax": raw.times[-1], "chanlocs": locations}
        savemat(path, {"EEG": {**content, **points, "event": events, "setname": "", "icawinv": [], "icaweights": []}})
    else:
        mne.export.export_raw(path, raw, fmt="edf" if ending == ".edf" else "brainvision", verbose="error")
    (folder / "dataset_description.json").write_text('{"Name": "look", "BIDSVersion": "1.9.0"}')
    path.with_suffix(".json").write_text(json.dumps({"PowerLineFrequency": LINE}))
    rows = [f"{onset}\t0\t{('one', 'two')[number % 2]}" for number, onset in enumerate(ONSETS)]
    events_file = path.with_name(path.name.replace(f"_eeg{ending}", "_events.tsv"))
    events_file.write_text("\n".join(["onset\tduration\ttrial_type", *rows]) + "\n")
    return path


def by_mne(path: Path) -> NDArray[np.float64]:
    """Return the windows as MNE gives them, in the order of the reference: interpolate, line, rate, band, average."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.read_raw(path, preload=True, verbose="error").pick("eeg")
        raw.set_channel_types(dict.fromkeys(raw.ch_names, "eeg"))
        montage = mne.channels.make_standard_montage("colin27_1005")
        raw.rename_channels(lambda name: {"FP1": "Fp1", "FP2": "Fp2"}.get(name, name))
        raw.pick([name for name in raw.ch_names if name in montage.ch_names])
        absent = [name for name in STUDY.channels if name not in raw.ch_names]
        empty = mne.io.RawArray(np.zeros((2, raw.n_times)), mne.create_info(absent, 1000.0, "eeg"), verbose="error")
        raw.add_channels([empty], force_update_info=True).set_montage(montage)
        size = np.median(np.abs(np.diff(raw.get_data(), axis=1)), axis=1)[:-2]
        logs = np.log(size)
        spread = max(1.4826 * np.median(np.abs(logs - np.median(logs))), 0.1)
        odd = [name for name, log in zip(raw.ch_names, logs, strict=False) if abs(log - np.median(logs)) > 5 * spread]
        raw.info["bads"] = [*odd, *absent]
        raw.interpolate_bads(verbose="error")
        raw.notch_filter(np.array([50.0]), verbose="error")
        whole = raw.get_data(picks=list(STUDY.channels))
        short = -whole.shape[1] % 125
        last = whole[:, -1:] * np.ones((1, short))
        padded = mne.io.RawArray(np.hstack([whole, last]), mne.create_info(list(STUDY.channels), 1000.0, "eeg"))
        padded.resample(96.0, method="polyphase", verbose="error").filter(*STUDY.band, verbose="error")
        signal = padded.get_data()
    signal = signal - signal.mean(axis=0)
    scale = 1.4826 * np.median(np.abs(signal - np.median(signal, axis=1, keepdims=True)))
    begins = [round((onset - 0.2) * 96) for onset in ONSETS]
    return np.stack([signal[:, begin : begin + 96] for begin in begins]) / scale


@pytest.mark.parametrize("ending", [".edf", ".vhdr", ".set"])
def test_windows_are_those_of_an_independent_pipeline(tmp_path: Path, ending: str) -> None:
    """EDF, BrainVision and EEGLAB: the same windows within two hundredths of a deviation, and the same labels."""
    path = write(tmp_path / "look", ending)
    dataset = DataSet(name="look", root=str(tmp_path / "look"), task="look")
    (patient,) = prepare(dataset, STUDY, cache=tmp_path / "cache", pseudonym_key=KEY).patients
    expected = by_mne(path)
    assert patient.windows.shape == expected.shape
    assert patient.labels.tolist() == [0, 1, 0, 1, 0]
    # All windows lie within the filters' length of an edge, where MNE pads before resampling, and dura does it exactly.
    error = patient.windows - expected
    assert np.sqrt((error**2).mean()) < 0.02 * np.sqrt((expected**2).mean())

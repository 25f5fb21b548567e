"""MEG prepared by dura, and by an independent pipeline of MNE on the whole recording in memory."""

from __future__ import annotations

import warnings
from pathlib import Path

import mne
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.data.eeg.fif import LINE, ONSETS, RATE, raw_of, write

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.preparing.windows import WindowSource
from dura_client.data.prepare import prepare
from dura_common.study.data import MegContract

KEY = b"k" * 32
WANTED = ("MEG 0131", "MEG0113", "MEG0112", "MEG 0111")
STUDY = MegContract(
    source="meg",
    task="look",
    channels=WANTED,
    sampling_rate=96.0,
    band=(4.0, 40.0),
    window_start=-0.2,
    window_length=1.0,
    classes=("one", "two"),
    alignment="none",
    minimum_patients=1,
)
"""500 Hz to 96 Hz is 24 to 125, and the line lies in the filter's slope."""


def by_mne(path: Path, onsets: tuple[float, ...] = ONSETS) -> NDArray[np.float64]:
    """Return the windows as MNE gives them: units, line, rate, band, and one scale for the recording."""
    names = [f"MEG {''.join(name.split())[3:]}" for name in WANTED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw = mne.io.read_raw_fif(path, preload=True, verbose="error").pick(names)
        raw.notch_filter(np.array([float(LINE)]), verbose="error")
        whole = np.stack([raw.get_data(picks=[name])[0] for name in names])
        units = np.array([[{"mag": 1e15, "grad": 1e13}[raw.get_channel_types(picks=[name])[0]]] for name in names])
        short = -whole.shape[1] % 125
        padded = np.hstack([units * whole, units * whole[:, -1:] * np.ones((1, short))])
        again = mne.io.RawArray(padded, mne.create_info(names, RATE, "misc"), verbose="error")
        again.resample(96.0, method="polyphase", verbose="error").filter(*STUDY.band, picks=names, verbose="error")
        signal = again.get_data()[:, : round(whole.shape[1] * 96 / RATE)]
    scale = 1.4826 * np.median(np.abs(signal - np.median(signal, axis=1, keepdims=True)))
    begins = [round((onset - 0.2) * 96) for onset in onsets]
    return np.stack([signal[:, begin : begin + 96] for begin in begins]) / scale


def dataset(root: Path) -> DataSet:
    """Return the registration."""
    return DataSet(name="look", root=str(root), source="meg", task="look")


def test_windows_are_those_of_an_independent_pipeline(tmp_path: Path) -> None:
    """Magnetometers and gradiometers, in the study's order and units: the same windows, and the same labels."""
    path = write(tmp_path / "look", "01", raw_of(1))
    (patient,) = prepare(dataset(tmp_path / "look"), STUDY, cache=tmp_path / "cache", pseudonym_key=KEY).patients
    expected = by_mne(path)
    assert patient.windows.shape == expected.shape
    assert patient.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    error = patient.windows - expected
    # MNE pads a signal before it resamples, dura does it exactly: the edges of the recording differ a little.
    assert np.sqrt((error**2).mean()) < 0.01 * np.sqrt((expected**2).mean())
    assert np.sqrt((error[2:5] ** 2).mean()) < 1e-3 * np.sqrt((expected**2).mean())


@pytest.mark.parametrize("block", [300, 7919])
def test_the_size_of_a_block_changes_nothing(tmp_path: Path, block: int) -> None:
    """Blocks of any size give the windows of one pass over the whole."""
    write(tmp_path / "look", "01", raw_of(1))
    sources = {size: WindowSource(dataset(tmp_path / "look"), STUDY, size) for size in (None, block)}
    whole, parts = (prepared_by(source, tmp_path / str(size)) for size, source in sources.items())
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def prepared_by(source: WindowSource, work: Path) -> NDArray[np.float32]:
    """Return the windows of the only patient."""
    work.mkdir()
    ((_, items),) = source.patients()
    windows = source.arrays(items, KEY, work, None)["windows"]
    return np.concatenate(list(windows.parts()))  # type: ignore[union-attr]  # parts that are made one by one

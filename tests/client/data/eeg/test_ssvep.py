"""Real recordings through the same path: originals, units, duplicates, preparation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.client.data.eeg.ssvep_bids import (
    CHANNELS,
    CLASSES,
    TASK,
    find_data,
    from_fif,
    from_gdf,
    needs_recordings,
    write_bids,
)

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.prepare import prepare
from dura_client.data.store.fingerprint import held_by_several
from dura_common.errors import InputError
from dura_common.study import SignalContract

DATA = find_data()
pytestmark = needs_recordings

CONTRACT = SignalContract(
    task=TASK,
    channels=CHANNELS,
    sampling_rate=128.0,
    band=(8.0, 45.0),
    window_start=1.0,
    window_length=4.0,
    classes=CLASSES,
    minimum_patients=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return all eight subjects as BIDS."""
    root = tmp_path_factory.mktemp("ssvep")
    write_bids(root, list(range(1, 9)), DATA)
    return root


def dataset(root: Path, **changes: object) -> DataSet:
    """Register the folder as public."""
    return DataSet.model_validate({"name": "ssvep", "root": str(root), "task": TASK, "public": True, **changes})


def test_both_originals_of_a_recording_agree() -> None:
    """The GDF and the FIF of one recording, each off from volts by a thousand, hold the same volts and trials."""
    original = DATA / "ssvep_exo" / "original"
    gdf = from_gdf(next(original.glob("subject01*.gdf")))
    fif = from_fif(next(original.glob("subject01*_raw.fif")))
    np.testing.assert_allclose(gdf.signal, fif.signal, atol=1e-10)
    np.testing.assert_allclose(gdf.onsets, fif.onsets, atol=1 / 256 + 1e-9)
    assert gdf.names == fif.names


def test_epochs_agree_with_the_original() -> None:
    """The cut epochs are where the original says that they are, with the same classes."""
    source = DATA / "ssvep_exo"
    fif = from_fif(next((source / "original").glob("subject01*_raw.fif")))
    with np.load(source / "ssvep_exo_epochs.npz", allow_pickle=False) as archive:
        chosen = (archive["subject"] == 1) & (archive["recording"] == "2012.07.06-19.02.16")
        trials = archive["x"][chosen] * float(archive["scale_V"])
        codes = archive["y"][chosen]
    assert [CLASSES[code - 1] for code in codes] == list(fif.names[: len(codes)])
    for onset, trial in zip(fif.onsets, trials, strict=False):
        begin = round(onset * 256)
        np.testing.assert_allclose(fif.signal[:, begin : begin + 1536], trial, atol=2e-8)


def test_two_recordings_each_and_no_fault(folder: Path) -> None:
    """The duplicate and the excluded recording are gone, units are right, all four classes are there."""
    found = diagnose(dataset(folder))
    assert (found.patients, found.recordings, found.readable) == (8, 16, 16)
    assert set(found.events) == set(CLASSES)
    assert not [item for item in found.findings if item.grade is not Grade.KNOW]


def test_preparation_of_real_recordings(folder: Path, tmp_path: Path) -> None:
    """Every subject comes with two recordings in time order, about eight trials of each class in each."""
    prepared = prepare(dataset(folder), CONTRACT, cache=tmp_path, pseudonym_key=b"k" * 32)
    assert len(prepared.patients) == 8
    for patient in prepared.patients:
        assert patient.windows.shape[1:] == (8, 512)
        assert np.isfinite(patient.windows).all()
        assert sorted(set(patient.recordings.tolist())) == [0, 1]
        assert np.all(np.diff(patient.recordings) >= 0)
        assert np.bincount(patient.labels, minlength=4).min() >= 14


def test_flicker_shows_at_its_frequency(folder: Path, tmp_path: Path) -> None:
    """Prepared windows of 13 Hz carry more power at 13 Hz than windows of rest: labels and time are right."""
    prepared = prepare(dataset(folder), CONTRACT, cache=tmp_path, pseudonym_key=b"k" * 32)
    axis = np.fft.rfftfreq(512, 1 / 128)
    for name, hertz in (("13Hz", 13.0), ("17Hz", 17.0), ("21Hz", 21.0)):
        ratios = []
        for patient in prepared.patients:
            power = np.abs(np.fft.rfft(patient.windows, axis=2)) ** 2
            at = power[:, :, np.abs(axis - hertz) < 0.3].mean(axis=(1, 2))
            flicker, rest = (at[patient.labels == CLASSES.index(which)].mean() for which in (name, "rest"))
            ratios.append(flicker / rest)
        assert np.median(ratios) > 1.3


def test_the_originals_units_would_be_refused(folder: Path, tmp_path: Path) -> None:
    """Read as the FIF declares them, the same recordings are a thousand times too large, and the site says so."""
    with pytest.raises(InputError, match="unit of") as caught:
        prepare(dataset(folder, scale=1e3), CONTRACT, cache=tmp_path / "cache", pseudonym_key=b"k" * 32)
    assert "--scale 1`" in caught.value.hint


def test_the_duplicate_would_be_found(tmp_path: Path) -> None:
    """Written for both as the source has it, the recording of subjects 3 and 7 shows in the check and in the cache."""
    write_bids(tmp_path / "bids", [3, 7], DATA, both_copies=True)
    found = dataset(tmp_path / "bids")
    (fault,) = [item for item in diagnose(found).findings if item.grade is Grade.STOPS]
    assert fault.code == "COPY-SAME"
    assert "counts as 2 patients" in fault.cause
    patients = prepare(found, CONTRACT, cache=tmp_path / "cache", pseudonym_key=b"k" * 32).patients
    assert held_by_several(patient.fingerprints for patient in patients) == 1

"""Folders of a CTF system: trials that follow each other are one stretch, a jump of the clock is a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.client.data.eeg.ctf import STEP, write_ctf
from tests.client.data.importing.test_import import run

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.importing.draft import draft, text_of
from dura_client.data.importing.mapping import read_mapping
from dura_client.data.prepare import prepare
from dura_client.data.recordings.opening import open_source
from dura_common.study.data import MegContract

RATE, SIZE = 500.0, 1000
STARTS = (10.0, 12.0, 50.0, 52.0)
"""Of four trials of 2 s by the clock: the first two follow each other, and the last two."""
STUDY = MegContract(
    source="meg",
    task="look",
    channels=("MLC11", "MRC12"),
    sampling_rate=100.0,
    band=(2.0, 30.0),
    window_start=-0.25,
    window_length=0.5,
    classes=("1", "2"),
    alignment="none",
    minimum_patients=1,
)


@pytest.fixture
def recorded() -> NDArray[np.float64]:
    """Return the samples of four gradiometers, tesla."""
    return 2e-13 * np.random.default_rng(5).standard_normal((4, SIZE * len(STARTS)))


def folder(root: Path, values: NDArray[np.float64]) -> Path:
    """Write the recording of a patient: a code in each trial, one beside the seam of two trials, one beside the gap."""
    codes = np.zeros(values.shape[1], dtype=np.int64)
    for at, code in ((500, 1), (990, 2), (1500, 1), (1960, 2), (2500, 1), (3500, 2)):
        codes[at : at + 5] = code
    path = root / "sub-01" / "meg" / "sub-01_task-look_meg.ds"
    write_ctf(path, values, codes, STARTS, RATE)
    path.with_name("sub-01_task-look_meg.json").write_text('{"TaskName": "look", "PowerLineFrequency": 60}')
    return path


def dataset(root: Path) -> DataSet:
    """Return the registration."""
    return DataSet(name="look", root=str(root), source="meg", task="look")


def test_a_folder_is_a_recording_with_its_gap(tmp_path: Path, recorded: NDArray[np.float64]) -> None:
    """Samples, names, codes, one gap; a window across the seam of two trials is kept, one across the gap is lost."""
    path = folder(tmp_path / "look", recorded)
    source = open_source(path)
    np.testing.assert_allclose(source.read([0, 1, 2, 3], 0, 4000), recorded, atol=STEP)
    assert [(piece.first, piece.samples) for piece in source.pieces(RATE)] == [(0, 2000), (2000, 2000)]
    found = diagnose(dataset(tmp_path / "look"), STUDY)
    assert list(found.channels) == ["MLC11", "MLC12", "MRC11", "MRC12"]
    assert {item.code for item in found.findings} >= {"GAP-FOUND", "MEG-STATE", "CUT-LOST", "EV-FILE"}
    assert [item.code for item in found.findings if item.grade is Grade.STOPS] == []
    assert found.windows == {"01": {"1": 3, "2": 2}}
    (patient,) = prepare(dataset(tmp_path / "look"), STUDY, cache=tmp_path / "cache", pseudonym_key=b"k" * 32).patients
    assert patient.windows.shape == (5, 2, 50)
    assert patient.labels.tolist() == [0, 1, 0, 0, 1]


def test_a_changed_file_inside_a_folder_changes_what_is_prepared(tmp_path: Path, recorded: NDArray[np.float64]) -> None:
    """The name of a prepared patient depends on every file of the folder."""
    path = folder(tmp_path / "look", recorded)
    words = {"cache": tmp_path / "cache", "pseudonym_key": b"k" * 32}
    assert prepare(dataset(tmp_path / "look"), STUDY, **words).made == 1  # type: ignore[arg-type]  # of the tests
    assert prepare(dataset(tmp_path / "look"), STUDY, **words).made == 0  # type: ignore[arg-type]
    samples = path / f"{path.stem}.meg4"
    content = bytearray(samples.read_bytes())
    content[8 + 4 * 100] ^= 1
    samples.write_bytes(content)
    assert prepare(dataset(tmp_path / "look"), STUDY, **words).made == 1  # type: ignore[arg-type]


def test_a_folder_that_was_renamed_alone_is_named_with_its_reason(
    tmp_path: Path, recorded: NDArray[np.float64]
) -> None:
    """Files in a .ds folder bear the folder's name; where they do not, the finding says which are missing."""
    path = folder(tmp_path / "look", recorded)
    (path / f"{path.stem}.res4").rename(path / "patient.res4")
    (told,) = (item for item in diagnose(dataset(tmp_path / "look")).findings if item.code == "FILE-PART")
    assert "no .res4 file of the folder's name" in told.cause


def test_a_folder_is_imported_to_fif(tmp_path: Path, recorded: NDArray[np.float64]) -> None:
    """Sensors, samples and the gap come through; a change inside the folder makes the import do it again."""
    clinic = tmp_path / "clinic"
    folder(clinic / "Miller", recorded)
    mapping = read_mapping(
        text_of(draft(clinic), clinic, "look")
        .replace('line_frequency = "?"', "line_frequency = 60")
        .replace('"1" = "?"', '"1" = "one"')
        .replace('"2" = "?"', '"2" = "two"')
        .encode()
    )
    assert run(clinic, tmp_path / "out", mapping).recordings == 1
    source = open_source(next((tmp_path / "out").rglob("*_meg.fif")))
    assert [signal.label for signal in source.signals] == ["MLC11", "MLC12", "MRC11", "MRC12"]
    np.testing.assert_allclose(source.read([0, 1, 2, 3], 0, 4000), recorded, atol=STEP)
    assert [(piece.first, piece.samples) for piece in source.pieces(RATE)] == [(0, 2000), (2000, 2000)]
    assert run(clinic, tmp_path / "out", mapping).recordings == 0
    samples = next(clinic.rglob("*.meg4"))
    samples.write_bytes(samples.read_bytes() + samples.read_bytes()[8:])
    assert run(clinic, tmp_path / "out", mapping).recordings == 1

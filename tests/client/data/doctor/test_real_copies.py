"""Copies among real recordings: found where they are, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.client.data.eeg.ssvep_bids import TASK, find_data, write_bids
from tests.client.data.recordings.edf_writer import Annotated, Header, Written, write_edf

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose

DATA = find_data()
pytestmark = pytest.mark.skipif(
    DATA is None, reason="the real recordings are absent; set DURA_TEST_DATA to their folder"
)
TWINS = range(40, 45)
"""Patients of the Alzheimer's group whose recordings are bit-identical (README of the data)."""


def test_the_five_copies_among_92_people_are_named(tmp_path: Path) -> None:
    """In both conditions the five recordings under five names are one finding, and no other two are called copies."""
    assert DATA is not None
    with np.load(DATA / "alzheimer_eeg" / "alzheimer_eeg.npz", allow_pickle=False) as archive:
        for condition in ("eyes_closed", "eyes_open"):
            root = tmp_path / condition
            root.mkdir()
            (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
            for group in ("ad", "healthy"):
                people = zip(archive[f"{group}_{condition}_patient"], archive[f"{group}_{condition}"], strict=True)
                for number, signal in people:
                    _write(root, f"{group}{number:02d}", signal, [str(name) for name in archive["channels"]])
            dataset = DataSet.model_validate({"name": "x", "root": str(root), "task": "rest"})
            copies = [item for item in diagnose(dataset).findings if item.code.startswith("COPY")]
            assert [item.code for item in copies] == ["COPY-SAME"]
            for number in TWINS:
                assert f"sub-ad{number}" in copies[0].place + copies[0].cause
            assert (copies[0].place + copies[0].cause).count("_eeg.edf") == len(TWINS)


def test_the_recording_of_two_people_is_the_only_copy(tmp_path: Path) -> None:
    """Among 17 recordings of eight people, the one that is filed under two of them is found."""
    write_bids(tmp_path / "bids", list(range(1, 9)), DATA, both_copies=True)
    dataset = DataSet.model_validate({"name": "x", "root": str(tmp_path / "bids"), "task": TASK, "public": True})
    copies = [item for item in diagnose(dataset).findings if item.code.startswith("COPY")]
    assert [item.code for item in copies] == ["COPY-SAME"]


def _write(root: Path, label: str, signal: np.ndarray, channels: list[str]) -> None:
    folder = root / f"sub-{label}" / "eeg"
    folder.mkdir(parents=True)
    stored = np.clip(np.round(signal.astype(np.float64) * 20), -32768, 32767).astype(np.int64)
    signals = [
        Written(name, row, 128, "uV", ("-1638.4", "1638.35")) for name, row in zip(channels, stored, strict=True)
    ]
    seconds = stored.shape[1] // 128
    write_edf(
        folder / f"sub-{label}_task-rest_eeg.edf", signals, Header(), Annotated([float(k) for k in range(seconds)])
    )

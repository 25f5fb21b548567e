"""Copies among real recordings: found where they are, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from tests.client.data.eeg.ssvep_bids import TASK, find_data, needs_recordings, write_bids
from tests.client.data.recordings.edf_writer import Annotated, Header, Written, write_edf
from tests.support.commands import answer
from tests.support.studies import Only, study_data

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.errors import InputError

DATA = find_data()
pytestmark = needs_recordings
TWINS = range(40, 45)
"""Patients of the Alzheimer's group whose recordings are bit-identical (README of the data)."""


def write_people(root: Path, condition: str) -> None:
    """Write the 92 people of one condition as a BIDS folder with their diagnosis."""
    assert DATA is not None
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    rows = ["participant_id\tdiagnosis"]
    with np.load(DATA / "alzheimer_eeg" / "alzheimer_eeg.npz", allow_pickle=False) as archive:
        channels = [str(name) for name in archive["channels"]]
        for group in ("ad", "healthy"):
            people = zip(archive[f"{group}_{condition}_patient"], archive[f"{group}_{condition}"], strict=True)
            for number, signal in people:
                _write(root, f"{group}{number:02d}", signal, channels)
                rows.append(f"sub-{group}{number:02d}\t{group}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("condition", ["eyes_closed", "eyes_open"])
def test_the_five_copies_among_92_people_are_named(tmp_path: Path, condition: str) -> None:
    """`check --json` names the five recordings under five names as one finding and calls no other two copies."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\nprepare_processes = 1\n')
    SiteKeys(site).create()
    write_people(tmp_path / "bids", condition)
    words = ("--task", "rest", "--label", "healthy=control", "--home", site)
    answer("site", "data", "add", "rest", tmp_path / "bids", *words, here=True)
    words = ("check", "rest", "--home", site)
    check = answer("site", "data", *words, code=InputError.exit_code, here=True)["check"]
    copies = [item for item in check["findings"] if item["code"].startswith(("COPY", "SAME"))]
    assert [item["code"] for item in copies] == ["COPY-SAME"]
    named = set(re.findall(r"sub-([a-z]+\d+)_task", copies[0]["place"] + copies[0]["cause"]))
    assert named == {f"ad{number}" for number in TWINS}
    asked = study_data(
        sites={"north": 92, "south": 92},
        data=Only(
            {
                "cut": "segments",
                "label": "participant",
                "column": "diagnosis",
                "task": "rest",
                "channels": ["F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "O2"],
                "sampling_rate": 64.0,
                "band": [1.0, 30.0],
                "window_length": 4.0,
                "classes": ["control", "ad"],
                "minimum_patients": 10,
            }
        ),
    )
    study = tmp_path / "study.toml"
    study.write_bytes(tomli_w.dumps(asked).encode())
    prepared = answer("site", "data", "prepare", "rest", "--study", study, "--home", site, here=True)["prepared"]
    people = sum(1 for _ in (tmp_path / "bids").glob("sub-*"))
    assert (prepared["patients"], prepared["windows"]) == (people, 2 * people)


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

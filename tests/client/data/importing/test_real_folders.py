"""Every real file that lies at hand imports, or is refused with its true reason; originals are only read."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.client.data.eeg.ssvep_bids import find_data, needs_recordings

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.importing.draft import draft, text_of
from dura_client.data.importing.mapping import Mapping, read_mapping
from dura_client.data.importing.run import import_folder, label_of
from dura_client.data.recordings.opening import open_source

DATA = find_data()
pytestmark = needs_recordings
KEY = b"k" * 32
EXPECTED: dict[str, dict[str, str]] = {
    "clinical/tuh": {},
    "clinical/siena": {},
    "clinical/seizeit": {},
    "clinical/chbmit": dict.fromkeys(("chb05/chb05_01.edf", "chb05/chb05_06.edf", "chb05/chb05_13.edf"), "CH-BIP"),
    "clinical/sleep": {
        "short_psg.edf": "CH-BIP",
        "short_psg.bdf": "CH-BIP",
        "SC4001EC-Hypnogram.edf": "HYP-ONLY",
    },
    "formats": {
        "brainvision/test_NO.vhdr": "CH-ABC",
        "edf/mne_test_reduced.edf": "CH-ABC",
        "eeglab/test_raw_2021.set": "CH-NAME",
        "gdf/mne_test_1ch.gdf": "CH-NAME",
        "odd/datarecord_half_second.bdf": "CH-NAME",
        "odd/duplicate_channel_labels.edf": "",
        "odd/test_uneven_samp.edf": "CH-NAME",
    },
}
"""Folder to the files that are refused, and why; an empty reason: imported with a loss that is told."""


def answered(text: str) -> Mapping:
    """Return a draft with an answer in the place of every question, as a person gives it."""
    text = re.sub(r'line_frequency = "\?"', "line_frequency = 50", text)
    text = re.sub(r'task = "\?"', 'task = "rest"', text)
    events, found = text.split("[events]")
    found = re.sub(
        r'^"(.*)" = "\?"', lambda match: f'"{match[1]}" = "c{abs(hash(match[1])) % 997}"', found, flags=re.MULTILINE
    )
    units = re.sub(r'^"(.*)" = "\?"', r'"\1" = "uV"', events, flags=re.MULTILINE)
    return read_mapping((units + "[events]" + found).encode())


def state(root: Path) -> dict[str, tuple[str, int]]:
    """Return digest and time of change of everything in a folder."""
    return {
        str(path.relative_to(root)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime_ns,
        )
        for path in root.rglob("*")
    }


@pytest.fixture
def originals(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a read-only copy of a folder."""
    assert DATA is not None
    root = tmp_path / "originals"
    shutil.copytree(DATA / request.param, root)
    for path in (*root.rglob("*"), root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root


@pytest.mark.parametrize(("originals", "folder"), [(name, name) for name in EXPECTED], indirect=["originals"])
def test_each_file_imports_or_has_its_reason(originals: Path, folder: str, tmp_path: Path) -> None:
    """What cannot be used is named with its cause, the rest is a sound BIDS folder, and no original changed."""
    before = state(originals)
    made = draft(originals)
    done = import_folder(originals, tmp_path / "out", answered(text_of(made, originals, None)), key=KEY)
    assert state(originals) == before
    refused = {
        item.place: item.code
        for item in (*made.findings, *done.findings)
        if item.place in done.left_out or item in made.findings
    }
    assert refused == {place: code for place, code in EXPECTED[folder].items() if code}
    files = len([path for path in originals.rglob("*") if path.suffix in {".edf", ".bdf", ".vhdr", ".set", ".gdf"}])
    assert done.recordings == files - len(refused)
    if not done.recordings:
        return
    task = "rest" if folder == "formats" else "seizure"
    dataset = DataSet.model_validate({"name": "x", "root": str(tmp_path / "out"), "task": task})
    found = diagnose(dataset)
    assert found.readable == done.recordings
    assert not {item.code for item in found.findings} & {
        "FILE-KNOWN",
        "SIDE-JSON",
        "SIDE-TABLE",
        "EV-SEP",
        "CH-TYPE",
        "CH-UNIT",
        "ID-HEAD",
    }


@pytest.mark.parametrize("originals", ["clinical/siena"], indirect=True)
def test_samples_names_and_seizures_are_those_of_the_original(originals: Path, tmp_path: Path) -> None:
    """MNE reads the same microvolts from original and import; a seizure beyond the excerpt's end is told."""
    mapping = answered(text_of(draft(originals), originals, None)).model_copy(update={"columns": ("age", "sex")})
    done = import_folder(originals, tmp_path / "out", mapping, key=KEY)
    label = label_of("PN00", KEY)
    stem = tmp_path / "out" / f"sub-{label}" / "eeg" / f"sub-{label}_task-seizure_run-1"
    theirs = mne.io.read_raw_edf(originals / "PN00" / "PN00-1.edf", preload=True, verbose="warning")
    mine = mne.io.read_raw_brainvision(f"{stem}_eeg.vhdr", preload=True, verbose="warning")
    assert mine.info["sfreq"] == theirs.info["sfreq"]
    for name, original in (("Fp1", "EEG Fp1"), ("T7", "EEG T3"), ("FC5", "EEG Fc5")):
        np.testing.assert_allclose(mine.get_data(name), theirs.get_data(original), rtol=1e-6, atol=1e-12)
    assert "EKG EKG" not in mine.ch_names
    assert {item.code for item in done.findings} >= {"EV-END"}
    assert (tmp_path / "out" / "participants.tsv").read_text() == f"participant_id\tage\tsex\nsub-{label}\t55\tM\n"
    assert open_source(Path(f"{stem}_eeg.vhdr")).identity == ()

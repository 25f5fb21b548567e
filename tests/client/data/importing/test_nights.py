"""Nights whose stages lie in an EDF file of their own: from a clinic's folder to a prepared data set, by commands.

Both files are written by edfio, which shares no code with dura.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date, time
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import tomli_w
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording
from tests.client.data.eeg.ssvep_bids import find_data, needs_recordings
from tests.client.data.importing.test_import import KEY
from tests.support.commands import answer
from tests.support.studies import study

from dura_client.data.dataset import DataSet
from dura_client.data.importing.draft import STAGES as STAGE_NAMES
from dura_client.data.importing.draft import draft, text_of
from dura_client.data.importing.mapping import read_mapping
from dura_client.data.importing.opened import opened
from dura_client.data.importing.run import import_folder, label_of
from dura_client.data.prepare import prepare
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.study import SignalContract

DATA = find_data()
RATE = 100
STAGES = ("Sleep stage W", "Sleep stage 1", "Sleep stage 2", "Sleep stage 4", "Sleep stage R", "Sleep stage ?")
LENGTHS = (60, 30, 90, 60, 60, 30)
BEGIN = 15
"""Seconds by which the recording starts before its hypnogram."""
SECONDS = BEGIN + sum(LENGTHS)
CHANNELS = ("EEG C3-M2", "EEG C4-M1", "EEG O1-M2", "EEG O2-M1", "EOG horizontal", "EMG submental")


def psg(path: Path, day: int, seed: int, channels: Sequence[str] = CHANNELS) -> None:
    """Write a night's recording that starts at 16:13:00, whose first electrode's size tells the stage."""
    rng = np.random.default_rng(seed)
    size = np.repeat([1.0, *range(1, 7)], [BEGIN * RATE, *(length * RATE for length in LENGTHS)])
    signals = []
    for number, label in enumerate(channels):
        values = 10 * rng.standard_normal(SECONDS * RATE) * (size if number == 0 else 3)
        signals.append(
            EdfSignal(
                np.clip(values, -499, 499), RATE, label=label, physical_dimension="uV", physical_range=(-500, 500)
            )
        )
    Edf(signals, patient=Patient(name="Mary_Miller"), recording=_recording(day), starttime=time(16, 13, 0)).write(path)


def hypnogram(path: Path, day: int, second: int = BEGIN) -> None:
    """Write a night's stages, annotations alone, in a file that starts some seconds later."""
    onsets = np.cumsum([0, *LENGTHS[:-1]])
    marks = [
        EdfAnnotation(float(onset), float(length), stage)
        for onset, length, stage in zip(onsets, LENGTHS, STAGES, strict=True)
    ]
    Edf([], recording=_recording(day), starttime=time(16, 13, second), annotations=marks).write(path)


def _recording(day: int) -> Recording:
    return Recording(startdate=date(1989, 4, day))


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Return a folder as PhysioNet's: three people, the first with two nights, all files beside each other."""
    root = tmp_path / "cassette"
    root.mkdir()
    for number, name in enumerate(("SC4001", "SC4002", "SC4011", "SC4021")):
        psg(root / f"{name}E0-PSG.edf", 20 + number, number)
        hypnogram(root / f"{name}EC-Hypnogram.edf", 20 + number)
    return root


def command(*words: object) -> Any:
    """Run `dura site data ...` here."""
    return answer("site", "data", *words, here=True)


def test_from_a_folder_of_nights_to_a_prepared_data_set(clinic: Path, tmp_path: Path) -> None:
    """Draft, import, register, check and prepare: windows of 30 s carry the stages of the file beside the night."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\nprepare_processes = 1\n')
    SiteKeys(site).create()
    drafted = command("import", clinic, "--draft", tmp_path / "m.toml")
    assert (drafted["layout"], drafted["recordings"], drafted["findings"]) == ("sleepedf", 4, [])
    text = (tmp_path / "m.toml").read_text().replace('line_frequency = "?"', "line_frequency = 50")
    (tmp_path / "m.toml").write_text(text.replace('"REM"', '"R"'))
    out = tmp_path / "bids"
    done = command("import", clinic, out, "--mapping", tmp_path / "m.toml", "--home", site)["import"]
    assert done["events"] == {"W": 4, "N1": 4, "N2": 4, "N3": 4, "R": 4}
    assert {item["code"] for item in done["findings"]} >= {"HYP-USED"}
    assert not {"HYP-PAIR", "IMP-LIST"} & {item["code"] for item in done["findings"]}
    command("add", "nights", out, "--task", "sleep", "--home", site)
    check = command("check", "nights", "--home", site)["check"]
    assert not check["stops"]
    assert check["patients"] == 3
    values = study(
        data={
            "task": "sleep",
            "cut": "segments",
            "label": "annotation",
            "channels": ["C3", "C4", "O1", "O2"],
            "sampling_rate": 64.0,
            "band": [0.5, 30.0],
            "window_start": 0.0,
            "window_length": 30.0,
            "classes": ["W", "N1", "N2", "N3", "R"],
            "minimum_patients": 3,
            "alignment": "none",
        }
    ).model_dump(mode="json", exclude_none=True)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(values))
    against = command("check", "nights", "--study", tmp_path / "study.toml", "--home", site)["check"]
    one_night = {"W": 2, "N1": 1, "N2": 3, "N3": 2, "R": 2}
    both = f"{label_of('SC400', SiteKeys(site).pseudonym_key())}"
    assert against["windows"][both] == {stage: 2 * count for stage, count in one_night.items()}
    assert sorted(sum(count.values()) for count in against["windows"].values()) == [10, 10, 20]
    prepared = command("prepare", "nights", "--study", tmp_path / "study.toml", "--home", site)["prepared"]
    assert prepared["patients"] == 3
    sizes = []
    for entry in (site.cache).rglob("windows.npy"):
        windows, labels = np.load(entry), np.load(entry.with_name("labels.npy"))
        sizes.append([windows[labels == stage].std(axis=(1, 2)).mean() for stage in range(5)])
    assert len(sizes) == 3
    for row in sizes:  # the average reference spreads C3's size, which rises from stage to stage, over the channels
        assert row == sorted(row)


@needs_recordings
def test_a_real_hypnogram_gives_every_epoch_that_mne_reads(tmp_path: Path) -> None:
    """A night of PhysioNet's, with noise for its signal: the windows of each stage are MNE's stages over 30 s."""
    assert DATA is not None
    root = tmp_path / "cassette"
    root.mkdir()
    stages = root / "SC4001EC-Hypnogram.edf"
    shutil.copy(DATA / "clinical" / "sleep" / stages.name, stages)
    rng, rate, seconds = np.random.default_rng(0), 32, 79_500
    noise = np.clip(20 * rng.standard_normal((2, seconds * rate)), -499, 499)
    pair = [
        EdfSignal(row, rate, label=label, physical_dimension="uV", physical_range=(-500, 500))
        for row, label in zip(noise, CHANNELS, strict=False)
    ]
    Edf(pair, recording=_recording(24), starttime=time(16, 13, 0)).write(root / "SC4001E0-PSG.edf")
    text = text_of(draft(root), root, None).replace('line_frequency = "?"', "line_frequency = 50")
    import_folder(root, tmp_path / "bids", read_mapping(text.encode()), key=KEY)
    contract = SignalContract(
        task="sleep",
        cut="segments",
        label="annotation",
        channels=("C3", "C4"),
        sampling_rate=32.0,
        band=(0.5, 12.0),
        window_length=30.0,
        classes=("W", "N1", "N2", "N3", "REM"),
        minimum_patients=1,
    )
    dataset = DataSet(name="nights", root=str(tmp_path / "bids"), task="sleep")
    (patient,) = prepare(dataset, contract, cache=tmp_path / "cache", pseudonym_key=KEY).patients
    expected = dict.fromkeys(contract.classes, 0.0)
    for mark in mne.read_annotations(stages):
        name = STAGE_NAMES.get(mark["description"].lower(), "")
        if name:
            expected[name] += mark["duration"] / 30
    counts = np.bincount(patient.labels, minlength=5)
    assert dict(zip(contract.classes, counts.tolist(), strict=True)) == expected


def test_a_night_takes_the_hypnogram_of_its_own_name(clinic: Path) -> None:
    """The second night of a person does not look at the first night's stages, which begin a day earlier."""
    with opened(clinic / "SC4002E0-PSG.edf") as found:
        assert "stages come from SC4002EC-Hypnogram.edf" in found.notes[0].cause
        assert found.hypnogram[0].onset == BEGIN


def test_a_night_without_stages_takes_nobody_elses(clinic: Path) -> None:
    """Where all files start alike, as after an anonymisation, a hypnogram belongs to the nearest name alone."""
    for path in clinic.iterdir():
        path.unlink()
    psg(clinic / "night01.edf", 20, 0)
    psg(clinic / "night02.edf", 20, 1)
    hypnogram(clinic / "night02_stages.edf", 20)
    with opened(clinic / "night01.edf") as found:
        assert found.hypnogram == ()
    with opened(clinic / "night02.edf") as found:
        assert len(found.hypnogram) == len(STAGES)
    hypnogram(clinic / "night02_other.edf", 20)
    with opened(clinic / "night02.edf") as found:
        assert found.hypnogram == ()
        assert found.notes[0].code == "HYP-PAIR"
        assert "which is its own" in found.notes[0].cause


def test_pairs_of_electrodes_are_refused_with_their_reason(clinic: Path, tmp_path: Path) -> None:
    """The public nights themselves hold Fpz-Cz and Pz-Oz: differences of two electrodes are no electrodes."""
    psg(clinic / "SC4001E0-PSG.edf", 20, 0, ("EEG Fpz-Cz", "EEG Pz-Oz"))
    text = text_of(draft(clinic), clinic, None).replace('line_frequency = "?"', "line_frequency = 50")
    done = import_folder(clinic, tmp_path / "bids", read_mapping(text.encode()), key=KEY)
    assert done.left_out == ("SC4001E0-PSG.edf",)
    assert "CH-BIP" in {item.code for item in done.findings if item.place == "SC4001E0-PSG.edf"}

"""The simulator writes valid BIDS folders that differ as hospitals do and hold a task that can be learnt."""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest
from mne_bids import BIDSPath, read_raw_bids
from tests.support.running import TASK

from dura_client.data.dataset import is_simulated
from dura_client.data.eeg.sensors.amplitude import amplitude_of
from dura_client.data.simulated.hospitals import HOSPITALS
from dura_client.data.simulated.simulate import DEMO, simulate
from dura_common.errors import HostError, InputError, StateError


def read(root: Path, subject: str = "001") -> mne.io.BaseRaw:
    """Read a recording as anybody would, through mne-bids."""
    raw = read_raw_bids(BIDSPath(root=root, subject=subject, task=TASK, datatype="eeg"), verbose="error")
    return raw.load_data(verbose="error")


@pytest.mark.parametrize("name", HOSPITALS)
def test_each_hospital_reads_back_with_its_own_habits(hospitals: Path, name: str) -> None:
    """Channels, rate, line, event codes and unit are those of the hospital's profile."""
    profile = HOSPITALS[name]
    raw = read(hospitals / name)
    assert tuple(raw.ch_names) == profile.channels
    assert raw.info["sfreq"] == profile.rate
    assert raw.info["line_freq"] == profile.line
    assert set(raw.annotations.description) == set(profile.codes)
    assert len(raw.annotations) == 8
    assert 0.5 < amplitude_of(raw.get_data()) / profile.stored_scale < 500


@pytest.mark.parametrize("name", HOSPITALS)
def test_sidecars_say_what_bids_requires(hospitals: Path, name: str) -> None:
    """Reference, line and rate are declared, and the folder says that nobody was recorded."""
    sidecar = json.loads((hospitals / name / f"sub-001/eeg/sub-001_task-{TASK}_eeg.json").read_text())
    assert sidecar["PowerLineFrequency"] == HOSPITALS[name].line
    assert sidecar["SamplingFrequency"] == HOSPITALS[name].rate
    assert sidecar["EEGReference"] != "n/a"
    assert is_simulated(hospitals / name)
    assert len((hospitals / name / "participants.tsv").read_text().splitlines()) == 4


def test_same_seed_same_recordings(hospitals: Path, tmp_path: Path) -> None:
    """The seed decides everything, whatever the number of patients; another seed is other people."""
    simulate(tmp_path / "again", "west", patients=2, trials=8, seed=7)
    simulate(tmp_path / "other", "west", patients=1, trials=8, seed=8)
    for subject in ("001", "002"):
        np.testing.assert_array_equal(
            read(tmp_path / "again", subject).get_data(), read(hospitals / "west", subject).get_data()
        )
    assert not np.array_equal(read(tmp_path / "other").get_data(), read(hospitals / "west").get_data())


def test_patients_differ(hospitals: Path) -> None:
    """No two patients share a recording."""
    first, second = (read(hospitals / "north", subject).get_data() for subject in ("001", "002"))
    assert not np.array_equal(first, second)


def test_imagined_hand_weakens_the_opposite_hemisphere(tmp_path: Path) -> None:
    """Mu power over C3 against C4 falls when the right hand is imagined: the physiology that a model must find."""
    simulate(tmp_path / "north", "north", patients=4, trials=40, seed=3)
    contrasts = []
    for subject in ("001", "002", "003", "004"):
        raw = read(tmp_path / "north", subject).filter(8, 13, verbose="error")
        signal, rate = raw.get_data(picks=["C3", "C4"]), raw.info["sfreq"]
        asymmetry: dict[str, list[float]] = {"left_hand": [], "right_hand": []}
        for onset, code in zip(raw.annotations.onset, raw.annotations.description, strict=True):
            begin, end = (round((onset + edge) * rate) for edge in DEMO.active)
            left, right = np.log(signal[:, begin:end].var(axis=1))
            asymmetry[str(code)].append(float(left - right))
        contrasts.append(np.mean(asymmetry["left_hand"]) - np.mean(asymmetry["right_hand"]))
    assert np.mean(contrasts) > 0.1


def test_unknown_hospital_is_refused(tmp_path: Path) -> None:
    """A typing error in the name writes nothing."""
    with pytest.raises(InputError, match="unknown hospital"):
        simulate(tmp_path / "out", "nort", patients=1, trials=2, seed=1)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A folder with anything in it stays as it is."""
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(StateError, match="not empty"):
        simulate(tmp_path, "north", patients=1, trials=2, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    """A file where a folder should be is the machine's fault, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot write the recordings"):
        simulate(tmp_path / "file" / "out", "north", patients=1, trials=2, seed=1)

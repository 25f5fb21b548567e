"""Simulated patients for whatever a contract asks: channels, rates, bands, windows, classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dura_client.data.dataset import DataSet, is_simulated
from dura_client.data.prepare import PatientData, prepare
from dura_client.data.simulated.kinds import simulate_for
from dura_client.data.simulated.paradigm import JITTER_SECONDS, Paradigm, hospital_for, paradigm_of
from dura_common.errors import InputError
from dura_common.study import SignalContract

CONTRACTS = {
    "flicker": SignalContract(
        task="flicker",
        channels=("Oz", "O1", "PO7", "POz", "PO4"),
        sampling_rate=160.0,
        band=(6.0, 60.0),
        window_start=1.0,
        window_length=4.0,
        classes=("rest", "13Hz", "17Hz", "21Hz"),
        minimum_patients=2,
    ),
    "sleepy": SignalContract(
        task="naps",
        channels=("F3", "FCC3h", "C4"),
        sampling_rate=64.0,
        band=(0.5, 8.0),
        window_start=-1.5,
        window_length=3.0,
        classes=("awake", "asleep"),
        minimum_patients=2,
    ),
}


def made(folder: Path, contract: SignalContract, site: int, **numbers: int) -> tuple[PatientData, ...]:
    """Simulate and prepare some patients."""
    simulate_for(folder, contract, site, **{"first": 1, "patients": 2, "trials": 8, "seed": 3, **numbers})
    data = DataSet(name="practice", root=str(folder), task=contract.task, simulated=is_simulated(folder))
    few = contract.model_copy(update={"minimum_patients": 1})
    return prepare(data, few, cache=folder.with_suffix(".cache"), pseudonym_key=b"k" * 32).patients


@pytest.mark.parametrize("name", CONTRACTS)
@pytest.mark.parametrize("site", [1, 3])
def test_a_contract_is_fulfilled_with_every_window_whole(tmp_path: Path, name: str, site: int) -> None:
    """All trials become windows of the contract's shape, all classes are there, and the folder says it is simulated."""
    contract = CONTRACTS[name]
    patients = made(tmp_path / "bids", contract, site)
    assert is_simulated(tmp_path / "bids")
    for patient in patients:
        assert patient.windows.shape == (8, len(contract.channels), contract.window_samples)
        assert np.isfinite(patient.windows).all()
        assert np.bincount(patient.labels).tolist() == [8 // len(contract.classes)] * len(contract.classes)


def test_the_same_patients_however_they_are_divided(tmp_path: Path) -> None:
    """Patient 3 of a site is the same person whether simulated alone or with others; other sites and seeds differ."""
    contract = CONTRACTS["sleepy"]

    def third(name: str, site: int = 0, **numbers: int) -> np.ndarray:
        return max(made(tmp_path / name, contract, site, **numbers), key=lambda one: one.key).windows

    alone = third("alone", first=3, patients=1)
    together = made(tmp_path / "together", contract, 0, first=1, patients=3)
    assert sum(np.array_equal(alone, patient.windows) for patient in together) == 1
    assert not np.array_equal(alone, third("elsewhere", site=1, first=3, patients=1))
    assert not np.array_equal(alone, third("later", first=3, patients=1, seed=4))


@pytest.mark.parametrize("name", CONTRACTS)
def test_there_is_something_to_learn(tmp_path: Path, name: str) -> None:
    """Windows of one class are more alike in power than windows of different classes, in most patients."""
    contract = CONTRACTS[name]
    patients = made(tmp_path / "bids", contract, 0, patients=6, trials=40)
    correct = []
    for patient in patients:
        power = np.log(patient.windows.var(axis=2))
        near = np.linalg.norm(power[:, None] - power[None], axis=2)
        np.fill_diagonal(near, np.inf)
        neighbours = patient.labels[np.argsort(near, axis=1)[:, :5]]
        votes = [np.bincount(row, minlength=len(contract.classes)).argmax() for row in neighbours]
        correct.append(np.mean(np.array(votes) == patient.labels))
    assert np.mean(correct) > 1 / len(contract.classes) + 0.08


def test_unknown_channels_write_nothing(tmp_path: Path) -> None:
    """A channel that no system knows is one clear error."""
    contract = CONTRACTS["sleepy"].model_copy(update={"channels": ("C3", "Q7")})
    with pytest.raises(InputError, match="Q7"):
        simulate_for(tmp_path / "bids", contract, 0, first=1, patients=1, trials=4, seed=1)
    assert not (tmp_path / "bids").exists()


def test_the_demo_contract_is_the_demo_paradigm() -> None:
    """What the demo always simulated is the paradigm of its own contract."""
    contract = SignalContract(
        task="motorimagery",
        channels=("C3", "C4"),
        sampling_rate=128.0,
        band=(4.0, 38.0),
        window_start=0.5,
        window_length=2.0,
        classes=("left_hand", "right_hand"),
    )
    assert paradigm_of(contract) == Paradigm()
    assert paradigm_of(contract).trial_seconds == 4.5


@given(
    start=st.floats(-60, 60),
    length=st.floats(0.1, 120),
    low=st.floats(0.1, 30),
    width=st.floats(0.5, 60),
    classes=st.integers(2, 12),
    site=st.integers(0, 500),
)
def test_every_window_lies_in_its_trial(
    start: float, length: float, low: float, width: float, classes: int, site: int
) -> None:
    """Whatever a contract asks, its windows fit into a trial, and its band below half the sampling rate."""
    contract = SignalContract(
        task="any",
        channels=("C3", "C4"),
        sampling_rate=4096,
        band=(low, low + width),
        window_start=start,
        window_length=length,
        classes=tuple(f"class-{number}" for number in range(classes)),
    )
    paradigm, profile = paradigm_of(contract), hospital_for(contract, site)
    assert paradigm.cue_seconds + start >= 0
    assert paradigm.cue_seconds + JITTER_SECONDS + start + length <= paradigm.trial_seconds
    assert paradigm.active[0] <= start
    assert paradigm.active[1] >= start + length
    assert low <= paradigm.rhythm <= low + width
    assert len(set(paradigm.areas)) == classes
    assert profile.rate > 2 * (low + width)
    assert {name.lower() for name in contract.channels} <= {name.lower() for name in profile.channels}

"""Simulated MEG: of each hospital, for whatever a contract asks, the same for the same seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dura_client.data.dataset import is_simulated
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.prepare import PreparedData, prepare
from dura_client.data.recordings.opening import open_source
from dura_client.data.simulated.hospitals import MEG_HOSPITALS
from dura_client.data.simulated.kinds import dataset_for, simulate_for, simulate_kind
from dura_common.errors import InputError
from dura_common.study.data import MegContract

EVENTS: dict[str, Any] = {
    "source": "meg",
    "task": "look",
    "channels": ("MEG0233", "MEG0232", "MEG1111", "MEG1133"),
    "sampling_rate": 64.0,
    "band": (4.0, 30.0),
    "window_length": 1.0,
    "classes": ("a", "b"),
    "minimum_patients": 1,
}
ASKED = {
    "events": EVENTS,
    "stages": {**EVENTS, "cut": "segments", "label": "annotation"},
    "diagnosis": {**EVENTS, "cut": "segments", "label": "participant", "column": "group"},
}


def prepared(root: Path, contract: MegContract, site: int = 0) -> PreparedData:
    """Simulate two patients for a contract and prepare them."""
    simulate_for(root, contract, site, first=1, patients=2, trials=8, seed=3)
    words: dict[str, Any] = {"cache": root.with_suffix(".cache"), "pseudonym_key": b"k" * 32}
    return prepare(dataset_for("practice", root, contract), contract, **words)


@pytest.mark.parametrize("name", ASKED)
def test_a_contract_is_fulfilled(tmp_path: Path, name: str) -> None:
    """Events, annotated stretches and answers of patients become windows of every class."""
    contract = MegContract.model_validate(ASKED[name])
    done = prepared(tmp_path / "bids", contract)
    assert is_simulated(tmp_path / "bids")
    assert len(done.patients) == 2
    assert {int(label) for patient in done.patients for label in patient.labels} == {0, 1}
    for patient in done.patients:
        assert patient.windows.shape[1:] == (4, 64)
        assert np.isfinite(patient.windows).all()


def test_the_same_seed_makes_the_same_patients(tmp_path: Path) -> None:
    """Samples are equal for a seed, and differ between sites."""
    contract = MegContract.model_validate(EVENTS)
    windows = [
        [patient.windows for patient in prepared(tmp_path / f"{number}", contract, site).patients]
        for number, site in enumerate((0, 0, 1))
    ]
    assert all((a == b).all() for a, b in zip(windows[0], windows[1], strict=True))
    assert not any((a == b).all() for a, b in zip(windows[0], windows[2], strict=True))


def test_a_sensor_that_nobody_has_is_refused(tmp_path: Path) -> None:
    """The simulated helmet has MEGIN's names; a study of another system cannot be rehearsed, and is told so."""
    contract = MegContract.model_validate({**EVENTS, "channels": ("MLC11", "MLC12")})
    with pytest.raises(InputError, match="the simulated helmet has no sensor MLC11, MLC12"):
        simulate_for(tmp_path / "bids", contract, 0, first=1, patients=1, trials=8, seed=3)


@pytest.mark.parametrize("hospital", MEG_HOSPITALS)
def test_each_hospital_is_sound(tmp_path: Path, hospital: str) -> None:
    """The check finds nothing that is lost; sizes are those of a shielded room, in both kinds of sensors."""
    wrote = simulate_kind(tmp_path / "bids", "meg", hospital, patients=1, trials=4, minutes=1.0, seed=1, progress=None)
    assert wrote.options[:4] == ("--source", "meg", "--task", "motorimagery")
    contract = MegContract.model_validate({**EVENTS, "task": "motorimagery"})
    labels = dict(word.split("=") for word in wrote.options[5::2])
    found = diagnose(dataset_for("practice", tmp_path / "bids", contract).model_copy(update={"labels": labels}))
    assert set(found.events) == {"left_hand", "right_hand"}
    assert [item for item in found.findings if item.grade is not Grade.KNOW] == []
    assert found.rates == {MEG_HOSPITALS[hospital].rate: 1}
    source = open_source(next((tmp_path / "bids").rglob("*_meg.fif")))
    for kind, unit in (("MEGMAG", 1e-15), ("MEGGRADPLANAR", 1e-13)):
        indices = [index for index, signal in enumerate(source.signals) if signal.kind == kind]
        assert bool(indices) == (kind != "MEGMAG" or hospital != "east")
        if indices:
            assert 10 < deviation(source.read(indices, 0, 2000)) / unit < 5000


def deviation(values: NDArray[np.float64]) -> float:
    """Return the median standard deviation of sensors."""
    return float(np.median(values.std(axis=1)))

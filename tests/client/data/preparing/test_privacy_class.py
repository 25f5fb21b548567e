"""Preparation steps say what they depend on, they keep their word, and an unpaid statistic over patients is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.studies import connectome_study

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare, steps_of
from dura_client.data.privacy_class import PrivacyClass, Step, declares, refuse_unpaid, step_of
from dura_client.training.engine import PatientEngine
from dura_common.errors import PolicyError
from dura_common.models import build, to_vector
from dura_common.privacy import Gaussian
from dura_common.study import SignalContract

KEY = b"k" * 32


@declares(PrivacyClass.CROSS_PATIENT)
def centred_by_site(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Subtract the mean of the site's patients: local, and yet each patient moves every other's row."""
    return windows - windows.mean(axis=0)


def undeclared(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Do nothing, and vouch for nothing."""
    return windows


def test_a_site_mean_never_reaches_a_release() -> None:
    """The engine refuses patients that a site's mean was subtracted from, before it touches the model."""
    study = connectome_study()
    network = build(study.model, channels=1, samples=10, classes=2, sampling_rate=64, seed=1).eval()
    before = to_vector(network)
    with pytest.raises(PolicyError, match=r"centred_by_site .* nobody paid for"):
        PatientEngine(network, study, preparation=[step_of(centred_by_site)])
    assert not network.training
    assert np.array_equal(to_vector(network), before)


def test_a_site_mean_really_breaks_the_bound() -> None:
    """Why it is refused: with it, removing one patient moves the sum by far more than the bound that is accounted."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(20, 10)) + 0.2
    rows[0] = 100.0

    def released(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        centred = centred_by_site(vectors)
        total: NDArray[np.float64] = (centred / np.linalg.norm(centred, axis=1, keepdims=True)).sum(axis=0)
        return total

    assert np.linalg.norm(released(rows) - released(rows[1:])) > 3


def test_a_step_that_declares_nothing_is_refused() -> None:
    """What nobody vouches for has no privacy class, and no default lets it through."""
    with pytest.raises(PolicyError, match="undeclared declares no privacy class"):
        step_of(undeclared)


def test_a_paid_step_needs_its_payment_in_the_ledger() -> None:
    """A noisy centre passes with the event that bought it, and with no other."""
    bought = Gaussian(noise_multiplier=5.0)
    step = Step("noisy_centre", PrivacyClass.PAID, bought)
    refuse_unpaid([step], paid=[bought])
    for paid in ([], [Gaussian(noise_multiplier=4.0)]):
        with pytest.raises(PolicyError, match="noisy_centre"):
            refuse_unpaid([step], paid)
    with pytest.raises(PolicyError, match="noisy_centre"):
        refuse_unpaid([Step("noisy_centre", PrivacyClass.PAID)])


@pytest.mark.parametrize("alignment", ["euclidean", "none"])
def test_every_step_of_the_eeg_pipeline_is_per_patient(contract: SignalContract, alignment: str) -> None:
    """The declared pipeline of recordings passes, alignment included."""
    steps = steps_of(contract.model_copy(update={"alignment": alignment}))
    refuse_unpaid(steps)
    assert ("euclidean_alignment" in [step.name for step in steps]) == (alignment == "euclidean")
    assert {step.privacy for step in steps} == {PrivacyClass.PER_PATIENT}


def test_a_patients_windows_do_not_depend_on_the_others(
    own_copy: Callable[[str], Path], registered: Callable[..., DataSet], contract: SignalContract, tmp_path: Path
) -> None:
    """The declarations are true of the whole pipeline: without one patient, the others keep the same windows."""
    root = own_copy("north")
    everybody = prepare(registered(root), contract, cache=tmp_path / "a", pseudonym_key=KEY).patients
    shutil.rmtree(min(root.glob("sub-*")))
    fewer = prepare(registered(root), contract, cache=tmp_path / "b", pseudonym_key=KEY).patients
    known = {patient.key: patient for patient in everybody}
    assert len(fewer) == len(everybody) - 1
    for patient in fewer:
        assert np.array_equal(patient.windows, known[patient.key].windows)
        assert torch.equal(torch.from_numpy(patient.labels), torch.from_numpy(known[patient.key].labels))

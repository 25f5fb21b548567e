"""Dummies: they change no bit of a sum, and every step computes as much, whoever was drawn and whatever they have."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.studies import Only
from tests.support.studies import study as build_study

from dura_client.training import gradients
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient
from dura_client.training.places import CHANCE, most_drawn, places_of
from dura_common.models import build_model
from dura_common.study import Study

WINDOWS = 4


def study(**changes: Any) -> Study:
    """Return a study with 4 windows of a patient in a step, without dropout, so that gradients are repeatable."""
    return build_study(
        model={"name": "eegnet", "temporal_filters": 2, "dropout": 0.0},
        privacy={"participation": 0.5, "windows_per_patient": WINDOWS},
        **changes,
    )


def patient(seed: int, windows: int = 6) -> TrainingPatient:
    """Return a patient of Gaussian windows."""
    rng = np.random.default_rng(seed)
    contract = study().data
    shape = (windows, len(contract.channels), contract.window_samples)
    return TrainingPatient(rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 2, windows))


def engine(places: int, asked: Study | None = None) -> PatientEngine:
    """Return an engine with places."""
    asked = asked or study()
    return PatientEngine(build_model(asked), asked, preparation=(), places=places)


def crowd() -> list[TrainingPatient]:
    """Return patients of all kinds: many windows and few, none, some that are not finite, all that are not finite."""
    spoiled, flat = patient(7), patient(8)
    spoiled.windows[:3] = np.nan
    flat.windows[:] = 0.0
    none = TrainingPatient(patient(1).windows[:0], patient(1).labels[:0])
    gone = TrainingPatient(np.full_like(patient(1).windows, np.inf), patient(1).labels)
    return [patient(1, WINDOWS), patient(2, WINDOWS), patient(3, WINDOWS - 2), patient(4, 1), spoiled, flat, none, gone]


@pytest.mark.parametrize("places", [12, 40])
def test_dummies_change_no_bit_of_the_sum(places: int) -> None:
    """Patients with all their windows give the same integers with dummies beside them and without."""
    drawn = [patient(seed, WINDOWS) for seed in range(9)]
    assert np.array_equal(engine(places).clipped_sum(drawn), engine(0).clipped_sum(drawn))
    assert not engine(places).clipped_sum([]).any()


@pytest.mark.parametrize(
    "model", [{"name": "gru", "dropout": 0.0}, {"name": "linear"}, {"name": "shallow", "dropout": 0.0}]
)
def test_dummies_change_nothing_in_other_models(model: dict[str, Any]) -> None:
    """Patients who share a vectorised pass with dummies keep their gradients up to a step of the grid for each."""
    asked = study().model_copy(update={"model": build_study(model=model).model})
    drawn = [patient(seed, WINDOWS) for seed in range(5)]
    alone, among = engine(0, asked).clipped_sum(drawn), engine(12, asked).clipped_sum(drawn)
    assert np.abs(alone - among).max() <= len(drawn)
    assert np.abs(alone).max() > 1000


def test_dummies_change_nothing_where_a_value_is_asked_for() -> None:
    """Dummies have values as labels there, in the shape of a table's rows; patients keep their gradients."""
    table = {"source": "table", "features": {"a": [0.0, 1.0], "b": [0.0, 1.0]}, "column": "age", "bounds": [0.0, 90.0]}
    asked = build_study(
        data=Only(table, target="value", label="participant"),
        model=Only(name="linear", unit_norm=False),
        privacy={"participation": 0.5, "windows_per_patient": 1},
        evaluation={"outputs": ["error"]},
    )
    rng = np.random.default_rng(5)
    drawn = [
        TrainingPatient(rng.uniform(-1, 1, (1, 1, 3)).astype(np.float32), rng.uniform(-1, 1, 1).astype(np.float32))
        for _ in range(4)
    ]
    alone, among = engine(0, asked).clipped_sum(drawn), engine(9, asked).clipped_sum(drawn)
    assert np.abs(alone - among).max() <= len(drawn)
    assert np.abs(alone).max() > 1000
    assert not engine(9, asked).clipped_sum([]).any()


def test_missing_windows_are_filled_without_weight() -> None:
    """A patient with too few windows, or some that are not finite, keeps the gradient up to float32's rounding."""
    for one in crowd():
        whole = TrainingPatient(one.windows[:WINDOWS], one.labels[:WINDOWS])  # so that no windows are chosen
        alone, among = engine(0).clipped_sum([whole]), engine(12).clipped_sum([whole])
        assert np.abs(alone - among).max() <= 2
    assert engine(12).clipped_sum([patient(3, 1)]).any()


class Counted:
    """How much work a step is: the shapes of all windows that go through the model."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shapes: list[tuple[int, ...]] = []
        for name in ("by_backward", "by_vmap"):
            monkeypatch.setattr(gradients, name, self._counting(getattr(gradients, name)))

    def _counting(self, real: Any) -> Any:
        def counting(network: Any, loss: Any, batches: Any) -> Any:
            self.shapes += [tuple(batch.windows.shape) for batch in batches]
            return real(network, loss, batches)

        return counting

    def take(self) -> list[tuple[int, ...]]:
        """Return the shapes since the last call."""
        found, self.shapes = self.shapes, []
        return found


@pytest.mark.parametrize("model", ["eegnet", "gru", "linear"])
def test_every_step_is_the_same_work(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """However many are drawn, and whatever is wrong with them, as many windows go through the model."""
    asked = study().model_copy(update={"model": build_study(model={"name": model}).model})
    stepping, counted = engine(len(crowd()), asked), Counted(monkeypatch)
    seen = []
    for drawn in ([], crowd(), crowd()[:3], crowd()[4:], [patient(9, 300)]):
        stepping.clipped_sum(drawn)
        seen.append(counted.take())
    assert all(shapes == seen[0] for shapes in seen)
    assert [shape[0] for shape in seen[0]] == [WINDOWS] * len(crowd())
    bare = engine(0, asked)
    works = [bare.clipped_sum(drawn) is not None and counted.take() for drawn in ([], crowd()[:3], crowd())]
    assert works[0] != works[1] != works[2]  # without places the work tells who was drawn


def test_more_patients_than_places_are_all_computed() -> None:
    """A draw beyond the bound costs time and no patient."""
    drawn = [patient(seed, WINDOWS) for seed in range(6)]
    assert np.array_equal(engine(4).clipped_sum(drawn), engine(0).clipped_sum(drawn))


@pytest.mark.parametrize(
    ("patients", "participation", "steps", "places"),
    [(30, 0.5, 300, 30), (100, 0.5, 300, 83), (200, 0.1, 300, 54), (1000, 0.1, 300, 171), (1000, 0.06, 300, 118)],
)
def test_places_are_those_of_the_binomial_law(patients: int, participation: float, steps: int, places: int) -> None:
    """Known answers of a prototype, which counted one place more, and the probability of an overrun in big numbers."""
    assert most_drawn(patients, participation, steps) == places
    assert steps * beyond(places, patients, participation) <= CHANCE
    assert places == 0 or steps * beyond(places - 1, patients, participation) > CHANCE


def beyond(drawn: int, patients: int, participation: float) -> mpmath.mpf:
    """Return the probability that more are drawn, in big numbers."""
    with mpmath.workdps(40):
        q = mpmath.mpf(participation)
        return mpmath.fsum(
            mpmath.binomial(patients, k) * q**k * (1 - q) ** (patients - k) for k in range(drawn + 1, patients + 1)
        )


@settings(max_examples=60, deadline=None)
@given(patients=st.integers(1, 300), participation=st.floats(1e-3, 1.0), steps=st.integers(1, 10_000))
def test_the_bound_is_the_smallest_one(patients: int, participation: float, steps: int) -> None:
    """For any study the bound holds, and one place less would not."""
    places = most_drawn(patients, participation, steps)
    assert 0 <= places <= patients
    assert steps * beyond(places, patients, participation) <= CHANCE * (1 + 1e-6)
    if places:
        assert steps * beyond(places - 1, patients, participation) >= CHANCE * (1 - 1e-6)


def test_places_come_from_public_numbers() -> None:
    """A site with as many patients as it declared, or fewer, shows nothing; with more, all of them have a place."""
    asked = study()
    site, declared = next(iter(asked.sites.items()))
    assert places_of(asked, site, 2) == places_of(asked, site, declared)
    assert places_of(asked, site, 10 * declared) > places_of(asked, site, declared)


FLUSHED = """
import sys, threading, torch
from concurrent.futures import ThreadPoolExecutor
from dura_client.training.subnormals import flush_subnormals
torch.set_num_threads(2)
tiny = 2.0**-130  # in place of a literal, which the compiler would round in its own way
def product(_=None):
    return float((torch.full((8,), tiny) * 0.5).sum())
def parallel():
    return float((torch.full((1 << 20,), tiny) * 0.5).abs().max())
if sys.argv[1] == "yes":
    flush_subnormals()
found = [product(), parallel()]
with ThreadPoolExecutor(2) as pool:
    found += pool.map(product, range(4))
thread = threading.Thread(target=lambda: found.append(product()))
thread.start(); thread.join()
print(sum(value != 0 for value in found), len(found))
"""


@pytest.mark.parametrize(("asked", "kept"), [("yes", 0), ("no", 7)])
def test_subnormal_numbers_are_zero_in_every_thread(asked: str, kept: int) -> None:
    """In the main thread, in torch's own threads, in pools and in threads; without the call they are kept."""
    found = subprocess.run([sys.executable, "-c", FLUSHED, asked], check=True, capture_output=True, text=True).stdout
    assert found.split() == [str(kept), "7"]

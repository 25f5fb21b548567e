"""The bound that the whole guarantee rests on, as a property of arbitrary gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from tests.common.outputs.outcomes import accuracy_in

from dura_client.training.clipping import clipped_to_grid
from dura_client.training.evaluation import BATCH, score
from dura_client.training.patient import TrainingPatient
from dura_common.models import build
from dura_common.privacy.grid import WHOLE
from dura_common.study.models import EEGNetModel

FIRST, SECOND = 3, 5

anything = st.floats(width=32, allow_nan=True, allow_infinity=True)
gradients = st.integers(1, 5).flatmap(
    lambda patients: arrays.arrays(np.float32, (patients, FIRST + SECOND), elements=anything)
)


def integer_sum(rows: NDArray[np.float32], clipping_norm: float) -> NDArray[np.int64]:
    """Return the sum of clipped gradients of one step before noise, in integer steps of the grid."""
    total = clipped_to_grid(stacks(rows), clipping_norm)
    assert torch.equal(total, total.round())
    return total.numpy().astype(np.int64)


def stacks(rows: NDArray[np.float32]) -> list[torch.Tensor]:
    """Return patients' gradients as those of a model with two parameters."""
    return [torch.from_numpy(rows[:, :FIRST].copy()), torch.from_numpy(rows[:, FIRST:].copy()).unsqueeze(1)]


@settings(max_examples=50, deadline=None)
@given(rows=gradients, clipping_norm=st.sampled_from([1e-3, 0.3, 1.0, 17.0]))
def test_removing_any_patient_moves_the_integer_sum_by_at_most_the_bound(
    rows: NDArray[np.float32], clipping_norm: float
) -> None:
    """In exact integer arithmetic the squared distance never exceeds the squared bound: no rounding is forgiven."""
    everybody = integer_sum(rows, clipping_norm)
    for index in range(len(rows)):
        others = integer_sum(np.delete(rows, index, axis=0), clipping_norm)
        assert sum(int(step) ** 2 for step in everybody - others) <= WHOLE**2


@settings(max_examples=50, deadline=None)
@given(direction=arrays.arrays(np.float32, (1, FIRST + SECOND), elements=st.floats(-1, 1, width=32)))
def test_a_gradient_below_the_bound_passes_unclipped(direction: NDArray[np.float32]) -> None:
    """A short gradient keeps its direction and length up to one step of the grid in each coordinate."""
    bound = 4.0
    kept = integer_sum(direction, bound) * (bound / WHOLE)
    assert np.abs(kept - direction[0]).max() <= bound / WHOLE * (1 + 1e-6)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 5).flatmap(
        lambda patients: arrays.arrays(np.float32, (patients, FIRST + SECOND), elements=st.floats(-1e3, 1e3, width=32))
    ),
    clipping_norm=st.sampled_from([1e-3, 0.3, 1.0, 17.0]),
)
def test_opacus_clips_to_the_same_sum(rows: NDArray[np.float32], clipping_norm: float) -> None:
    """Opacus's optimiser, written by others and with a patient as its sample, adds up the same up to the grid."""
    parameters = [torch.nn.Parameter(torch.zeros(FIRST)), torch.nn.Parameter(torch.zeros(1, SECOND))]
    oracle = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0), noise_multiplier=0.0, max_grad_norm=clipping_norm, expected_batch_size=1
    )
    for parameter, stack in zip(parameters, stacks(rows), strict=True):
        parameter.grad_sample = stack  # type: ignore[attr-defined]  # Opacus's protocol
    oracle.clip_and_accumulate()
    expected = torch.cat([parameter.summed_grad.flatten() for parameter in parameters])  # type: ignore[attr-defined]  # idem
    found = integer_sum(rows, clipping_norm) * (clipping_norm / WHOLE)
    # Each patient is cut by one step at most; Opacus adds 1e-6 to norms, in float32.
    assert np.abs(found - expected.numpy()).max() <= len(rows) * clipping_norm * (1 / WHOLE + 1e-5) + 1e-6 * len(rows)


@pytest.mark.parametrize("sums", [(0.1, 0.4), (3.0, -20.0), (np.nan, 10.0), (1.0, np.nan), (np.inf, np.inf)])
def test_sums_that_say_nothing_give_no_accuracy(sums: tuple[float, float]) -> None:
    """Drowned or impossible sums give one half with an error of one half, never a value that is not a number."""
    estimate = accuracy_in(np.array(sums), noise_multiplier=1.0, sites=4)
    assert (estimate.accuracy, estimate.standard_error) == (0.5, 0.5)


def test_a_long_recording_is_scored_in_parts_with_the_same_result() -> None:
    """Scoring in batches equals the share counted in one pass; a patient without windows counts one half."""
    rng = np.random.default_rng(5)
    network = build(EEGNetModel(), channels=2, samples=32, classes=2, sampling_rate=32, seed=1).eval()
    count = 2 * BATCH + 7
    patient = TrainingPatient(rng.normal(size=(count, 2, 32)).astype(np.float32), rng.integers(0, 2, count))
    with torch.no_grad():
        guesses = network(torch.from_numpy(patient.windows)).argmax(1).numpy()
    assert score(network, patient) == pytest.approx(np.mean(guesses == patient.labels), abs=2 / count)
    assert score(network, TrainingPatient(patient.windows[:0], patient.labels[:0])) == 0.5

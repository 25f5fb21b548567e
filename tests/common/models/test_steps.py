"""The step that all parties make alike: as the field's optimisers, and equal to the last bit wherever it runs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dura_common.errors import InputError
from dura_common.models import StepRule, advance, build, first_state, load_vector, state_from_vector, to_vector
from dura_common.study.models import EEGNetModel

SCALE = 2.0**-16 / 7.5


ADAM = StepRule(adam=True, learning_rate=0.02)
SGD = StepRule(adam=False, learning_rate=0.02)
MOMENTUM = StepRule(adam=False, learning_rate=0.02, momentum=0.9)


def totals(length: int, count: int) -> list[np.ndarray]:
    """Return integer sums that no library's generator decides: a hash, read as numbers."""
    return [
        np.frombuffer(hashlib.shake_128(bytes([step])).digest(4 * length), dtype="<i4").astype(np.int64) >> 12
        for step in range(count)
    ]


def linear() -> nn.Module:
    """Return a model without constraints, from fixed numbers."""
    network = nn.Linear(3, 2)
    load_vector(network, np.linspace(-1, 1, 8, dtype=np.float32))
    return network


@pytest.mark.parametrize(
    ("settings", "oracle"),
    [
        (ADAM, lambda p: torch.optim.Adam(p, lr=0.02)),
        (SGD, lambda p: torch.optim.SGD(p, lr=0.02)),
        (MOMENTUM, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9)),
    ],
    ids=["adam", "sgd", "momentum"],
)
def test_steps_are_those_of_torch(settings: StepRule, oracle: object) -> None:
    """Twelve steps end where torch's own optimiser ends, up to rounding of float32."""
    ours, theirs = linear(), linear().double()
    optimiser = oracle(theirs.parameters())  # type: ignore[operator]  # a factory
    state = first_state(ours, settings)
    for total in totals(8, 12):
        state = advance(ours, state, total, settings, scale=SCALE)
        flat = torch.from_numpy(total * SCALE)
        theirs.weight.grad, theirs.bias.grad = flat[:6].view(2, 3), flat[6:]
        optimiser.step()
    expected = torch.nn.utils.parameters_to_vector(theirs.parameters()).detach().numpy()
    assert state.steps == 12
    assert np.allclose(state.parameters, expected, atol=2e-6)
    assert (to_vector(ours) == state.parameters).all()


def test_a_training_ends_in_the_same_bits_everywhere() -> None:
    """The digest after six steps of EEGNet is the one written down when this test was (x86-64, torch 2.13)."""
    network = build(EEGNetModel(temporal_filters=2), channels=3, samples=32, classes=2, sampling_rate=16, seed=1)
    start = np.frombuffer(hashlib.shake_128(b"start").digest(4 * to_vector(network).size), dtype="<i4")
    load_vector(network, (start / 2.0**31).astype(np.float32))
    settings = ADAM
    state = first_state(network, settings)
    for total in totals(state.parameters.size, 6):
        state = advance(network, state, total, settings, scale=SCALE)
    assert state.digest() == "f82a41edb2e0d0c1ee04d824dbab679015247440a1f9e850028376fa38194a55"


@pytest.mark.parametrize("settings", [ADAM, MOMENTUM, SGD], ids=["adam", "momentum", "sgd"])
@given(weight=st.integers(1, 2**20), scale=st.floats(1e-45, 1e-20))
def test_no_subnormal_number_is_kept(settings: StepRule, weight: int, scale: float) -> None:
    """A state holds none, and no minus zero: its bits are the same whether a process keeps such numbers or not."""
    network = linear()
    load_vector(network, np.zeros(8, dtype=np.float32))
    state = first_state(network, settings)
    for _ in range(3):
        state = advance(network, state, np.full(8, -weight, dtype=np.int64), settings, scale=scale)
    values = np.abs(state.to_vector())
    assert ((values == 0) | (values >= np.finfo(np.float32).smallest_normal)).all()
    assert not np.signbit(state.to_vector()[values == 0]).any()


@given(cut=st.integers(1, 9), adam=st.booleans())
def test_a_state_that_travels_goes_on_as_if_it_had_stayed(cut: int, adam: bool) -> None:
    """Whoever joins in the middle with the state that was sent makes the very same further steps."""
    settings = ADAM if adam else MOMENTUM
    whole, late = linear(), linear()
    state = first_state(whole, settings)
    joined = None
    for number, total in enumerate(totals(8, 10)):
        if number == cut:
            joined = state_from_vector(state.to_vector(), settings, length=8, steps=state.steps)
        if joined is not None:
            joined = advance(late, joined, total, settings, scale=SCALE)
        state = advance(whole, state, total, settings, scale=SCALE)
    assert joined is not None
    assert joined.digest() == state.digest()


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(8, np.float32),
        np.zeros(25, np.float32),
        np.zeros(24, np.float64),
        np.full(24, np.nan, np.float32),
        np.concatenate([np.zeros(16, np.float32), np.full(8, -1, np.float32)]),
    ],
    ids=["too short", "too long", "float64", "not finite", "negative squares"],
)
def test_a_state_of_another_form_is_refused(vector: np.ndarray) -> None:
    """What is not a training state of this model is refused with what was expected."""
    with pytest.raises(InputError, match="training state"):
        state_from_vector(vector, ADAM, length=8, steps=0)


def test_a_sum_of_another_form_changes_nothing() -> None:
    """A sum of another length is refused and the model stays as it was."""
    network = linear()
    before = to_vector(network)
    with pytest.raises(ValueError, match="8 int64"):
        advance(network, first_state(network, ADAM), np.zeros(7, np.int64), ADAM, scale=1.0)
    assert (to_vector(network) == before).all()

"""Models: exact size, same start everywhere, parameters that survive the way through a vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tests.common.models import model_sizes

from dura_common.errors import InputError
from dura_common.models import (
    build,
    load_vector,
    project_constraints,
    recurrent,
    to_vector,
)
from dura_common.models.eegnet import SpatialConv
from dura_common.models.shallow import ShallowConvNet
from dura_common.study.models import EEGNetModel, LinearModel, Model, RecurrentModel, ShallowConvNetModel


@pytest.mark.parametrize(
    ("channels", "samples", "classes", "f1", "d", "f2", "kernel"),
    [(11, 256, 2, 8, 2, 16, 64), (64, 128, 4, 4, 2, 8, 64), (2, 33, 3, 1, 1, 1, 1)],
)
def test_the_parameter_count_is_the_papers(
    *, channels: int, samples: int, classes: int, f1: int, d: int, f2: int, kernel: int
) -> None:
    """The formula of the paper's table equals the number of parameters, whatever the sizes."""
    model = EEGNetModel(temporal_filters=f1, depth_multiplier=d, separable_filters=f2, kernel_seconds=kernel / 128)
    network = build(model, channels=channels, samples=samples, classes=classes, sampling_rate=128, seed=0)
    expected = model_sizes.of_eegnet(
        channels=channels,
        samples=samples,
        classes=classes,
        temporal_filters=f1,
        depth_multiplier=d,
        separable_filters=f2,
        kernel=kernel,
    )
    assert to_vector(network).size == expected
    assert network(torch.zeros(3, channels, samples)).shape == (3, classes)


def make(seed: int = 1) -> torch.nn.Module:
    """Return a small network."""
    return build(EEGNetModel(), channels=3, samples=64, classes=2, sampling_rate=64, seed=seed)


def test_the_seed_alone_decides_the_first_parameters() -> None:
    """Two builds agree with the same seed and differ with another, and the global generator is untouched."""
    before = torch.random.get_rng_state()
    assert np.array_equal(to_vector(make(1)), to_vector(make(1)))
    assert not np.array_equal(to_vector(make(1)), to_vector(make(2)))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("bad", ["short", "nan", "inf", "double"])
def test_a_wrong_vector_is_refused_and_the_model_stays(bad: str) -> None:
    """A vector of another length or type, or with a value that is not finite, changes nothing."""
    network = make()
    before = to_vector(network)
    vector = before.copy()
    if bad == "short":
        vector = vector[:-1]
    elif bad == "double":
        vector = vector.astype(np.float64)
    else:
        vector[3] = np.nan if bad == "nan" else np.inf
    with pytest.raises(InputError, match=r"float32 parameters|not a finite number"):
        load_vector(network, vector)
    assert np.array_equal(to_vector(network), before)


def test_projection_is_idempotent_and_bounds_the_dense_rows() -> None:
    """After projection each dense row has norm at most 0.25, and projecting again changes nothing."""
    network = make()
    load_vector(network, (100 * to_vector(network)).astype(np.float32))
    project_constraints(network)
    assert network.classifier.weight.norm(dim=1).max() <= 0.2501
    once = to_vector(network)
    project_constraints(network)
    assert np.allclose(once, to_vector(network), atol=1e-6)


def test_windows_too_short_for_the_pooling_are_refused() -> None:
    """A model that could not be built is refused with the number of samples that it needs."""
    with pytest.raises(InputError, match="at least 32 samples"):
        build(EEGNetModel(), channels=3, samples=31, classes=2, sampling_rate=64, seed=1)


def test_the_spatial_convolution_is_the_ordinary_one() -> None:
    """The matrix product gives what torch's depthwise convolution gives, forward and backward."""
    fast = SpatialConv(3, 6, (5, 1), groups=3, bias=False)
    windows = torch.randn(4, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    weight = fast.double().weight
    ordinary = torch.nn.functional.conv2d(windows, weight, groups=3)
    assert torch.allclose(fast(windows), ordinary, atol=1e-12)
    seen = torch.autograd.grad(fast(windows).square().sum(), [windows, weight])
    expected = torch.autograd.grad(ordinary.square().sum(), [windows, weight])
    assert all(torch.allclose(one, other, atol=1e-10) for one, other in zip(seen, expected, strict=True))


def literal_shallow(network: ShallowConvNet, windows: torch.Tensor) -> torch.Tensor:
    """Return the paper's two convolutions one after the other, with the network's own weights."""
    layer = network.filter
    first = torch.nn.functional.conv2d(windows.unsqueeze(1), layer.temporal.weight, layer.temporal.bias)
    return torch.nn.functional.conv2d(first, layer.spatial.weight).squeeze(2)


def test_the_fused_convolution_is_the_papers_two() -> None:
    """One convolution with multiplied weights gives what two give, and so do the gradients of all weights."""
    model = ShallowConvNetModel(name="shallow", filters=6)
    network = build(model, channels=5, samples=120, classes=2, sampling_rate=128, seed=2).double()
    assert isinstance(network, ShallowConvNet)
    windows = torch.randn(4, 5, 120, dtype=torch.float64)
    fused, literal = network.filter(windows), literal_shallow(network, windows)
    assert torch.allclose(fused, literal, atol=1e-12)
    weights = list(network.filter.parameters())
    seen = torch.autograd.grad(fused.square().sum(), weights)
    expected = torch.autograd.grad(literal.square().sum(), weights)
    assert all(torch.allclose(one, other, atol=1e-9) for one, other in zip(seen, expected, strict=True))


@pytest.mark.parametrize(
    ("model", "channels", "samples", "classes", "rate", "expected"),
    [
        # Figures of the modules' own docstrings, counted by hand from the layers.
        (ShallowConvNetModel(name="shallow"), 22, 512, 4, 250.0, 40804),
        (RecurrentModel(name="gru"), 22, 512, 4, 128.0, 10596),
        (LinearModel(name="linear"), 1, 6105, 2, 64.0, 12210),
        (EEGNetModel(), 11, 256, 2, 128.0, 1538),
    ],
)
def test_the_documented_sizes_are_the_real_ones(
    *, model: Model, channels: int, samples: int, classes: int, rate: float, expected: int
) -> None:
    """Each architecture has the documented number of parameters and gives one row of logits per window."""
    network = build(model, channels=channels, samples=samples, classes=classes, sampling_rate=rate, seed=0)
    assert to_vector(network).size == expected
    assert network(torch.zeros(3, channels, samples)).shape == (3, classes)


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(2, 6),
    samples=st.integers(40, 150),
    classes=st.integers(2, 4),
    filters=st.integers(1, 6),
    units=st.integers(1, 6),
)
def test_the_formulas_count_every_parameter(
    *, channels: int, samples: int, classes: int, filters: int, units: int
) -> None:
    """Whatever the sizes, the formulas of the shallow, recurrent and linear nets equal what torch holds."""
    common = {"channels": channels, "samples": samples, "classes": classes, "sampling_rate": 100.0, "seed": 0}
    net = build(ShallowConvNetModel(name="shallow", filters=filters), **common)
    sizes = {"channels": channels, "samples": samples, "classes": classes, "filters": filters}
    assert to_vector(net).size == model_sizes.of_shallow(**sizes, kernel=10, pool=30, stride=6)
    net = build(RecurrentModel(name="gru", filters=filters, units=units), **common)
    sizes = {"channels": channels, "classes": classes, "filters": filters, "units": units}
    assert to_vector(net).size == model_sizes.of_recurrent(**sizes, kernel=12)
    net = build(LinearModel(name="linear"), **common)
    assert to_vector(net).size == model_sizes.of_linear(features=channels * samples, classes=classes)


@pytest.mark.parametrize(
    ("model", "samples", "shortest"),
    [(ShallowConvNetModel(name="shallow"), 49, 50), (RecurrentModel(name="gru"), 15, 16)],
)
def test_every_model_names_its_shortest_window(model: Model, samples: int, shortest: int) -> None:
    """One sample too few is refused with the number needed; that number is enough."""
    sizes = {"channels": 3, "classes": 2, "sampling_rate": 128, "seed": 1}
    with pytest.raises(InputError, match=f"at least {shortest} samples"):
        build(model, samples=samples, **sizes)
    build(model, samples=shortest, **sizes)


@pytest.mark.parametrize("name", ["shallow", "gru", "eegnet"])
def test_the_norms_keep_no_statistics(name: str) -> None:
    """No architecture has a buffer: everything that training changes is a parameter and passes the noise."""
    model = TypeAdapter(Model).validate_python({"name": name})
    network = build(model, channels=3, samples=128, classes=2, sampling_rate=128, seed=1)
    assert list(network.buffers()) == []
    assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_the_unrolled_recurrence_is_torchs_own() -> None:
    """Step by step in elementary operations gives the states of torch's kernel, and so do all gradients."""
    layer = recurrent.UnrollableGRU(3, 4).double()
    features = torch.randn(5, 7, 3, dtype=torch.float64)
    weights = list(layer.parameters())
    native = layer.states(features)
    with layer.unrolled():
        unrolled = layer.states(features)
    assert torch.allclose(native, unrolled, atol=1e-12)
    expected = torch.autograd.grad(native.square().sum(), weights)
    seen = torch.autograd.grad(unrolled.square().sum(), weights)
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(seen, expected, strict=True))
    assert torch.equal(layer.states(features), native)

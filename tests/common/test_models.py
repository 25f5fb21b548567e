"""EEGNet: exact size, same start everywhere, parameters that survive the way through a vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dura_common.errors import InputError
from dura_common.model_schema import EEGNetModel
from dura_common.models import build, load_vector, parameter_count, project_constraints, to_vector
from dura_common.models.eegnet import SpatialConv


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
    expected = parameter_count(
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
    with pytest.raises(InputError):
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

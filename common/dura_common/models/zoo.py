"""Builds a model from its description in the study."""

from __future__ import annotations

import math

import torch
from torch import nn

from dura_common.errors import InputError
from dura_common.models.eegnet import FIRST_POOL, SECOND_POOL, EEGNet
from dura_common.models.linear import LinearNet
from dura_common.models.recurrent import RecurrentNet
from dura_common.models.shallow import ShallowConvNet, spans
from dura_common.study import Study
from dura_common.study.models import EEGNetModel, LinearModel, Model, RecurrentModel, ShallowConvNetModel

SPATIAL_MAX_NORM = 1.0
DENSE_MAX_NORM = 0.25
"""Max-norm bounds of the paper (section 2.2.2)."""
SPATIAL_LAYER = 3
MARGIN = 1e-6
"""Shortens a little more than needed, so that rounding to float32 cannot exceed the bound again."""


def build(model: Model, *, channels: int, samples: int, classes: int, sampling_rate: float, seed: int) -> nn.Module:
    """Return the model with its first parameters; the same seed gives the same parameters everywhere.

    Raises:
        InputError: a window is too short for the model's kernels and pooling.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(model, channels=channels, samples=samples, classes=classes, sampling_rate=sampling_rate)
    project_constraints(network)
    return network


def build_model(study: Study) -> nn.Module:
    """Return a study's model with its first parameters, the same at every site and at the coordinator.

    Raises:
        InputError: the study's windows are too short for the model's kernels and pooling.
    """
    return build(
        study.model,
        channels=study.data.shape[0],
        samples=study.data.shape[1],
        classes=study.data.outputs,
        sampling_rate=study.data.rate,
        seed=study.training.seed,
    )


def _network(model: Model, *, channels: int, samples: int, classes: int, sampling_rate: float) -> nn.Module:
    def in_samples(seconds: float) -> int:
        return max(1, round(seconds * sampling_rate))

    if isinstance(model, EEGNetModel):
        _demand("EEGNet", FIRST_POOL * SECOND_POOL, samples)
        return EEGNet(
            channels=channels,
            samples=samples,
            classes=classes,
            temporal_filters=model.temporal_filters,
            depth_multiplier=model.depth_multiplier,
            separable_filters=model.separable_filters,
            kernel=in_samples(model.kernel_seconds),
            dropout=model.dropout,
        )
    if isinstance(model, ShallowConvNetModel):
        kernel, pool = in_samples(model.kernel_seconds), in_samples(model.pool_seconds)
        stride = in_samples(model.stride_seconds)
        if spans(samples, kernel=kernel, pool=pool, stride=stride) < 1:
            _demand("ShallowConvNet", kernel + pool - 1, samples)
        return ShallowConvNet(
            channels=channels,
            samples=samples,
            classes=classes,
            filters=model.filters,
            kernel=kernel,
            pool=pool,
            stride=stride,
            dropout=model.dropout,
        )
    if isinstance(model, RecurrentModel):
        kernel = in_samples(model.kernel_seconds)
        _demand("the recurrent network", kernel, samples)
        return RecurrentNet(
            channels=channels,
            classes=classes,
            filters=model.filters,
            kernel=kernel,
            stride=in_samples(model.stride_seconds),
            units=model.units,
            dropout=model.dropout,
        )
    if isinstance(model, LinearModel):
        return LinearNet(features=channels * samples, classes=classes, unit_norm=model.unit_norm)
    raise TypeError(f"no network is known for {type(model).__name__}")


def _demand(name: str, shortest: int, samples: int) -> None:
    if samples < shortest:
        raise InputError(f"{name} needs windows of at least {shortest} samples, but the study's windows have {samples}")


def project_constraints(network: nn.Module) -> None:
    """Apply the max-norm constraints; a function of released parameters only, hence free of privacy cost."""
    if not isinstance(network, EEGNet):
        return
    spatial = network.features[SPATIAL_LAYER]
    if not isinstance(spatial, nn.Conv2d):
        raise TypeError("the spatial layer of EEGNet has moved")
    with torch.no_grad():
        for weight, bound in (
            (spatial.weight, SPATIAL_MAX_NORM),
            (network.classifier.weight, DENSE_MAX_NORM),
        ):
            weight.copy_(_bounded(weight.flatten(1), bound).view_as(weight))


def _bounded(rows: torch.Tensor, bound: float) -> torch.Tensor:
    """Shorten each row that is longer than ``bound``, with the same result on every machine.

    Squares of float32 are exact in float64 and ``math.fsum`` adds them exactly, so no order of addition matters.
    """
    result = rows.detach().cpu().double()
    for row in result:
        norm = math.sqrt(math.fsum(value * value for value in row.tolist()))
        if norm > bound:
            row.mul_(bound / (norm * (1 + MARGIN)))
    return result.to(device=rows.device, dtype=rows.dtype)

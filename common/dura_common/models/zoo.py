"""From the study's description of a model to the model."""

from __future__ import annotations

import math

import torch
from torch import nn

from dura_common.errors import InputError
from dura_common.models.eegnet import FIRST_POOL, SECOND_POOL, EEGNet
from dura_common.study import EEGNetModel

SPATIAL_MAX_NORM = 1.0
DENSE_MAX_NORM = 0.25
"""Max-norm bounds of the paper (section 2.2.2)."""
SPATIAL_LAYER = 2
MARGIN = 1e-6
"""Shortens a little more than needed, so that rounding to float32 leaves nothing to shorten again."""


def build(
    model: EEGNetModel, *, channels: int, samples: int, classes: int, sampling_rate: float, seed: int
) -> nn.Module:
    """Return the model with its first parameters; the same seed gives the same parameters everywhere.

    Raises:
        InputError: a window is too short for the model's pooling.
    """
    shortest = FIRST_POOL * SECOND_POOL
    if samples < shortest:
        raise InputError(f"EEGNet needs windows of at least {shortest} samples, the study's have {samples}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EEGNet(
            channels=channels,
            samples=samples,
            classes=classes,
            temporal_filters=model.temporal_filters,
            depth_multiplier=model.depth_multiplier,
            separable_filters=model.separable_filters,
            kernel=max(1, round(model.kernel_seconds * sampling_rate)),
            dropout=model.dropout,
        )
    project_constraints(network)
    return network


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

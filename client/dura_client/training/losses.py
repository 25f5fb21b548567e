"""The loss of each engine: a mean over a patient's windows, so that many windows weigh no more than one."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from dura_common.study.training import DpSgdTraining, OneSumTraining, ResidualDescentTraining

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From logits (windows, classes), labels (windows,) and weights (windows,) to a scalar: the weighted sum over windows.

A patient's windows have one over their number as weights, which makes it a mean; windows of weight zero add nothing.
"""


def loss_of(training: DpSgdTraining | OneSumTraining | ResidualDescentTraining) -> Loss:
    """Return the loss of an engine."""
    if isinstance(training, OneSumTraining):
        return one_sum
    if isinstance(training, ResidualDescentTraining):
        return half_square
    return cross_entropy


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the cross-entropy of classes, or half the squared error of values between -1 and 1."""
    if labels.is_floating_point():
        return half_square(logits, labels, weights)
    return (nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum()


def one_sum(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return minus the logits along the target: its gradient at a unit vector is minus target times vector.

    This gradient has length one exactly, so the sum over patients is a difference of class means with sensitivity one.
    """
    return -((_targets(logits, labels) * logits).sum(1) * weights).sum()


def half_square(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return half the squared distance from logits to targets.

    Its gradient at a unit vector is the residual times the vector; clipping it to length one clips the residual.
    """
    return 0.5 * ((_targets(logits, labels) - logits).square().sum(1) * weights).sum()


def _targets(logits: Tensor, labels: Tensor) -> Tensor:
    """Return one row per window: the class's corner of a centred simplex, of length one; two classes give +-1/sqrt(2).

    With two classes the model's two rows stay opposite, and their difference behaves as one row with labels +-1. A
    value, which lies between -1 and 1, is its own target.
    """
    if labels.is_floating_point():
        return labels[:, None].to(logits.dtype)
    classes = logits.shape[1]
    corners = torch.eye(classes, dtype=logits.dtype, device=logits.device) - 1 / classes
    return corners[labels] / math.sqrt(1 - 1 / classes)

"""What enters a sum from a patient's gradient: clipped, cut to the integer grid, with noise that has no seed.

This is Opacus's ``DPOptimizer`` with a patient as its sample. The tests compare it with the original. Differences:

- norms are computed in float64, and a patient whose gradient is not finite counts zero (one NaN must neither spoil the
  model nor reveal who took part);
- each clipped gradient is cut to a grid of 2^-16 C towards zero, which can only shorten it, so that sums are integers
  and integer noise carries the exact Gaussian guarantee (floating-point noise does not: Mironov 2012);
- this module makes no step: noise may be a site's own or shared by many sites, and the step is the same everywhere
  (:mod:`dura_common.models.steps`, docs/decisions/0017-same-steps-everywhere.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.optim import SGD

from dura_client.training.secure_random import integer_gaussian
from dura_common.privacy.grid import WHOLE

ROUNDING = 2.0**-40
"""Share of the clipping norm given up so that no rounding of float64 can push a clipped gradient above it."""


def clipped_to_grid(stacks: Sequence[Tensor], clipping_norm: float) -> Tensor:
    """Return the sum of patients' clipped gradients in steps of the grid, float64 (parameters,), whole numbers.

    Sums of whole numbers are exact in float64 up to 2^53.

    Args:
        stacks: gradients, one tensor (patients, *parameter.shape) per parameter of the model.
        clipping_norm: C, the largest L2 norm of one patient's gradient; the grid is 2^-16 of it.
    """
    samples = [stack.flatten(1).double() for stack in stacks]
    norms = torch.sqrt(sum((sample.square().sum(1) for sample in samples), torch.zeros(())))
    factors = torch.clamp(clipping_norm * (1 - ROUNDING) / norms.clamp(min=1e-300), max=1.0)
    factors = torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors)).unsqueeze(1)
    grid = clipping_norm / WHOLE
    return torch.cat(
        [
            torch.trunc(torch.nan_to_num(sample, nan=0.0, posinf=0.0, neginf=0.0) * factors / grid).sum(0)
            for sample in samples
        ]
    )


class PatientClipper(DPOptimizer):  # type: ignore[misc]  # Opacus ships no type information
    """Opacus's optimiser, used for what it does before a step; ``grad_sample`` of a parameter is (patients, *shape).

    Call ``clip_and_accumulate`` for one part of the patients after the other, so that memory is bounded. Then call
    :meth:`take_sum`.
    """

    def __init__(self, network: nn.Module, clipping_norm: float) -> None:
        super().__init__(
            SGD(network.parameters(), lr=1.0),  # never steps, see below
            noise_multiplier=0.0,
            max_grad_norm=clipping_norm,
            expected_batch_size=1,
            loss_reduction="mean",
        )
        self._total: Tensor | None = None

    def clip_and_accumulate(self) -> None:
        """Clip each patient, cut to the grid, and add up."""
        total = clipped_to_grid([parameter.grad_sample for parameter in self.params], self.max_grad_norm)
        self._total = total if self._total is None else self._total + total
        for parameter in self.params:
            parameter.grad_sample = None

    def take_sum(self) -> NDArray[np.int64]:
        """Return what was accumulated, int64 (parameters,) in steps of the grid, or zeros; start again from zero."""
        total, self._total = self._total, None
        if total is None:
            return np.zeros(sum(parameter.numel() for parameter in self.params), dtype=np.int64)
        flat: NDArray[np.int64] = total.cpu().numpy().astype(np.int64)
        return flat

    def step(self, closure: object = None) -> None:  # noqa: ARG002  # the base class's signature
        """Refuse: there is one way to make a step (:mod:`dura_common.models.steps`)."""
        raise RuntimeError("steps are made by dura_common.models.steps, with a noised sum")


def add_noise(total: NDArray[np.int64], noise_multiplier: float, *, whole: int = WHOLE) -> NDArray[np.int64]:
    """Return an integer sum plus Gaussian noise of ``noise_multiplier`` times its sensitivity.

    Args:
        total: the sum of a step of training or of an evaluation.
        noise_multiplier: 0 adds none and is for public data only.
        whole: the sensitivity: what one patient moves the sum by at most, in steps of the sum's grid.
    """
    if noise_multiplier == 0:
        return total
    return total + integer_gaussian(total.size, noise_multiplier * whole)

"""Opacus's DPOptimizer with the patient as its sample and noise that no seed can reach.

What differs from the base class, and why:

- norms in float64, and a patient whose gradient is not finite counts zero (one NaN must neither spoil the model
  nor tell who took part);
- each clipped gradient is cut to a grid of 2^-16 C towards zero, which can only shorten it, so that sums are
  integers and integer noise carries the exact Gaussian guarantee (floating-point noise does not: Mironov 2012);
- the divisor is a public constant, never the number of patients that were drawn.
"""

from __future__ import annotations

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch.optim import Optimizer

from dura_client.training.secure_random import integer_gaussian

GRID_BITS = 16
ROUNDING = 2.0**-40
"""Share of the clipping norm given up so that no rounding of float64 can push a clipped gradient above it."""


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no type information
    """``grad_sample`` of each parameter has shape (patients, *parameter.shape)."""

    def __init__(self, optimizer: Optimizer, *, noise_multiplier: float, clipping_norm: float, divisor: float) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=clipping_norm,
            expected_batch_size=divisor,
            loss_reduction="mean",
        )

    @property
    def grid(self) -> float:
        """Width of one integer step."""
        return float(self.max_grad_norm) * 2.0**-GRID_BITS

    def clip_and_accumulate(self) -> None:
        """Clip each patient, cut to the grid, add up as integers (exact in float64 up to 2^53)."""
        samples = [parameter.grad_sample for parameter in self.params]
        squares = sum(sample.double().flatten(1).square().sum(1) for sample in samples)
        norms = torch.sqrt(squares)
        factors = torch.clamp(self.max_grad_norm * (1 - ROUNDING) / norms.clamp(min=1e-300), max=1.0)
        factors = torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))
        for parameter, sample in zip(self.params, samples, strict=True):
            shape = (-1,) + (1,) * (sample.dim() - 1)
            clipped = torch.nan_to_num(sample.double(), nan=0.0, posinf=0.0, neginf=0.0) * factors.view(shape)
            parameter.summed_grad = torch.trunc(clipped / self.grid).sum(0)

    def add_noise(self) -> None:
        """Add integer Gaussian noise of ``noise_multiplier`` times the clipping norm."""
        deviation = self.noise_multiplier * 2.0**GRID_BITS
        for parameter in self.params:
            noise = integer_gaussian(parameter.numel(), deviation).astype(np.float64)
            total = parameter.summed_grad + torch.from_numpy(noise).to(parameter.device).view_as(parameter)
            parameter.grad = (total * self.grid).to(parameter.dtype)

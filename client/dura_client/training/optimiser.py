"""Opacus's DPOptimizer with the patient as its sample and noise that no seed can reach.

What differs from the base class, and why:

- norms in float64, and a patient whose gradient is not finite counts zero (one NaN must neither spoil the model
  nor tell who took part);
- each clipped gradient is cut to a grid of 2^-16 C towards zero, which can only shorten it, so that sums are
  integers and integer noise carries the exact Gaussian guarantee (floating-point noise does not: Mironov 2012);
- the divisor is a public constant, never the number of patients that were drawn;
- the sum before noise can be taken out as integers, and a sum from elsewhere put in: a step may be noised here
  alone or shared by many sites.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from opacus.optimizers import DPOptimizer
from torch.optim import Optimizer

from dura_client.training.secure_random import integer_gaussian
from dura_common.privacy.grid import WHOLE

ROUNDING = 2.0**-40
"""Share of the clipping norm given up so that no rounding of float64 can push a clipped gradient above it."""


def add_noise(total: NDArray[np.int64], noise_multiplier: float, *, whole: int = WHOLE) -> NDArray[np.int64]:
    """Return an integer sum plus Gaussian noise of ``noise_multiplier`` times its sensitivity.

    Args:
        total: of training or of an evaluation.
        noise_multiplier: 0 adds none and is for public data only.
        whole: the sensitivity: what one patient moves the sum by at most, in steps of the sum's grid.
    """
    if noise_multiplier == 0:
        return total
    return total + integer_gaussian(total.size, noise_multiplier * whole)


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no type information
    """``grad_sample`` of each parameter has shape (patients, *parameter.shape).

    ``clip_and_accumulate`` may be called for one part of the patients after the other (bounded memory); then
    either ``step`` (noise here, as in Opacus) or :meth:`take_sum` and, with a noised sum, :meth:`apply`.
    """

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
        return float(self.max_grad_norm) / WHOLE

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
            steps = torch.trunc(clipped / self.grid).sum(0)
            parameter.summed_grad = steps if parameter.summed_grad is None else parameter.summed_grad + steps
            parameter.grad_sample = None

    def take_sum(self) -> NDArray[np.int64]:
        """Return what was accumulated, int64 (parameters,) in steps of the grid, and begin anew; zeros if nothing."""
        parts = [
            torch.zeros_like(parameter, dtype=torch.float64) if parameter.summed_grad is None else parameter.summed_grad
            for parameter in self.params
        ]
        for parameter in self.params:
            parameter.summed_grad = None
        flat: NDArray[np.int64] = torch.cat([part.flatten() for part in parts]).cpu().numpy().astype(np.int64)
        return flat

    def add_noise(self) -> None:
        """Noise what was accumulated and hand it to the parameters as their gradient (a part of ``step``)."""
        self._hand_over(add_noise(self.take_sum(), self.noise_multiplier))

    def scale_grad(self) -> None:
        """Divide by the public constant; the base class would also count accumulations."""
        for parameter in self.params:
            parameter.grad /= self.expected_batch_size

    def apply(self, total: NDArray[np.int64]) -> None:
        """Make one step of the wrapped optimiser with a noised integer sum, from one site or from many.

        Args:
            total: int64 (parameters,), in steps of the grid.

        Raises:
            ValueError: another length or type; nothing was changed.
        """
        length = sum(parameter.numel() for parameter in self.params)
        if total.shape != (length,) or total.dtype != np.int64:
            raise ValueError(f"a sum of {length} int64 is expected, got {total.dtype} of shape {total.shape}")
        self._hand_over(total)
        self.scale_grad()
        if self.step_hook is not None:
            self.step_hook(self)
        self.original_optimizer.step()
        self.zero_grad(set_to_none=True)

    def _hand_over(self, total: NDArray[np.int64]) -> None:
        flat = torch.from_numpy(total * self.grid)
        begin = 0
        for parameter in self.params:
            part = flat[begin : begin + parameter.numel()].view(parameter.shape)
            parameter.grad = part.to(device=parameter.device, dtype=parameter.dtype)
            begin += parameter.numel()

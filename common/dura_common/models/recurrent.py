"""A small recurrent network: a strided convolution over all channels, a GRU (Cho et al. 2014), its mean over time.

The recurrence is torch's own ``nn.GRU``. Its kernel cannot be vectorised over patients with weights of their own, so
there is a second form of the same function, written step by step, for :mod:`dura_client.training.gradients` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class UnrollableGRU(nn.GRU):
    """``nn.GRU`` of one layer, batch first, without dropout, that can also be computed in elementary operations."""

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, features: int, units: int) -> None:
        super().__init__(features, units, batch_first=True)
        self._unroll = False

    @contextmanager
    def unrolled(self) -> Iterator[None]:
        """Compute in elementary operations inside this block: slower alone, but open to ``torch.func.vmap``."""
        self._unroll = True
        try:
            yield
        finally:
            self._unroll = False

    def states(self, features: Tensor) -> Tensor:
        """Return the states (windows, steps, units) of features (windows, steps, features)."""
        if not self._unroll:
            states: Tensor = self(features)[0]
            return states
        inputs = nn.functional.linear(features, self.weight_ih_l0, self.bias_ih_l0)
        state = features.new_zeros(len(features), self.hidden_size)
        found = []
        for now in inputs.unbind(1):
            before = nn.functional.linear(state, self.weight_hh_l0, self.bias_hh_l0)
            reset_in, update_in, new_in = now.chunk(3, 1)
            reset_before, update_before, new_before = before.chunk(3, 1)
            update = torch.sigmoid(update_in + update_before)
            new = torch.tanh(new_in + torch.sigmoid(reset_in + reset_before) * new_before)
            state = new + update * (state - new)
            found.append(state)
        return torch.stack(found, 1)


class RecurrentNet(nn.Module):
    """Input (windows, channels, samples) float32; output (windows, classes) logits."""

    def __init__(
        self, *, channels: int, classes: int, filters: int, kernel: int, stride: int, units: int, dropout: float
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(channels, filters, kernel, stride, padding=kernel // 2, bias=False),
            nn.GroupNorm(1, filters),
            nn.ELU(),
        )
        self.recurrence = UnrollableGRU(filters, units)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return one row of logits per window."""
        states = self.recurrence.states(self.features(windows).transpose(1, 2))
        logits: Tensor = self.classifier(self.dropout(states.mean(1)))
        return logits

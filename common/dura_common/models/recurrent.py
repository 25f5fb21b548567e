"""A small recurrent network: a strided convolution over all channels, a GRU (Cho et al. 2014), its mean over time.

The recurrence is torch's own ``nn.GRU``. Opacus would need a cell written in Python, at twice the cost of everything
together; one ordinary backward pass per patient needs nothing special (:mod:`dura_client.training.engine`).
"""

from __future__ import annotations

from torch import Tensor, nn


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
        self.recurrence = nn.GRU(filters, units, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(units, classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return one row of logits per window."""
        states, _ = self.recurrence(self.features(windows).transpose(1, 2))
        logits: Tensor = self.classifier(self.dropout(states.mean(1)))
        return logits


def parameter_count(*, channels: int, classes: int, filters: int, kernel: int, units: int) -> int:
    """Return the exact number of parameters.

    With 22 channels, 16 filters of 16 samples, 32 units and 4 classes it is 10596: 5632 convolution, 32 norm, 4800
    recurrence (three gates with two biases each), 132 dense.
    """
    convolution = channels * filters * kernel
    recurrence = 3 * units * (filters + units + 2)
    return convolution + 2 * filters + recurrence + (units + 1) * classes

"""EEGNet (Lawhern et al. 2018, J. Neural Eng. 15:056013) in a form that patient-level privacy can train.

Three things differ from the paper. GroupNorm with one group replaces BatchNorm, because running batch statistics mix
patients and would be an unpaid release. ELU does not work in place. The max-norm constraints are a projection after the
optimiser's step, which is post-processing and costs no privacy. GroupNorm has a weight and
a bias per channel like BatchNorm, so the number of trained parameters is exactly the paper's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SEPARABLE_KERNEL = 16
FIRST_POOL = 4
SECOND_POOL = 8


class SpatialConv(nn.Conv2d):
    """A depthwise convolution over all channels at once, as one matrix product per temporal filter.

    The sums are those of ``nn.Conv2d``; the general kernel takes about six times as long for forward and backward.
    """

    def forward(self, windows: Tensor) -> Tensor:
        """Return (windows, filters, 1, samples) of (windows, groups, channels, samples)."""
        weight = self.weight.view(self.groups, -1, self.weight.shape[2])
        return torch.matmul(weight, windows).flatten(1, 2).unsqueeze(2)


class EEGNet(nn.Module):
    """Input (windows, channels, samples) float32; output (windows, classes) logits."""

    def __init__(
        self,
        *,
        channels: int,
        samples: int,
        classes: int,
        temporal_filters: int,
        depth_multiplier: int,
        separable_filters: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        spatial = temporal_filters * depth_multiplier
        self.features = nn.Sequential(
            _same_length(kernel),
            nn.Conv2d(1, temporal_filters, (1, kernel), bias=False),
            nn.GroupNorm(1, temporal_filters),
            SpatialConv(temporal_filters, spatial, (channels, 1), groups=temporal_filters, bias=False),
            nn.GroupNorm(1, spatial),
            nn.ELU(),
            nn.AvgPool2d((1, FIRST_POOL)),
            nn.Dropout(dropout),
            _same_length(SEPARABLE_KERNEL),
            nn.Conv2d(spatial, spatial, (1, SEPARABLE_KERNEL), groups=spatial, bias=False),
            nn.Conv2d(spatial, separable_filters, 1, bias=False),
            nn.GroupNorm(1, separable_filters),
            nn.ELU(),
            nn.AvgPool2d((1, SECOND_POOL)),
            nn.Dropout(dropout),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(separable_filters * (samples // FIRST_POOL // SECOND_POOL), classes)

    def forward(self, windows: Tensor) -> Tensor:
        """Return one row of logits per window."""
        logits: Tensor = self.classifier(self.features(windows.unsqueeze(1)))
        return logits


def _same_length(kernel: int) -> nn.ZeroPad2d:
    """Return the zeros around a signal that keep its length; torch's own "same" warns users about even kernels."""
    return nn.ZeroPad2d(((kernel - 1) // 2, kernel // 2, 0, 0))

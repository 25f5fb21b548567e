"""A linear model for fixed feature vectors, such as the edges of a connectome: one window is one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST_NORM = 1e-12


class LinearNet(nn.Module):
    """Input (windows, channels, samples) float32, read as one vector each; output (windows, classes) logits.

    The weights begin at zero. The sum of the first step is then the difference of the class means. There is no bias; a
    common direction of all vectors has the same effect.
    """

    def __init__(self, *, features: int, classes: int, unit_norm: bool) -> None:
        super().__init__()
        self.unit_norm = unit_norm
        self.classifier = nn.Linear(features, classes, bias=False)
        nn.init.zeros_(self.classifier.weight)

    def forward(self, windows: Tensor) -> Tensor:
        """Return one row of logits per window."""
        vectors = windows.flatten(1)
        if self.unit_norm:
            vectors = vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp(min=SMALLEST_NORM)
        logits: Tensor = self.classifier(vectors)
        return logits

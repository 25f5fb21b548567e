"""One example of a source whose examples are vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_client.data.sources.leaving_out import Broken

LABEL = b"dura vector v1\0"
"""Begins what the digest of an example's content is taken of."""


@dataclass(frozen=True, slots=True)
class Example:
    """One vector of a patient, or why there is none."""

    session: str | None
    vector: NDArray[np.float64] | None
    broken: Broken
    content: bytes
    """Plain digest of what the vector was made of: equal for copies."""

"""The integer grid of patient sums: noise is added to integers, so that no rounding of floats weakens it."""

from __future__ import annotations

GRID_BITS = 16
WHOLE = 1 << GRID_BITS
"""The clipping norm in steps of the grid: the L2 sensitivity of an integer sum to one patient."""

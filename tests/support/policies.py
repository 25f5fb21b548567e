"""Policies that tests vary."""

from __future__ import annotations

from typing import Any

from dura_common.policy import Policy

RULES: dict[str, Any] = {
    "epsilon_per_study": 8.0,
    "epsilon_total": 10.0,
    "delta": 1e-3,
    "minimum_patients": 10,
    "minimum_sites": 3,
    "public_data_without_noise": False,
}
"""The rules that every policy must state."""
STRICT = Policy(**{**RULES, "epsilon_per_study": 1.0, "epsilon_total": 1.0, "delta": 1e-4, "minimum_sites": 2})
"""What a hospital without recordings has, so that it can start."""


def policy(**changes: Any) -> Policy:
    """Return a policy of :data:`RULES` with changes."""
    return Policy(**{**RULES, **changes})

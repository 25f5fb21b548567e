"""Policies to begin with: named sets of rules, in place of loose numbers.

A hospital changes what it wants otherwise. Epsilon 3 means that somebody who knows everything about all other patients
answers at most 62 times in 100 rightly whether a given patient took part, epsilon 1 at most 55 times
(:mod:`dura_common.privacy.risk`).
"""

from __future__ import annotations

from enum import StrEnum

from dura_common.policy.rules import Policy


class Profile(StrEnum):
    """The names of the profiles."""

    STANDARD = "standard"
    STRICT = "strict"


PROFILES = {
    Profile.STANDARD: Policy(
        epsilon_per_study=3.0,
        epsilon_total=10.0,
        delta=1e-4,
        minimum_patients=10,
        minimum_sites=3,
        public_data_without_noise=False,
    ),
    Profile.STRICT: Policy(
        epsilon_per_study=1.0,
        epsilon_total=3.0,
        delta=1e-5,
        minimum_patients=20,
        minimum_sites=4,
        public_data_without_noise=False,
        own_countersignature=True,
        hide_timing=True,
    ),
}
"""The strict one also protects against somebody who watches the line or the clock, at two to three times the time."""

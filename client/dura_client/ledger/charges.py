"""The cost of a block for each of its patients, in whole numbers that can be added up: a privacy filter over studies.

Later studies may depend on the results of earlier studies, so prices cannot be composed as if all studies had been
fixed in advance. Before a block begins, it therefore gets a certificate of Gaussian differential privacy: except for a
leak of small probability, the two cases (with and without the patient) are as hard to tell apart as N(0, 1) and N(mu,
1). A patient takes part as long as the sum of the squares of mu stays under a limit, and the sum of the leaks too. This
is a valid filter under any adaptive choice (Smith and Thakurta 2022; Koskela, Tobaben and Honkela 2022). It also holds
for studies that run at the same time, because a whole block is charged when it is set aside.

Everything is counted twice: against everybody outside, who sees opened sums, and against somebody who broke the
aggregation and sees this site's vectors separately.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from dura_common.errors import InputError
from dura_common.privacy import event_from_json
from dura_common.privacy.gdp import (
    LARGEST_MU,
    UNITS,
    certificate_of,
    epsilon_of_mu,
    mu_of_epsilon,
    mu_of_units,
)

LEAK_UNIT = 2.0**-20
"""Unit of a leak's probability, as a share of the policy's delta."""
BLOCK_LEAK = 2.0**-12
"""Share of the policy's delta that one block of sampled steps may leak; more where delta is so small that the
accountant's own error counts."""
ALL_LEAKS = 2.0**-3
"""Share of the policy's delta for the leaks of all blocks together, 512 of them; the rest is for mu."""
DIFFERENCE = 1e-3
"""The share by which a price may be larger when it is computed again: half the margin of a certificate."""
MOST = 1 << 56
"""A charge beyond every cap; a hundred of them still fit an int64."""


class Charge(NamedTuple):
    """The cost of one block, or of several blocks, for a patient."""

    mu: int
    """Squared, in units of 2^-40 (:data:`~dura_common.privacy.gdp.UNITS`), against everybody outside."""
    leak: int
    """The leak, in units of the policy's delta times 2^-20."""
    mu_alone: int
    """As ``mu``, against somebody who broke the aggregation."""
    leak_alone: int

    def __add__(self, other: object) -> Charge:  # adds amounts, as numbers do
        if not isinstance(other, Charge):
            return NotImplemented
        return Charge(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING = Charge(0, 0, 0, 0)


def charge_of(event: str | None, alone: str | None, delta: float) -> Charge:
    """Return the charge of a block from its events (JSON as the ledger keeps them) at the policy's delta."""
    return Charge(*_certified(event, delta), *_certified(alone, delta))


def cap_of(epsilon: float, epsilon_alone: float, delta: float) -> Charge:
    """Return the largest charge of a patient under caps that hold at ``delta``."""
    leaks = round(ALL_LEAKS / LEAK_UNIT)
    return Charge(_largest(epsilon, delta), leaks, _largest(epsilon_alone, delta), leaks)


def epsilon_at(mu: int, leak: int, delta: float) -> float:
    """Return the epsilon at ``delta`` of a patient with this charge; infinite if the leaks use up delta."""
    left = delta * (1 - leak * LEAK_UNIT)
    if mu >= MOST or left <= 0:
        return math.inf
    return epsilon_of_mu(mu_of_units(mu), left)


def pays(charge: Charge, event: str | None, alone: str | None, delta: float) -> bool:
    """Tell whether an earlier recorded charge, perhaps from another machine, is enough for its block.

    Processors and versions of libraries differ in the last digits, so the numbers need not be equal.
    """
    return _covers(event, charge.mu, charge.leak, delta) and _covers(alone, charge.mu_alone, charge.leak_alone, delta)


@lru_cache(maxsize=4096)
def _covers(text: str | None, mu: int, leak: int, delta: float) -> bool:
    if text is None or mu >= MOST:
        return True
    written = leak * LEAK_UNIT * delta
    try:
        again = certificate_of(event_from_json(text), written or BLOCK_LEAK * delta)
    except InputError:
        return False
    return again.mu_squared <= mu * (1 + DIFFERENCE) + 1 and again.leak <= written * (1 + DIFFERENCE)


@lru_cache(maxsize=4096)
def _certified(text: str | None, delta: float) -> tuple[int, int]:
    if text is None:
        return 0, 0
    try:
        certificate = certificate_of(event_from_json(text), BLOCK_LEAK * delta)
    except InputError:
        return MOST, 0  # so little noise that there is no certificate: it fits under no cap
    return min(certificate.mu_squared, MOST), math.ceil(certificate.leak / delta / LEAK_UNIT)


@lru_cache(maxsize=256)
def _largest(epsilon: float, delta: float) -> int:
    """Return the largest mu squared whose epsilon stays at or under a cap, all leaks set aside."""
    mu = min(mu_of_epsilon(epsilon, delta * (1 - ALL_LEAKS)), LARGEST_MU)
    return math.floor(UNITS * mu * mu)

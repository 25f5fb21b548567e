"""Secret sharing over a prime field (Shamir 1979): any t shares give the secret, t - 1 give nothing.

The field is that of 2^256 + 297, the smallest prime above 2^256, so that every 32-byte secret fits. Python's integers
are not constant in time; a site splits its own fresh secrets once, and the coordinator joins what it may know.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, holders: Collection[int], threshold: int) -> dict[int, bytes]:
    """Return one share (33 bytes) for each holder (index from 0).

    Raises:
        ValueError: the secret has another length, or the holders cannot reach the threshold.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    if not 1 <= threshold <= len(holders):
        raise ValueError("the threshold must lie between 1 and the number of holders")
    polynomial = [int.from_bytes(secret, "big"), *(secrets.randbelow(PRIME) for _ in range(threshold - 1))]
    return {holder: _evaluate(polynomial, holder + 1).to_bytes(SHARE_BYTES, "big") for holder in holders}


def weights(holders: Collection[int]) -> dict[int, int]:
    """Return the Lagrange weights at zero for these holders; the same for every secret that they share."""
    found = {}
    for holder in holders:
        above = below = 1
        for other in holders:
            if other != holder:
                above = above * (other + 1) % PRIME
                below = below * (other - holder) % PRIME
        found[holder] = above * pow(below, -1, PRIME) % PRIME
    return found


def join(shares: Mapping[int, bytes], lagrange: Mapping[int, int]) -> bytes:
    """Return the secret of ``shares``, whose holders are exactly those of ``lagrange``.

    Raises:
        ValueError: a share is not a number of the field, or the shares do not belong to a 32-byte secret.
    """
    if shares.keys() != lagrange.keys():
        raise ValueError("shares and weights must belong to the same holders")
    total = 0
    for holder, share in shares.items():
        value = int.from_bytes(share, "big")
        if len(share) != SHARE_BYTES or value >= PRIME:
            raise ValueError("a share is not a number of the field")
        total += value * lagrange[holder]
    secret = total % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ValueError("the shares do not belong together")
    return secret.to_bytes(SECRET_BYTES, "big")


def _evaluate(polynomial: list[int], at: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * at + coefficient) % PRIME
    return value

"""Randomness that protects patients: from the operating system, through AES-256-CTR, never from a seed.

torch's and numpy's generators can be predicted from their output; an adversary who sees noised sums must not be
able to subtract the noise. Every call takes a fresh 256-bit key.
"""

from __future__ import annotations

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_KEY_BYTES = 32
_NONCE = bytes(16)  # a fresh key for every stream makes a fixed nonce safe


def words(count: int) -> NDArray[np.uint64]:
    """Return ``count`` uniform 64-bit words."""
    stream = Cipher(algorithms.AES(os.urandom(_KEY_BYTES)), modes.CTR(_NONCE)).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")


def uniform(count: int) -> NDArray[np.float64]:
    """Return ``count`` values uniform on (0, 1], 53 bits each."""
    return ((words(count) >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53


def gaussian(count: int) -> NDArray[np.float64]:
    """Return ``count`` standard normal values (Box and Muller 1958), float64."""
    half = (count + 1) // 2
    values = uniform(2 * half)
    radius = np.sqrt(-2.0 * np.log(values[:half]))
    angle = 2.0 * np.pi * values[half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


def integer_gaussian(count: int, deviation: float) -> NDArray[np.int64]:
    """Return rounded Gaussian values. Added to integers this equals rounding a continuous Gaussian mechanism.

    For integer x, round(x + z) = x + round(z): post-processing, so the Gaussian guarantee holds unchanged.
    """
    return np.rint(gaussian(count) * deviation).astype(np.int64)


def bernoulli(count: int, probability: float) -> NDArray[np.bool_]:
    """Return ``count`` independent coins that show True with ``probability``."""
    return uniform(count) <= probability


def choose(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` distinct indices below ``count``, uniformly at random."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.argsort(words(count), kind="stable")[:most]).astype(np.int64)

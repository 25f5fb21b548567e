"""Randomness that protects patients: from the operating system, through AES-256-CTR, never from a seed.

torch's and numpy's generators can be predicted from their output; an adversary who sees noised sums must not be
able to subtract the noise. Every call takes fresh 256-bit keys.

Noise is a Gaussian rounded to integers, drawn exactly. For integer x, round(x + z) = x + round(z): post-processing, so
the guarantee of the continuous Gaussian holds unchanged. Box and Muller (1958) give

    z = s sqrt(-2 ln U) cos(2 pi V) and the same with sin,

where U and V are real numbers, of which 64 bits are drawn at first. Float64 computes z to within 2^-44 s (by hand: two
units in the last place of each function, 2^-53 of the angle, and the bits of U that were not drawn). This error could
decide a rounding within 2^-40 s of a half-integer, and the bound does not hold for U very near to 0 or 1. There, the
value is computed again in big numbers, with 256 bits of U and V. So a value has the distribution of a rounded Gaussian,
except with a probability below 2^-190, and its tails reach 18.9 standard deviations (:mod:`dura_common.privacy.tails`).
With 53 bits, the tails would end at 8.57, and a patient who moves the sum by several standard deviations would be
visible beyond that end.
"""

from __future__ import annotations

import os

import mpmath
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from dura_common.privacy.tails import BITS

_KEY_BYTES = 32
_NONCE = bytes(16)  # a fresh key for every stream makes a fixed nonce safe

CHUNK = 1 << 16
"""Values drawn at once: they stay in the processor's cache."""
MORE_BITS = BITS - 64
"""More bits of U and V, drawn where the first 64 do not decide."""
_DOUBT = 2.0**-40
"""Distance from a half-integer, in standard deviations, below which float64 is not trusted: 16 times its error."""
_NEAR_ZERO = np.uint64(1 << 45)
"""Below this word, the missing bits of U are more than 2^-45 of it, and 64 bits cannot resolve the tail."""
_NEAR_ONE = np.uint64((1 << 64) - (1 << 48))
"""From this word on, ln U is the difference of nearly equal numbers."""
_big = mpmath.MPContext()
_big.prec = 320


def words(count: int) -> NDArray[np.uint64]:
    """Return ``count`` uniform 64-bit words."""
    stream = Cipher(algorithms.AES(os.urandom(_KEY_BYTES)), modes.CTR(_NONCE)).encryptor()
    return np.frombuffer(stream.update(bytes(8 * count)), dtype="<u8")


def uniform(count: int) -> NDArray[np.float64]:
    """Return ``count`` values uniform on (0, 1], 53 bits each."""
    return ((words(count) >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53


def integer_gaussian(count: int, deviation: float) -> NDArray[np.int64]:
    """Return ``count`` rounded Gaussian values of standard deviation ``deviation``, drawn exactly."""
    values = np.empty(count, dtype=np.int64)
    for begin in range(0, count, CHUNK):
        part = values[begin : begin + CHUNK]
        part[:] = rounded_gaussian(words(part.size + part.size % 2), deviation)[: part.size]
    return values


def rounded_gaussian(source: NDArray[np.uint64], deviation: float) -> NDArray[np.int64]:
    """Return the rounded values that words stand for, as many as there are words (an even number).

    The first half of the words are radii, the second half angles; value i and value ``half + i`` share both.
    """
    half = source.size // 2
    radius, angle = source[:half], source[half:]
    length = np.maximum(radius, 1).astype(np.float64) * 2.0**-64
    np.log(length, out=length)
    length *= -2.0 * deviation**2
    np.sqrt(length, out=length)
    turn = angle.astype(np.float64) * (2 * np.pi * 2.0**-64)
    values = np.concatenate([np.cos(turn), np.sin(turn)])
    values[:half] *= length
    values[half:] *= length
    rounded = np.rint(values)
    doubtful = np.abs(values - rounded) > 0.5 - deviation * _DOUBT
    again = (radius < _NEAR_ZERO) | (radius >= _NEAR_ONE) | doubtful[:half] | doubtful[half:]
    result: NDArray[np.int64] = rounded.astype(np.int64)
    for index in np.flatnonzero(again):
        more_radius, more_angle = (int.from_bytes(os.urandom(MORE_BITS // 8), "big") for _ in range(2))
        result[index], result[half + index] = exact_pair(
            int(radius[index]), int(angle[index]), more_radius, more_angle, deviation
        )
    return result


def exact_pair(radius: int, angle: int, more_radius: int, more_angle: int, deviation: float) -> tuple[int, int]:
    """Return two rounded values in big numbers, from 64-bit words and :data:`MORE_BITS` more bits of each."""
    # In the middle of what the bits leave open, so that U is never 0.
    u = _big.mpf(((radius << MORE_BITS | more_radius) << 1) + 1) / (1 << BITS + 1)
    v = _big.mpf(((angle << MORE_BITS | more_angle) << 1) + 1) / (1 << BITS + 1)
    length = _big.mpf(deviation) * _big.sqrt(-2 * _big.ln(u))
    return int(_big.nint(length * _big.cospi(2 * v))), int(_big.nint(length * _big.sinpi(2 * v)))


def bernoulli(count: int, probability: float) -> NDArray[np.bool_]:
    """Return the results of ``count`` independent coin flips, each True with ``probability``."""
    return uniform(count) <= probability


def choose(count: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` distinct indices below ``count``, uniformly at random."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.argsort(words(count), kind="stable")[:most]).astype(np.int64)

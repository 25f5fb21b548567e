"""Numbers in the ring: signed integers as two's complement words, and reals as fixed-point integers.

Zero is zero, so nothing is subtracted after the sum. A site refuses to send a value that could make the sum of all
members wrap around: with n members each value is at most (2^(bits-1) - 1) / n. Every vector ends in
:data:`~dura_common.secagg.wire.CHECK_WORDS` words of zero, which are zero in the sum exactly if all masks cancelled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.masks import Words, word_type
from dura_common.secagg.wire import CHECK_WORDS


def largest_value(ring_bits: int, members: int) -> int:
    """Return the largest absolute value of a word that ``members`` sites may send without wrapping the sum."""
    return ((1 << (ring_bits - 1)) - 1) // members


def to_words(values: NDArray[np.int64], ring_bits: int, members: int) -> Words:
    """Return a vector (length,) as words (length + check words,), ready to be masked in place.

    Raises:
        Abort: a value that could make the sum wrap around.
    """
    limit = largest_value(ring_bits, members)
    if values.size and (int(values.max()) > limit or int(values.min()) < -limit):
        raise Abort(Reason.OUT_OF_RANGE, f"a value does not fit a ring of {ring_bits} bits for {members} sites")
    words = np.zeros(values.size + CHECK_WORDS, dtype=word_type(ring_bits))
    words[: values.size] = values.astype(words.dtype)
    return words


def from_words(words: Words) -> NDArray[np.int64]:
    """Return the sum (length,) of the words (length + check words,).

    Raises:
        Abort: the check words are not zero: masks did not cancel.
    """
    if words[-CHECK_WORDS:].any():
        raise Abort(Reason.INCONSISTENT, "the masks of the sites did not cancel")
    signed = words[:-CHECK_WORDS].view(np.dtype(f"<i{words.dtype.itemsize}"))
    return signed.astype(np.int64)


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Real vectors with a bounded L2 norm as integers, at the finest grid that the ring holds for all members.

    Raises:
        ValueError: the ring is too small for even whole numbers of that norm.
    """

    norm: float
    """L2 bound of a vector; longer ones are shortened."""
    ring_bits: int
    members: int

    def __post_init__(self) -> None:
        if not (self.norm > 0 and math.isfinite(self.norm)):
            raise ValueError("the norm must be positive and finite")
        if self.fraction_bits < 0:
            raise ValueError(f"a norm of {self.norm:g} does not fit a ring of {self.ring_bits} bits")

    @property
    def fraction_bits(self) -> int:
        """Bits behind the point; the bit left over is room for rounding."""
        return min(40, math.floor(math.log2(largest_value(self.ring_bits, self.members) / self.norm)) - 1)

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Return a vector (length,) as integers, shortened to the norm and rounded to the nearest.

        Raises:
            Abort: a value is not finite.
        """
        exact = values.astype(np.float64)
        if not np.isfinite(exact).all():
            raise Abort(Reason.OUT_OF_RANGE, "a vector holds a value that is not a finite number")
        length = float(np.linalg.norm(exact))
        if length > self.norm:
            exact = exact * (self.norm / length)
        integers: NDArray[np.int64] = np.rint(np.ldexp(exact, self.fraction_bits)).astype(np.int64)
        return integers

    def decode(self, total: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a sum of encoded vectors as reals."""
        return np.ldexp(total.astype(np.float64), -self.fraction_bits)

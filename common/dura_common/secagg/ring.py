"""Numbers in the ring: signed integers as two's complement words, and reals as fixed-point integers.

Zero is encoded as zero, so nothing is subtracted after the sum. A site refuses to send a value that could make the sum
of all members wrap around: with n members, each value is at most (2^(bits-1) - 1) / n, so the sum of honest vectors is
exact.

Every vector ends in :data:`~dura_common.secagg.wire.CHECK_WORDS` words that each site computes before masking: two
zeros, the sum of all words, and the sum of all words times their place. All are linear, so they hold for the sum of
the vectors if they hold for each, and they say nothing that the sum does not say. Masks that do not cancel pass with
probability 2^-128 (ring of 32 bits); a vector of which one word was damaged never passes. They show damage and
faults, not lies: anybody who knows the sum can compute them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.arithmetic.masks import Words
from dura_common.secagg.arithmetic.parallel import in_parts
from dura_common.secagg.wire import CHECK_WORDS

_ROW = 4096
_BLOCK = 1 << 16
"""Values that are converted at a time: temporary arrays of the whole length cost more than the arithmetic."""
_PART = 1 << 18
"""For fewer values, starting a thread is not worth while."""


def largest_value(ring_bits: int, members: int) -> int:
    """Return the largest absolute value of a word that ``members`` sites may send without wrapping the sum."""
    return ((1 << (ring_bits - 1)) - 1) // members


def fill_words(words: Words, values: NDArray[np.signedinteger], members: int) -> None:
    """Write a vector (length,) into words (length + check words,), ready to be masked in place.

    Raises:
        Abort: a value that could make the sum wrap around; no word was written.
    """
    ring_bits = 8 * words.dtype.itemsize
    limit = largest_value(ring_bits, members)
    if values.size and (int(values.max()) > limit or int(values.min()) < -limit):
        raise Abort(Reason.OUT_OF_RANGE, f"a value does not fit a ring of {ring_bits} bits for {members} sites")
    np.copyto(words[:-CHECK_WORDS], values, casting="unsafe")
    words[-CHECK_WORDS:] = _checks(words[:-CHECK_WORDS])


def from_words(words: Words) -> NDArray[np.int64]:
    """Return the sum (length,) of the words (length + check words,).

    Raises:
        Abort: the check words do not hold: masks did not cancel, or a vector was damaged on its way.
    """
    if not np.array_equal(words[-CHECK_WORDS:], _checks(words[:-CHECK_WORDS])):
        raise Abort(Reason.INCONSISTENT, "the masks of the sites did not cancel, or a vector was damaged")
    signed = words[:-CHECK_WORDS].view(np.dtype(f"<i{words.dtype.itemsize}"))
    return signed.astype(np.int64)


def _checks(words: Words) -> Words:
    """Return the check words of a vector: 0, 0, sum of w[i], sum of i w[i], in the ring."""
    whole = words.size // _ROW * _ROW
    square, rest = words[:whole].reshape(-1, _ROW), words[whole:]
    kind = words.dtype
    rows, columns = (np.add.reduce(square, axis=axis, dtype=kind) for axis in (1, 0))
    columns[: rest.size] += rest
    # i = row * _ROW + column, so the weighted sum needs the sums of rows and of columns only.
    weighted = _ROW * (_total(rows * np.arange(rows.size, dtype=kind)) + rows.size * _total(rest))
    weighted += _total(columns * np.arange(_ROW, dtype=kind))
    return np.array([0, 0, _total(columns), weighted % (1 << (8 * kind.itemsize))], dtype=kind)


def _total(words: Words) -> int:
    """Return the sum in the ring."""
    return int(np.add.reduce(words, dtype=words.dtype))


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Real vectors with a bounded L2 norm as integers, at the finest grid that the ring holds for all members.

    Half of the ring is left free for rounding and for what else is added to the integers, such as noise.

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
        """Bits after the binary point; one more bit is left free for rounding."""
        return min(40, math.floor(math.log2(largest_value(self.ring_bits, self.members) / self.norm)) - 1)

    def encode(self, values: NDArray[np.floating]) -> NDArray[np.signedinteger]:
        """Return a vector (length,) as integers of the ring's size, shortened to the norm and rounded to the nearest.

        The integers' L2 norm is at most ``norm * 2**fraction_bits + sqrt(length) / 2``. The same values give the
        same integers on every machine: the norm is summed without BLAS, whose order of adding differs.

        Raises:
            Abort: a value is not finite.
        """
        squares = np.empty(-(-values.size // _BLOCK), dtype=np.float64)

        def square(begin: int, end: int) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                for at in range(begin, end, _BLOCK):
                    part = np.square(values[at : min(at + _BLOCK, end)], dtype=np.float64)
                    squares[at // _BLOCK] = np.add.reduce(part)

        in_parts(square, values.size, _BLOCK, _PART)
        total = math.fsum(squares) if math.isfinite(sum(squares.tolist())) else math.inf
        if not math.isfinite(total) and not np.isfinite(values).all():
            raise Abort(Reason.OUT_OF_RANGE, "a vector holds a value that is not a finite number")
        length = math.sqrt(total)
        factor = math.ldexp(min(1.0, self.norm / length) if length else 1.0, self.fraction_bits)
        integers = np.empty(values.size, dtype=np.dtype(f"i{self.ring_bits // 8}"))

        def scale(begin: int, end: int) -> None:
            for at in range(begin, end, _BLOCK):
                block = slice(at, min(at + _BLOCK, end))
                scaled = np.multiply(values[block], factor, dtype=np.float64)
                np.copyto(integers[block], np.rint(scaled, out=scaled), casting="unsafe")

        in_parts(scale, values.size, _BLOCK, _PART)
        return integers

    def decode(self, total: NDArray[np.signedinteger]) -> NDArray[np.float64]:
        """Return a sum of encoded vectors as reals."""
        return np.ldexp(total.astype(np.float64), -self.fraction_bits)

"""Numbers by themselves: fixed point, and sums that cannot wrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.support.secagg.sites import to_words

from dura_common.secagg import (
    Abort,
    FixedPoint,
    Reason,
    largest_value,
)
from dura_common.secagg.arithmetic.masks import word_type
from dura_common.secagg.ring import from_words


class TestNumbers:
    """Integers in the ring and reals on a grid."""

    @given(
        values=arrays.arrays(np.int64, st.integers(1, 9000), elements=st.integers(-(10**8), 10**8)),
        bits=st.sampled_from([32, 64]),
    )
    @settings(max_examples=50, deadline=None)
    def test_words_give_the_integers_back(self, values: np.ndarray, bits: int) -> None:
        """Two's complement there and back."""
        assert np.array_equal(from_words(to_words(values, bits, 20)), values)

    @given(
        values=arrays.arrays(np.int64, st.integers(1, 9000), elements=st.integers(-(10**8), 10**8)),
        bits=st.sampled_from([32, 64]),
    )
    @settings(max_examples=50, deadline=None)
    def test_check_words_are_the_sums_by_definition(self, values: np.ndarray, bits: int) -> None:
        """Two zeros, the sum, and the sum weighted by place, as Python's integers give them."""
        words = to_words(values, bits, 20)
        plain = sum(values.tolist()) % 2**bits
        weighted = sum(place * value for place, value in enumerate(values.tolist())) % 2**bits
        assert [int(word) for word in words[-4:]] == [0, 0, plain, weighted]

    @given(data=st.data(), length=st.integers(1, 9000), bits=st.sampled_from([32, 64]))
    @settings(max_examples=100, deadline=None)
    def test_damage_of_one_word_is_always_seen(self, data: st.DataObject, length: int, bits: int) -> None:
        """Any change of any single word, check words included, is noticed; so are two words that changed places."""
        words = to_words(np.arange(length), bits, 2)
        place = data.draw(st.integers(0, length + 3))
        words[place : place + 1] += word_type(bits).type(data.draw(st.integers(1, 2**bits - 1)))
        with pytest.raises(Abort, match="damaged"):
            from_words(words)
        if length > 1:
            swapped = to_words(np.arange(length), bits, 2)
            one, other = data.draw(st.lists(st.integers(0, length - 1), min_size=2, max_size=2, unique=True))
            swapped[[one, other]] = swapped[[other, one]]
            with pytest.raises(Abort, match="damaged"):
                from_words(swapped)

    @pytest.mark.parametrize("bits", [32, 64])
    @pytest.mark.parametrize("members", [2, 3, 100, 500])
    def test_the_limit_is_the_largest_safe_one(self, bits: int, members: int) -> None:
        """N times the limit fits a signed word, and n times one more does not."""
        limit = largest_value(bits, members)
        assert members * limit <= 2 ** (bits - 1) - 1 < members * (limit + 1)
        with pytest.raises(Abort, match="does not fit a ring") as caught:
            to_words(np.array([limit + 1]), bits, members)
        assert caught.value.reason is Reason.OUT_OF_RANGE
        with pytest.raises(Abort, match="does not fit a ring"):
            to_words(np.array([-limit - 1]), bits, members)
        assert from_words(to_words(np.array([limit, -limit]), bits, members)).tolist() == [limit, -limit]

    @given(
        values=arrays.arrays(
            st.sampled_from([np.float16, np.float32, np.float64]),
            st.integers(1, 100),
            elements=st.floats(-(2.0**15), 2.0**15, width=16),
        ),
        norm=st.floats(1e-3, 1e3),
        bits=st.sampled_from([32, 64]),
        members=st.integers(2, 500),
    )
    @settings(max_examples=200, deadline=None)
    def test_fixed_point_keeps_norm_and_value(self, values: np.ndarray, norm: float, bits: int, members: int) -> None:
        """Integers are the clipped reals to half a grid step, within the stated norm, and leave half of the ring."""
        grid = FixedPoint(norm, bits, members)
        integers = grid.encode(values)
        exact = values.astype(np.float64)
        length = float(np.linalg.norm(exact))
        clipped = exact * min(1.0, norm / length) if length else exact
        step = 2.0**-grid.fraction_bits
        # Beside half a step there is the rounding of float64 itself, at most 2^-51 of the value.
        assert np.abs(grid.decode(integers) - clipped).max() <= step / 2 + 2.0**-51 * norm
        in_steps = float(np.linalg.norm(integers.astype(np.float64)))
        assert in_steps <= (norm / step) * (1 + 2.0**-50) + math.sqrt(values.size) / 2
        assert 2 * (int(np.abs(integers).max()) - 1) <= largest_value(bits, members)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("place", [0, 40_000])
    def test_a_value_that_is_no_number_is_refused(self, bad: float, place: int) -> None:
        """NaN and infinity end the session instead of becoming integers."""
        values = np.zeros(70_000, dtype=np.float32)
        values[place] = bad
        with pytest.raises(Abort, match="not a finite number") as caught:
            FixedPoint(1.0, 32, 3).encode(values)
        assert caught.value.reason is Reason.OUT_OF_RANGE

    def test_huge_numbers_do_not_overflow(self) -> None:
        """A vector whose squares overflow has no usable direction: zero is sent, nothing beyond the norm."""
        assert not FixedPoint(1.0, 32, 3).encode(np.array([1e300, 1.0])).any()
        assert not FixedPoint(1.0, 32, 3).encode(np.full(200_000, 4e151)).any(), (
            "each block's sum is finite, all are not"
        )

    def test_a_ring_that_is_too_small_is_refused(self) -> None:
        """A norm that leaves no whole number is a mistake of the study."""
        with pytest.raises(ValueError, match="does not fit"):
            FixedPoint(2.0**31, 32, 3)
        for norm in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match="positive and finite"):
                FixedPoint(norm, 32, 3)

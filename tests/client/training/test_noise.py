"""The rounded Gaussian: exact against big numbers, known answers at fixed words, statistics, tails."""

from __future__ import annotations

import math
import tracemalloc

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dura_client.training import secure_random
from dura_client.training.secure_random import (
    CHUNK,
    MORE_BITS,
    bernoulli,
    exact_pair,
    integer_gaussian,
    rounded_gaussian,
    words,
)
from dura_common.privacy.tails import REACH

SCALES = (1.5, 9175.0, 1e6, 5e7)


def oracle(radius: int, angle: int, more: tuple[int, int], deviation: float) -> tuple[int, int]:
    """Return a pair by the textbook, in 200 decimal digits, from all 256 bits of both numbers."""
    with mpmath.workdps(200):
        u = (mpmath.mpf(radius) + (more[0] + mpmath.mpf(0.5)) / 2**MORE_BITS) / 2**64
        v = (mpmath.mpf(angle) + (more[1] + mpmath.mpf(0.5)) / 2**MORE_BITS) / 2**64
        length = deviation * mpmath.sqrt(-2 * mpmath.log(u))
        return int(mpmath.nint(length * mpmath.cos(2 * mpmath.pi * v))), int(
            mpmath.nint(length * mpmath.sin(2 * mpmath.pi * v))
        )


@pytest.mark.parametrize("deviation", SCALES)
def test_every_value_is_the_one_that_big_numbers_give(deviation: float) -> None:
    """Float64 never decides a rounding wrongly: 6,000 values at each of four scales."""
    source = words(6000)
    found = rounded_gaussian(source, deviation)
    middle = 1 << MORE_BITS - 1
    pairs = [exact_pair(int(source[i]), int(source[3000 + i]), middle, middle, deviation) for i in range(3000)]
    assert np.array_equal(found, np.array(pairs).T.ravel())


@settings(max_examples=300, deadline=None)
@given(
    radius=st.integers(0, 2**64 - 1) | st.integers(2**45, 2**46) | st.integers(2**64 - 2**48 - 2**40, 2**64 - 2**48),
    angle=st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**62, 2**63, 3 * 2**62, 2**64 - 1]),
    deviation=st.floats(0.5, 1e9),
)
def test_the_believed_error_of_float64_is_never_reached(radius: int, angle: int, deviation: float) -> None:
    """Whatever the bits behind the first 64, a value that float64 decides lies in the cell that it chose."""
    if not 2**45 <= radius < 2**64 - 2**48:
        return
    found = rounded_gaussian(np.array([radius, angle], dtype=np.uint64), deviation)
    ends = [oracle(radius, angle, (more, more), deviation) for more in (0, 2**MORE_BITS - 1)]
    for which in (0, 1):
        if ends[0][which] == ends[1][which]:
            assert found[which] == ends[0][which]
        else:  # the bits behind decide
            assert min(end[which] for end in ends) <= found[which] <= max(end[which] for end in ends)


@pytest.mark.parametrize(
    ("radius", "angle", "first", "second"),
    [
        # U and V in the middle of 256-bit cells; sqrt(2 * 257 * ln 2) and its like by the decimal module, 60 digits.
        (0, 0, 18875318562, 0),  # the end of the tails
        (0, 2**62, 0, 18875318562),
        (1, 2**63, -9419280180, 0),
        (2**45 - 1, 0, 5132211303, 0),
        (2**45, 0, 5132211303, 0),
        (2**63, 2**61, 832554611, 832554611),  # sqrt(2 ln 2) / sqrt(2)
        (2**64 - 1, 0, 0, 0),  # the radius next to nothing: 2^-32 of 1e9
        (2**64 - 2**48, 0, 5524293, 0),
    ],
)
def test_known_answers_at_fixed_words(radius: int, angle: int, first: int, second: int) -> None:
    """Fixed words give fixed values at a deviation of 1e9, zeros behind the words."""
    assert exact_pair(radius, angle, 0, 0, 1e9) == (first, second)
    assert oracle(radius, angle, (0, 0), 1e9) == (first, second)


@pytest.mark.parametrize("radius", [2**45, 2**63, 2**64 - 2**48 - 1])
def test_float64_gives_the_known_answers_inside_its_bounds(radius: int) -> None:
    """The fast path is tied to the same fixed words."""
    fast = rounded_gaussian(np.array([radius, 2**61 + 12345], dtype=np.uint64), 1e6)
    assert tuple(fast) == oracle(radius, 2**61 + 12345, (2**191, 2**191), 1e6)


def test_the_ends_are_resolved_in_big_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words near both ends and values near half-integers ask for more bits, others do not."""
    asked: list[int] = []

    def recorded(radius: int, *_rest: float) -> tuple[int, int]:
        asked.append(radius)
        return 7, 8

    monkeypatch.setattr(secure_random, "exact_pair", recorded)
    radii = [0, 2**45 - 1, 2**45, 2**63, 2**64 - 2**48 - 1, 2**64 - 2**48, 2**64 - 1]
    angles = [2**62 + 987654321] * len(radii)
    found = rounded_gaussian(np.array(radii + angles, dtype=np.uint64), 1e6)
    assert asked == [0, 2**45 - 1, 2**64 - 2**48, 2**64 - 1]
    assert [int(value) for value in found[[0, 1, 5, 6]]] == [7] * 4
    assert [int(value) for value in found[[7, 8, 12, 13]]] == [8] * 4
    # sqrt(-2 ln 2^-1) s = 1/2 exactly at the middle of a cell
    asked.clear()
    rounded_gaussian(np.array([2**63, 0], dtype=np.uint64), 0.5 / math.sqrt(2 * math.log(2)))
    assert asked == [2**63]


def test_values_are_rounded_normal_ones() -> None:
    """A million values pass a chi-squared test over 200 cells, at a large and at a small deviation."""
    count = 1_000_000
    large = integer_gaussian(count, 65536 * 0.7) / (65536 * 0.7)
    edges = stats.norm.ppf(np.linspace(0, 1, 201))
    assert stats.chisquare(np.histogram(large, edges)[0]).pvalue > 1e-6
    assert abs(large.var() - 1) < 5 * math.sqrt(2 / count)
    assert abs(stats.kurtosis(large)) < 5 * math.sqrt(24 / count)
    small = integer_gaussian(count, 1.5)
    cells = np.arange(-5, 6)
    expected = np.diff(stats.norm.cdf(np.concatenate([[-np.inf], cells[:-1] + 0.5, [np.inf]]), scale=1.5))
    seen = [(small <= -5).sum(), *((small == cell).sum() for cell in cells[1:-1]), (small >= 5).sum()]
    assert stats.chisquare(seen, count * expected).pvalue > 1e-6


def test_partners_and_neighbours_are_independent() -> None:
    """Values that share a pair of words, and values side by side, correlate neither themselves nor squared."""
    values = integer_gaussian(CHUNK * 6, 1e4) / 1e4
    halves = values.reshape(6, 2, CHUNK // 2)
    for first, second in ((halves[:, 0].ravel(), halves[:, 1].ravel()), (values[:-1], values[1:])):
        for power in (1, 2):
            assert abs(np.corrcoef(first**power, second**power)[0, 1]) < 5 / math.sqrt(first.size)


@pytest.mark.parametrize("count", [0, 1, 2, 3, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3])
def test_any_number_of_values(count: int) -> None:
    """Parts of a pair and of a chunk are drawn like whole ones."""
    values = integer_gaussian(count, 1e6)
    assert values.shape == (count,)
    assert values.dtype == np.int64
    assert count < 4 or np.unique(values).size > 0.9 * count


def test_long_vectors_need_little_memory() -> None:
    """A million values need their own 8 MiB and at most 6 more."""
    tracemalloc.start()
    try:
        integer_gaussian(1_000_000, 1e4)
        assert tracemalloc.get_traced_memory()[1] < 14 << 20
    finally:
        tracemalloc.stop()


def test_tails_go_on_to_the_end_of_256_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first word 0 values lie beyond 9.4 standard deviations, and with all bits 0 at the stated end."""
    source = np.array([0, 0], dtype=np.uint64)
    assert 9.4e6 < abs(int(rounded_gaussian(source, 1e6)[0])) <= REACH * 1e6 + 1
    monkeypatch.setattr(secure_random.os, "urandom", bytes)
    assert rounded_gaussian(source, 1e6)[0] == pytest.approx(REACH * 1e6, abs=1)


def test_coins_are_never_more_frequent_than_they_should_be() -> None:
    """Twenty thousand draws of 200 patients have the binomial mean and variance."""
    draws = np.array([bernoulli(200, 0.05).sum() for _ in range(20000)])
    assert abs(draws.mean() - 10) < 5 * math.sqrt(9.5 / draws.size)
    assert abs(draws.var() - 9.5) < 5 * 9.5 * math.sqrt(2 / draws.size)

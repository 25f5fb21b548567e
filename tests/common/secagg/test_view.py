"""What the coordinator sees: noise, and the sum. By chance one run in a million fails."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tests.support.secagg.sites import Sites, collect, session, simulation, to_words, vectors

from dura_common.secagg import Kind, SessionParameters, keys, largest_value, open_coordinator, wire
from dura_common.secagg.arithmetic import shamir
from dura_common.secagg.arithmetic.masks import add_masks, word_type
from dura_common.secagg.round_site import SELF_USE
from dura_common.secagg.wire import Type

LENGTH = 200_000
LEVEL = 1e-6 / 40
"""A million to one over the forty comparisons of this module."""


def masked(params: SessionParameters, value: int) -> dict[str, NDArray[np.unsignedinteger]]:
    """Return the vectors that the coordinator receives if every word of every site is ``value``."""
    run = simulation(params, lambda *_: np.full(params.length, value))
    run.run()
    return {
        site: np.frombuffer(frame, dtype=word_type(params.ring_bits), offset=wire.HEADER)
        for site, frames in run.seen.items()
        for frame in frames
        if frame[0] == Type.MASKED
    }


def assert_uniform(words: NDArray[np.unsignedinteger]) -> None:
    """Bytes at each place of a word and words as numbers look uniform, neighbours independent."""
    width = words.dtype.itemsize
    for place in range(width):
        counts = np.bincount(words.view(np.uint8)[place::width], minlength=256)
        assert stats.chisquare(counts).pvalue > LEVEL
    unit = words / 2.0 ** (8 * width)
    assert stats.kstest(unit, "uniform").pvalue > LEVEL
    assert stats.pearsonr(unit[:-1], unit[1:]).pvalue > LEVEL


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("extreme", [0, 1, -1])
def test_masked_vectors_look_uniform(kind: Kind, bits: int, extreme: int) -> None:
    """Whatever the sites send (zeros, all at the largest value, all at the smallest), each vector looks uniform."""
    params = session(3, kind, LENGTH, ring_bits=bits)
    seen = masked(params, extreme * largest_value(bits, 3))
    assert len(seen) == 3
    for words in seen.values():
        assert_uniform(words)


@pytest.mark.parametrize("kind", Kind)
def test_two_of_three_vectors_say_nothing_together(kind: Kind) -> None:
    """Sums and differences of two sites' vectors look uniform too: only all three together mean anything."""
    params = session(3, kind, LENGTH)
    one, two, three = masked(params, 0).values()
    for pair in (one + two, one - two, two + three, one - three):
        assert_uniform(pair)
    total = one + two + three
    if kind is Kind.STEP:
        assert not total.any()
    else:
        assert_uniform(total)  # the self-masks are still on


@pytest.mark.parametrize("kind", Kind)
def test_the_same_vectors_look_different_each_time(kind: Kind) -> None:
    """Two sessions of the same parameters and vectors share no word: their difference looks uniform."""
    params = session(3, kind, LENGTH)
    for first, second in zip(masked(params, 5).values(), masked(params, 5).values(), strict=True):
        assert_uniform(first - second)


def test_a_simulator_that_knows_only_the_sum_gives_the_same_view() -> None:
    """Random vectors that fit the sum pass for a real view: the coordinator opens the same sum, statistics agree.

    The simulator runs the sites with no data for all that does not depend on it (keys, shares, signatures), and
    replaces the masked vectors by uniform ones, of which the last makes the sum right (Bonawitz et al. 2017,
    theorem 6.5).
    """
    params = session(4, Kind.ROUND, LENGTH, threshold=3)
    vector = vectors(params, limit=largest_value(32, 4))
    real = simulation(params, vector)
    (opened,) = real.run()

    empty = Sites(params, lambda *_: np.zeros(LENGTH, dtype=np.int64))
    coordinator = open_coordinator(params)
    frames = collect(coordinator, empty.advertise()).outgoing
    frames = collect(coordinator, empty.tell(frames)).outgoing
    seeds = {name: site._seed for name, site in empty.sites.items()}
    empty.tell(frames)
    simulated = simulated_vectors(opened.total, list(seeds.values()))
    answers = {
        name: wire.encode(Type.MASKED, params.session_id, 0, words.data.cast("B"))
        for name, words in zip(params.names, simulated, strict=True)
    }
    frames = collect(coordinator, answers).outgoing
    frames = collect(coordinator, empty.tell(frames)).outgoing
    result = collect(coordinator, empty.tell(frames)).opened
    assert result is not None
    assert np.array_equal(result.total, opened.total)

    received = [
        np.frombuffer(frame, dtype="<u4", offset=wire.HEADER)
        for name in params.names
        for frame in real.seen[name]
        if frame[0] == Type.MASKED
    ]
    for ours, theirs in zip(received, simulated, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > LEVEL
    pairs = [(0, 1), (1, 2), (2, 3)]
    for one, two in pairs:
        assert stats.ks_2samp(received[one] + received[two], simulated[one] + simulated[two]).pvalue > LEVEL
    sizes = {name: [len(frame) for frame in frames] for name, frames in real.seen.items()}
    assert len({tuple(lengths) for lengths in sizes.values()}) == 1  # lengths say nothing either


def simulated_vectors(total: NDArray[np.int64], seeds: list[bytes | None]) -> list[NDArray[np.unsignedinteger]]:
    """Return uniform vectors that, once the self-masks of these seeds are taken off, sum to ``total``."""
    drawn = np.random.default_rng()
    size = total.size + wire.CHECK_WORDS
    free = [drawn.integers(0, 2**32, size, dtype=np.uint32).astype("<u4") for _ in seeds[1:]]
    last = to_words(total, 32, 1)
    add_masks(last, [keys.mask_key(seed, SELF_USE) for seed in seeds if seed is not None], [])
    for words in free:
        last -= words
    return [*free, last]


def test_shares_look_uniform() -> None:
    """Shares that a holder sees are spread over the field, whatever the secret (here: zero)."""
    shares = [share for _ in range(3000) for share in list(shamir.split(bytes(32), range(5), 4).values())[:3]]
    values = np.array([int.from_bytes(share, "big") / shamir.PRIME for share in shares])
    assert stats.kstest(values, "uniform").pvalue > LEVEL
    low = np.bincount([share[-1] for share in shares], minlength=256)
    assert stats.chisquare(low).pvalue > LEVEL

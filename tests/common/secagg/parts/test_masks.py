"""Masks by themselves: keystreams added in the ring."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.common.secagg.reference import keystream

from dura_common.secagg.arithmetic import masks
from dura_common.secagg.arithmetic.masks import PART, PIECE, add_masks, word_type

KEYS = [bytes([number]) * 32 for number in range(5)]


class TestMasks:
    """Keystreams added in the ring."""

    @pytest.mark.parametrize("bits", [32, 64])
    @pytest.mark.parametrize("extra", [-1, 0, 1])
    @pytest.mark.parametrize("pieces", [0, 1, 2, 9])
    def test_words_are_little_endian_words_of_the_keystream(self, bits: int, extra: int, pieces: int) -> None:
        """A mask is the keystream cut into little-endian words, also at the borders of pieces and threads' parts."""
        count = max(0, pieces * PIECE * 8 // bits + extra)
        words = np.zeros(count, dtype=word_type(bits))
        add_masks(words, KEYS[:1], [])
        whole = masks._stream(KEYS[0], 0).update(bytes(words.nbytes))
        assert words.tobytes() == whole
        sample = min(words.nbytes, 4096)
        assert whole[:sample] == keystream(KEYS[0], sample)
        if count:
            last = struct.unpack("<" + "IQ"[bits == 64], whole[-bits // 8 :])
            assert int(words[-1]) == last[0]

    @pytest.mark.parametrize("threads", [1, 2, 3, 4, 16])
    @pytest.mark.parametrize("size", [0, 1, PART // 4, 4 * PART // 4 + 17])
    def test_threads_change_nothing(self, threads: int, size: int) -> None:
        """The same words come out for any number of threads."""
        first, second = (np.arange(size, dtype="<u4") for _ in range(2))
        add_masks(first, KEYS[:2], KEYS[2:], threads=1)
        add_masks(second, KEYS[:2], KEYS[2:], threads=threads)
        assert np.array_equal(first, second)

    @pytest.mark.parametrize("piece", [64, 4096, 1 << 20])
    def test_the_size_of_pieces_changes_nothing(self, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same words come out for any size of pieces."""
        first, second = (np.zeros(100_003, dtype="<u8") for _ in range(2))
        add_masks(first, KEYS, [], threads=1)
        monkeypatch.setattr(masks, "PIECE", piece)
        monkeypatch.setattr(masks, "_ZEROS", bytes(piece))
        add_masks(second, KEYS, [], threads=1)
        assert np.array_equal(first, second)

    @given(values=arrays.arrays("<u4", st.integers(0, 300)), chosen=st.permutations(KEYS))
    def test_opposite_masks_cancel(self, values: np.ndarray, chosen: list[bytes]) -> None:
        """What is added with some keys and subtracted with the same is as before."""
        words = values.copy()
        add_masks(words, chosen[:3], chosen[3:])
        assert values.size < 8 or not np.array_equal(words, values)
        add_masks(words, chosen[3:], chosen[:3])
        assert np.array_equal(words, values)

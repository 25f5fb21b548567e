"""Masks: AES-256-CTR keystreams read as little-endian words and added in the ring.

A key serves one stream and is never used again, so the nonce is fixed at zero. The outer loop goes over pieces of
256 KiB and the inner one over peers: the piece stays in the cache, and no buffer of the vector's size is allocated
(fresh large buffers cost five to seven times the encryption itself).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

PIECE = 1 << 18
_NONCE = bytes(16)
_ZEROS = bytes(PIECE)
_BLOCK = 16

Words = NDArray[np.unsignedinteger]


def word_type(ring_bits: int) -> np.dtype[np.unsignedinteger]:
    """Return the type of a ring's words: little-endian on every machine."""
    return np.dtype("<u4" if ring_bits == 32 else "<u8")  # noqa: PLR2004  # the ring has 32 or 64 bits


def add_masks(target: Words, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
    """Add the masks of the keys in ``plus`` to ``target`` (words,) in place, and subtract those in ``minus``.

    Args:
        target: '<u4' or '<u8', contiguous.
        plus: keys of 32 bytes.
        minus: keys of 32 bytes.
    """
    streams = [(_stream(key), np.add) for key in plus] + [(_stream(key), np.subtract) for key in minus]
    buffer = bytearray(PIECE + _BLOCK - 1)
    words = np.frombuffer(buffer, dtype=np.uint8)[:PIECE].view(target.dtype)
    step = PIECE // target.dtype.itemsize
    for begin in range(0, target.size, step):
        piece = target[begin : begin + step]
        zeros = _ZEROS if piece.size == step else _ZEROS[: piece.nbytes]
        for stream, combine in streams:
            stream.update_into(zeros, buffer)
            combine(piece, words[: piece.size], out=piece)


def _stream(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(_NONCE)).encryptor()

"""Masks: AES-256-CTR keystreams read as little-endian words and added in the ring.

A key serves one stream and is never used again, so the nonce is fixed at zero. The outer loop goes over pieces of
256 KiB and the inner one over peers: the piece stays in the cache, and no buffer of the vector's size is allocated
(fresh large buffers cost five to seven times the encryption itself). A keystream can be entered anywhere, so long
vectors are cut into one part for each core; cipher and addition both let other threads run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from dura_common.secagg.arithmetic.parallel import in_parts

PIECE = 1 << 18
PART = 4 * PIECE
"""For fewer bytes, starting a thread is not worth while."""
_ZEROS = bytes(PIECE)
_BLOCK = 16

Words = NDArray[np.unsignedinteger]


def word_type(ring_bits: int) -> np.dtype[np.unsignedinteger]:
    """Return the type of a ring's words: little-endian on every machine."""
    return np.dtype("<u4" if ring_bits == 32 else "<u8")  # noqa: PLR2004  # the ring has 32 or 64 bits


def add_masks(target: Words, plus: Sequence[bytes], minus: Sequence[bytes], *, threads: int | None = None) -> None:
    """Add the masks of the keys in ``plus`` to ``target`` (words,) in place, and subtract those in ``minus``.

    Args:
        target: '<u4' or '<u8', contiguous.
        plus: keys of 32 bytes.
        minus: keys of 32 bytes.
        threads: parts that are computed at the same time; by default, the machine's cores. The result is the same.
    """
    signed = [(key, np.add) for key in plus] + [(key, np.subtract) for key in minus]
    in_parts(lambda begin, end: _add_part(target, signed, begin, end), target.nbytes, PIECE, PART, threads)


def _add_part(target: Words, keys: Sequence[tuple[bytes, Callable[..., Words]]], begin: int, end: int) -> None:
    """Add and subtract the masks of the bytes from ``begin`` (a multiple of a piece) to ``end``."""
    width = target.dtype.itemsize
    streams = [(_stream(key, begin), combine) for key, combine in keys]
    buffer = bytearray(PIECE + _BLOCK - 1)
    words = np.frombuffer(buffer, dtype=np.uint8)[:PIECE].view(target.dtype)
    for at in range(begin, end, PIECE):
        piece = target[at // width : min(at + PIECE, end) // width]
        zeros = _ZEROS if piece.nbytes == PIECE else _ZEROS[: piece.nbytes]
        for stream, combine in streams:
            stream.update_into(zeros, buffer)
            combine(piece, words[: piece.size], out=piece)


def _stream(key: bytes, begin: int) -> CipherContext:
    """Return the keystream of a key from byte ``begin`` (a multiple of 16) on."""
    return Cipher(algorithms.AES(key), modes.CTR((begin // _BLOCK).to_bytes(16, "big"))).encryptor()

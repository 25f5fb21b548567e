"""Files of prepared patients, plain or encrypted at rest, written and read from begin to end in pieces.

An encrypted file is a magic word, a salt, and pieces of :data:`PIECE` bytes under AES-256-GCM. The key of a file comes
from the site's key and the salt (HKDF-SHA256). The number of a piece is its nonce, and the last piece says that it is
the last, so that nothing can be reordered, repeated or cut off without notice.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"dura sealed 1\0\0\0"
SALT_BYTES = 16
KEY_BYTES = 32
PIECE = 1 << 20
TAG_BYTES = 16
LABEL = b"dura prepared file v1"


class Damaged(Exception):
    """A file of the store is not what was written."""


class Seal:
    """Encrypts files with one key of the site, 32 bytes."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {KEY_BYTES} bytes is expected, got {len(key)}")
        self._key = key

    def cipher(self, salt: bytes) -> AESGCM:
        """Return the cipher of one file."""
        return AESGCM(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=LABEL).derive(self._key))


class _Sealing(io.RawIOBase):
    """A stream that encrypts what is written to it."""

    def __init__(self, below: BinaryIO, seal: Seal) -> None:
        salt = os.urandom(SALT_BYTES)
        below.write(MAGIC + salt)
        self._below, self._cipher = below, seal.cipher(salt)
        self._waiting, self._count = bytearray(), 0

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        added = memoryview(cast("bytes", content)).cast("B")
        self._waiting += added
        while len(self._waiting) > PIECE:  # one piece always waits: it may be the last
            self._put(self._waiting[:PIECE], last=False)
            del self._waiting[:PIECE]
        return len(added)

    def finish(self) -> None:
        """Write the last piece."""
        self._put(self._waiting, last=True)

    def _put(self, piece: bytearray, *, last: bool) -> None:
        nonce = self._count.to_bytes(12, "big")
        self._below.write(self._cipher.encrypt(nonce, bytes(piece), b"last" if last else b"more"))
        self._count += 1


class _Opening(io.RawIOBase):
    """A stream that decrypts and checks a file."""

    def __init__(self, below: BinaryIO, seal: Seal) -> None:
        head = below.read(len(MAGIC) + SALT_BYTES)
        if not head.startswith(MAGIC) or len(head) != len(MAGIC) + SALT_BYTES:
            raise Damaged("the file is not encrypted as expected")
        self._below, self._cipher = below, seal.cipher(head[len(MAGIC) :])
        self._ready, self._count = memoryview(b""), 0
        self._next = below.read(PIECE + TAG_BYTES)
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        wanted = memoryview(cast("bytearray", buffer)).cast("B")
        if not len(self._ready) and not self._ended:
            self._open_next()
        count = min(len(wanted), len(self._ready))
        wanted[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _open_next(self) -> None:
        piece, self._next = self._next, self._below.read(PIECE + TAG_BYTES)
        self._ended = not self._next
        nonce, said = self._count.to_bytes(12, "big"), b"last" if self._ended else b"more"
        try:
            self._ready = memoryview(self._cipher.decrypt(nonce, piece, said))
        except InvalidTag as error:
            raise Damaged("the file was changed, or encrypted with another key") from error
        self._count += 1


@contextmanager
def writing(path: Path, seal: Seal | None, *, lasting: bool = True) -> Iterator[BinaryIO]:
    """Open a new file; when the block ends, its content is on the disk, or at least on its way if it need not last."""
    with path.open("xb") as stream:
        if seal is None:
            yield stream
        else:
            sealing = _Sealing(stream, seal)
            yield cast("BinaryIO", sealing)
            sealing.finish()
        stream.flush()
        if lasting:
            os.fsync(stream.fileno())


@contextmanager
def reading(path: Path, seal: Seal | None) -> Iterator[BinaryIO]:
    """Open a file for reading from begin to end.

    Raises:
        Damaged: it is encrypted in another way than expected; while it is read, that it was changed.
    """
    with path.open("rb") as stream:
        yield stream if seal is None else cast("BinaryIO", io.BufferedReader(_Opening(stream, seal), PIECE))

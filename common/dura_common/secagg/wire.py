"""Frames: strict, length-prefixed, sized before they are read. This module decides nothing.

A frame is type (1 byte), three zero bytes, step (4, big-endian), session id (32) and a body. Numbers are
big-endian, vectors little-endian words. A list is a count (2 bytes) and its items; an index is 2 bytes. The header's
40 bytes keep the words of a vector aligned: adding unaligned ones takes three times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from dura_common.secagg.abort import Abort, Reason

HEADER = 40
INDEX = 2
KEY = 32
SIGNATURE = 64
COMMITMENT = 32
NOTE_HEAD = 80
NOTE_PART = 72
"""A note is what a site says to the others together with its keys; nothing here reads it. See :func:`note_size`."""
SHARE = 33
"""A share is a number below 2^256 + 297."""
SEALED = 2 * SHARE + 16
"""Two shares and the tag of AES-GCM."""
CHECK_WORDS = 4
"""Words at the end of every vector that reveal damage, see :mod:`~dura_common.secagg.ring`."""
_RESERVED = bytes(3)


class Type(IntEnum):
    """The kind of a frame; a number never changes its meaning."""

    ADVERTISE = 1
    KEYS = 2
    SHARES = 3
    SEALED_SHARES = 4
    MASKED = 5
    SURVIVORS = 6
    CONFIRM = 7
    CONFIRMS = 8
    UNMASK = 9
    OPENED = 10
    ABORT = 11


_TYPES = frozenset(int(kind) for kind in Type)


def note_size(members: int) -> int:
    """Return the size of a note in a session with so many members: about its sender, and about each other member."""
    return NOTE_HEAD + NOTE_PART * (members - 1)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, split into its parts but not checked."""

    type: Type
    session: bytes
    step: int
    body: memoryview


def encode(kind: Type, session: bytes, step: int, body: bytes | memoryview) -> bytes:
    """Return a frame."""
    return b"".join((_header(kind, session, step), body))


def open_frame(kind: Type, session: bytes, step: int, size: int) -> tuple[memoryview, memoryview]:
    """Return a frame and its body of ``size`` zeros, so that a long body is written directly into its frame."""
    content = bytearray(HEADER + size)
    content[:HEADER] = _header(kind, session, step)
    return memoryview(content).toreadonly(), memoryview(content)[HEADER:]


def _header(kind: Type, session: bytes, step: int) -> bytes:
    return b"".join((bytes([kind]), _RESERVED, step.to_bytes(4, "big"), session))


def decode(content: bytes | memoryview) -> Frame:
    """Split a frame into its parts.

    Raises:
        Abort: the frame is too short, or its type is unknown.
    """
    view = memoryview(content)
    if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:
        raise Abort(Reason.MALFORMED, "a frame is too short or of unknown type")
    return Frame(Type(view[0]), bytes(view[8:HEADER]), int.from_bytes(view[4:8], "big"), view[HEADER:])


def encode_items(items: Mapping[int, bytes]) -> bytes:
    """Return items by index, in the order of the indices."""
    parts = [len(items).to_bytes(INDEX, "big")]
    parts += [index.to_bytes(INDEX, "big") + items[index] for index in sorted(items)]
    return b"".join(parts)


def decode_items(body: memoryview, size: int, members: int) -> dict[int, bytes]:
    """Read items of ``size`` bytes by index.

    Raises:
        Abort: the length differs from the announced one, or an index is repeated, out of order or no member's.
    """
    count = int.from_bytes(body[:INDEX], "big")
    width = INDEX + size
    if len(body) != INDEX + count * width or count > members:
        raise Abort(Reason.MALFORMED, f"a list of {count} items has a body of {len(body)} bytes")
    items: dict[int, bytes] = {}
    last = -1
    for place in range(count):
        begin = INDEX + place * width
        index = int.from_bytes(body[begin : begin + INDEX], "big")
        if not last < index < members:
            raise Abort(Reason.MALFORMED, "the items of a list must be of distinct members, in order")
        items[index] = bytes(body[begin + INDEX : begin + width])
        last = index
    return items


def encode_set(indices: Iterable[int]) -> bytes:
    """Return a set of members."""
    return encode_items(dict.fromkeys(indices, b""))


def decode_set(body: memoryview, members: int) -> frozenset[int]:
    """Read a set of members.

    Raises:
        Abort: as for :func:`decode_items`.
    """
    return frozenset(decode_items(body, 0, members))


def parts(body: memoryview, *sizes: int) -> tuple[bytes, ...]:
    """Cut a body of fixed fields.

    Raises:
        Abort: the body has another length.
    """
    if len(body) != sum(sizes):
        raise Abort(Reason.MALFORMED, f"a body of {sum(sizes)} bytes is expected, got {len(body)}")
    found, begin = [], 0
    for size in sizes:
        found.append(bytes(body[begin : begin + size]))
        begin += size
    return tuple(found)

"""What a file is, told by its first bytes and its size, before any reader gives its failure another name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from dura_client.data.recordings.source import Unreadable

HEAD_BYTES = 512
EMPTY = "it has 0 bytes"
POINTER_BYTES = 2048
"""A pointer of git-annex or git-lfs is smaller."""

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\xffBIOSEMI", "BDF"),
    (b"0       ", "EDF"),
    (b"GDF ", "GDF"),
    (b"Brain Vision Data Exchange Header", "BrainVision header"),
    (b"BrainVision Data Exchange Header", "BrainVision header"),
    (b"Brain Vision Data Exchange Marker", "BrainVision markers"),
    (b"BrainVision Data Exchange Marker", "BrainVision markers"),
    (b"MATLAB 5.0", "MATLAB"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "zip"),
    (b"\x00\x00\x00\x64", "FIF"),
    (b"Version 3.0", "Neuroscan CNT"),
)
STRUCTURE_BYTES = 1 << 18
"""Of a MATLAB file, unpacked: in EEGLAB's order the number of channels stands long before the samples."""
_MATLAB_HEAD, _MATLAB_PACKED, _MATLAB_ARRAY = 128, 15, 14
_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d"}
_PACKED = {"gzip", "bzip2", "xz", "zip"}
_TEXTS = (b"{", b"onset", b"participant_id", b"name\t")


def kind_of(path: Path) -> str:
    """Return what the file is by its first bytes, such as ``EDF``; empty if they say nothing known.

    Raises:
        Unreadable: there is no recording in it at all: a pointer, an empty file, a web page, a link to nowhere.
    """
    if path.is_symlink() and not path.exists():
        target = path.readlink()
        annexed = "annex/objects" in str(target)
        raise (
            Unreadable("FILE-PTR", "git-annex has not fetched it")
            if annexed
            else Unreadable("FILE-LINK", "it is a link, and what it points to does not exist")
        )
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
        size = path.stat().st_size
    except OSError as error:
        raise Unreadable("FILE-DENIED", f"the system says: {error.strerror}") from error
    if size == 0:
        raise Unreadable("FILE-EMPTY", EMPTY)
    if head.startswith(b"version https://git-lfs"):
        raise Unreadable("FILE-PTR", "it is a pointer of git-lfs instead of the content")
    if size <= POINTER_BYTES and b"annex/objects" in head:
        raise Unreadable("FILE-PTR", "it is a pointer of git-annex instead of the content")
    stripped = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if stripped.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Unreadable("FILE-EMPTY", "it is a web page (a login or an error page), not a recording")
    if not head.strip(b"\0"):
        whole_zero = "only zeros at its beginning, as an interrupted copy leaves them"
        raise Unreadable("FILE-EMPTY", f"it has {size} bytes, {whole_zero}")
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    return ""


def declared_number(path: Path, name: str) -> int | None:
    """Return a field such as ``nbchan`` of an EEGLAB file (MATLAB's format 5); None if it is not in its usual place."""
    with path.open("rb") as stream:
        content = stream.read(_MATLAB_HEAD + STRUCTURE_BYTES)
    if content[126:128] != b"IM":  # written on a machine of the other byte order
        return None
    try:
        kind, _ = struct.unpack_from("<II", content, _MATLAB_HEAD)
        body = content[_MATLAB_HEAD:]
        if kind == _MATLAB_PACKED:
            body = zlib.decompressobj().decompress(body[8:], STRUCTURE_BYTES)
        return _field(body, name)
    except (struct.error, zlib.error, ValueError, IndexError):
        return None


def _field(body: bytes, wanted: str) -> int | None:
    """Return a whole number among the fields of the structure with which an unpacked MATLAB element begins."""
    at = 8
    for _ in range(3):  # flags, dimensions and name of the structure
        _, _, at = _element(body, at)
    _, width, at = _element(body, at)
    _, names, at = _element(body, at)
    size = struct.unpack("<i", width)[0]
    for begin in range(0, len(names), size):
        kind, array, at = _element(body, at)
        if names[begin : begin + size].partition(b"\0")[0].decode("latin-1") != wanted:
            continue
        inner = 0
        for _ in range(3):
            _, _, inner = _element(array, inner)
        kind, number, _ = _element(array, inner)
        (value,) = struct.unpack(f"<{_NUMBERS[kind]}", number) if kind in _NUMBERS else (None,)
        return int(value) if value is not None and value == int(value) else None
    return None


def _element(body: bytes, at: int) -> tuple[int, bytes, int]:
    """Return kind, content and end of an element of MATLAB's format 5; small ones stand in their own head."""
    kind, size = struct.unpack_from("<II", body, at)
    if kind >> 16:
        return kind & 0xFFFF, body[at + 4 : at + 4 + (kind >> 16)], at + 8
    begin = at + 8
    return kind, body[begin : begin + size], begin + size + (-size % 8)


def require_kind(path: Path, *wanted: str) -> None:
    """Refuse a file whose content is something else than its name says.

    Raises:
        Unreadable: it is; or there is no recording in it at all.
    """
    kind = kind_of(path)
    if kind in wanted:
        return
    if kind in _PACKED:
        raise Unreadable("FILE-GZ", f"its content is packed ({kind}) although its name ends in {path.suffix}")
    if kind:
        raise Unreadable("FILE-KIND", f"its content is {kind}, and its name says {' or '.join(wanted)}")
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(_TEXTS):
        raise Unreadable("FILE-KIND", f"its content is a text file, and its name says {' or '.join(wanted)}")
    raise Unreadable("FILE-HEAD", f"its first bytes are not those of {' or '.join(wanted)}")

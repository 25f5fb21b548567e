"""What a site says in a secure sum, to every other member: its roster, how far its ledger is, and what it has seen.

It travels as the note of the secure aggregation (:mod:`dura_common.secagg.wire`), under the signature of the site's
keys. All members get the same bytes or their masks do not cancel, so a coordinator that shows different rosters to
different sites, and a site that was set back to an older state, are seen at the first sum, without another message.

A note holds the sender's own count and mark, and a part for each other member, in the order of the members: the reports
of that member that the sender has witnessed and that the member has not confirmed yet, and how far the sender has
confirmed what that member has witnessed of the sender. A site compares what others have witnessed of it with its own
ledger, and so notices an older backup in its place, whatever a coordinator has asked it for since.

Nothing in it depends on recordings or patients: the rows follow requests, and the mark is keyed by a secret.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from dura_common.errors import TrustError
from dura_common.secagg.wire import NOTE_HEAD, NOTE_PART, note_size

MOST_REPORTS = 4
"""Reports of one member that a site holds at a time."""
_NUMBER, _DIGEST = 8, 32
assert NOTE_HEAD == 2 * (_NUMBER + _DIGEST)  # noqa: S101  # of the two layouts, which no input changes
assert NOTE_PART == (MOST_REPORTS + 1) * _NUMBER + _DIGEST  # noqa: S101  # idem
_UNSEEN = bytes(NOTE_PART)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one ledger is."""

    rows: int
    """Requests taken up and draws begun, of all studies: only grows."""
    mark: str
    """What stands for the ledger up to the last of these rows, 64 hex digits; means nothing to other sites."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What one site shows another one of what it has witnessed of it."""

    rows: tuple[int, ...]
    """How far the other one's ledger was in each report, ``MOST_REPORTS`` numbers; 0 where there is none."""
    digest: str
    """Of the marks of these reports, 64 hex digits."""
    confirmed: int = 0
    """How far the sender's own ledger was in the last report that the other one has shown it, and that it holds."""

    @classmethod
    def of(cls, reports: Sequence[Mark], confirmed: int = 0) -> Self:
        """Return what stands for some reports, at most ``MOST_REPORTS``."""
        rows = tuple(one.rows for one in reports) + (0,) * (MOST_REPORTS - len(reports))
        return cls(rows, _digest(reports), confirmed)

    def fits(self, ledger: Mapping[int, Mark]) -> bool:
        """Tell whether a ledger has ever stood at each of the reports.

        Args:
            ledger: its marks by number of rows; a number that it has not reached yet is missing.
        """
        numbers = [number for number in self.rows if number]
        marks = [ledger[number] for number in numbers if number in ledger]
        return len(marks) == len(numbers) and hmac.compare_digest(_digest(marks), self.digest)

    def encode(self) -> bytes:
        """Return one part of a note, ``NOTE_PART`` bytes."""
        numbers = b"".join(number.to_bytes(_NUMBER, "big") for number in self.rows)
        return numbers + bytes.fromhex(self.digest) + self.confirmed.to_bytes(_NUMBER, "big")

    @classmethod
    def decode(cls, part: bytes) -> Self:
        """Read one part of a note."""
        places = range(0, MOST_REPORTS * _NUMBER, _NUMBER)
        end = MOST_REPORTS * _NUMBER + _DIGEST
        rows = tuple(int.from_bytes(part[place : place + _NUMBER], "big") for place in places)
        return cls(rows, part[MOST_REPORTS * _NUMBER : end].hex(), int.from_bytes(part[end:], "big"))


@dataclass(frozen=True, slots=True)
class Head:
    """How far one site is."""

    serial: int
    """Of the roster that it follows."""
    roster: str
    """Its digest, 64 hex digits."""
    ledger: Mark
    """Its own ledger."""
    seen: Mapping[str, Shown] = field(default_factory=dict)
    """What it has witnessed of other members, by name; a member that this site has never met is not in it."""

    def encode(self, name: str, members: Sequence[str]) -> bytes:
        """Return the note.

        Args:
            name: of this site.
            members: names of all members of the session, in its order.
        """
        own = (self.serial, self.roster), (self.ledger.rows, self.ledger.mark)
        seen = (self.seen.get(member) for member in members if member != name)
        others = [_UNSEEN if shown is None else shown.encode() for shown in seen]
        return b"".join([number.to_bytes(_NUMBER, "big") + bytes.fromhex(mark) for number, mark in own] + others)

    @classmethod
    def decode(cls, note: bytes, name: str, members: Sequence[str]) -> Self:
        """Read the note of the member ``name``.

        Raises:
            TrustError: another length; secure aggregation delivers no other.
        """
        if len(note) != note_size(len(members)):
            raise TrustError(f"what a site says of itself has {note_size(len(members))} bytes, got {len(note)}")
        half = NOTE_HEAD // 2
        (serial, roster), ledger = _numbered(note[:half]), Mark(*_numbered(note[half:NOTE_HEAD]))
        parts = (note[begin : begin + NOTE_PART] for begin in range(NOTE_HEAD, len(note), NOTE_PART))
        others = zip((member for member in members if member != name), parts, strict=True)
        return cls(serial, roster, ledger, {member: Shown.decode(part) for member, part in others if part != _UNSEEN})


def _digest(marks: Sequence[Mark]) -> str:
    return (
        hashlib.sha256(b"".join(bytes.fromhex(one.mark) for one in marks)).hexdigest()
        if marks
        else bytes(_DIGEST).hex()
    )


def _numbered(part: bytes) -> tuple[int, str]:
    return int.from_bytes(part[:_NUMBER], "big"), part[_NUMBER:].hex()

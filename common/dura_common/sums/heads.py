"""What a site says in a secure sum, to every other member: its roster, how far its ledger is, and what it has seen.

It travels as the note of the secure aggregation (:mod:`dura_common.secagg.wire`), under the signature of the site's
keys. All members get the same bytes or their masks do not cancel, so a coordinator that shows different rosters to
different sites, and a site that was set back to an older state, are seen at the first sum, without another message.

A note holds one count and one mark for each member of the session, in the order of the members: the site's own, and of
every other member the last ones that the site has witnessed. A site compares what others have witnessed of it with its
own ledger, and so notices an older backup in its place, whatever a coordinator has asked it for since.

Nothing in it depends on recordings or patients: the rows follow requests, and the mark is keyed by a secret.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from dura_common.errors import TrustError
from dura_common.secagg.wire import NOTE_PART, note_size

_NUMBER, _DIGEST = 8, 32
assert _NUMBER + _DIGEST == NOTE_PART  # noqa: S101  # of the two layouts, which no input changes
_UNSEEN = bytes(NOTE_PART)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far one ledger is."""

    rows: int
    """Requests taken up and draws begun, of all studies: only grows."""
    mark: str
    """What stands for the ledger up to the last of these rows, 64 hex digits; means nothing to other sites."""

    def encode(self) -> bytes:
        """Return one part of a note, ``NOTE_PART`` bytes."""
        return self.rows.to_bytes(_NUMBER, "big") + bytes.fromhex(self.mark)


@dataclass(frozen=True, slots=True)
class Head:
    """How far one site is."""

    serial: int
    """Of the roster that it follows."""
    roster: str
    """Its digest, 64 hex digits."""
    ledger: Mark
    """Its own ledger."""
    seen: Mapping[str, Mark] = field(default_factory=dict)
    """The last report of other members' ledgers, by name; a member that this site has never met is not in it."""

    def encode(self, name: str, members: Sequence[str]) -> bytes:
        """Return the note.

        Args:
            name: of this site.
            members: names of all members of the session, in its order.
        """
        known = {**self.seen, name: self.ledger}
        parts = [known[member].encode() if member in known else _UNSEEN for member in members]
        return b"".join((self.serial.to_bytes(_NUMBER, "big"), bytes.fromhex(self.roster), *parts))

    @classmethod
    def decode(cls, note: bytes, name: str, members: Sequence[str]) -> Self:
        """Read the note of the member ``name``.

        Raises:
            TrustError: another length; secure aggregation delivers no other.
        """
        if len(note) != note_size(len(members)):
            raise TrustError(f"what a site says of itself has {note_size(len(members))} bytes, got {len(note)}")
        first, *parts = (note[begin : begin + NOTE_PART] for begin in range(0, len(note), NOTE_PART))
        said = {member: part for member, part in zip(members, parts, strict=True) if part != _UNSEEN or member == name}
        seen = {member: Mark(*_numbered(part)) for member, part in said.items()}
        serial, roster = _numbered(first)
        return cls(serial, roster, seen.pop(name), seen)


def _numbered(part: bytes) -> tuple[int, str]:
    return int.from_bytes(part[:_NUMBER], "big"), part[_NUMBER:].hex()

"""What a site says of itself to every other member of a secure sum: the roster that it follows, how far its ledger is.

It travels as the note of the secure aggregation (:mod:`dura_common.secagg.wire`), under the signature of the site's
keys. All members get the same bytes or their masks do not cancel, so a coordinator that shows different rosters to
different sites, and a site that was set back to an older state, are seen at the first sum, without another message.

Nothing in it depends on recordings or patients: the rows follow requests, and the mark is keyed by a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from dura_common.errors import TrustError
from dura_common.secagg.wire import NOTE

_NUMBER, _DIGEST = 8, 32
assert 2 * (_NUMBER + _DIGEST) == NOTE  # noqa: S101  # of the two layouts, which no input changes


@dataclass(frozen=True, slots=True)
class Head:
    """How far one site is."""

    serial: int
    """Of the roster that it follows."""
    roster: str
    """Its digest, 64 hex digits."""
    rows: int
    """Requests taken up and draws begun in its ledger, of all studies: only grows."""
    mark: str
    """What stands for the ledger up to the last of these rows, 64 hex digits; means nothing to anybody else."""

    def encode(self) -> bytes:
        """Return the note, ``NOTE`` bytes."""
        return (
            self.serial.to_bytes(_NUMBER, "big")
            + bytes.fromhex(self.roster)
            + self.rows.to_bytes(_NUMBER, "big")
            + bytes.fromhex(self.mark)
        )

    @classmethod
    def decode(cls, note: bytes) -> Self:
        """Read a note.

        Raises:
            TrustError: another length; secure aggregation delivers no other.
        """
        if len(note) != NOTE:
            raise TrustError(f"what a site says of itself has {NOTE} bytes, got {len(note)}")
        begin = _NUMBER + _DIGEST
        return cls(
            serial=int.from_bytes(note[:_NUMBER], "big"),
            roster=note[_NUMBER:begin].hex(),
            rows=int.from_bytes(note[begin : begin + _NUMBER], "big"),
            mark=note[begin + _NUMBER :].hex(),
        )

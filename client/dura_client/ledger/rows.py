"""The rows of the ledger: the tables, the forms of a row, and the hashes that chain them.

Rules: a column never changes its meaning, because ledgers are kept for years. A new form raises ``FORMAT``.

Kinds of rows of format 3, in the order of a study's life (``event`` holds the content of a row, as JSON):

- ``identity``: the pseudonym key's check value and how large the held-out side is; before anything that names patients
- ``host``: a process begins to serve on this host, and earlier ones can no longer draw (``attempt`` is the epoch)
- ``allocate``: a block of a study is set aside for a cohort; one row for each block, all of them or none
- ``attempt``: a request with this number was accepted; from now on, only higher numbers are accepted
- ``begin``: one draw of a block begins (``repeat`` is its number); written before anything is computed for it
- ``close``: a study has ended here: blocks without a ``begin`` are returned, and no draw may begin any more
- ``withdraw``: a patient takes part in nothing from now on

Format 2 had ``reserve``, ``settle`` and ``refund`` instead of the second to sixth kind. Such rows stay, and what was
reserved and not refunded stays spent. The first new row raises the format of the whole ledger.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from dura_common.errors import TrustError

FORMAT = 3
OLDER = frozenset({2})
"""Formats that are read, and raised by the first row that is written."""
GENESIS = hashlib.sha256(b"dura privacy ledger 2").hexdigest()

TABLES = sa.MetaData()
COHORTS = sa.Table(
    "cohort",
    TABLES,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("patients", sa.Text, nullable=False),
)
ENTRIES = sa.Table(
    "entry",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("study", sa.Text),
    sa.Column("round", sa.Integer),
    sa.Column("purpose", sa.Text),
    sa.Column("repeat", sa.Integer),
    sa.Column("attempt", sa.Integer),
    sa.Column("cohort", sa.Text, sa.ForeignKey("cohort.digest"), nullable=False),
    sa.Column("event", sa.Text),
    sa.Column("delta", sa.Double),
    sa.Column("epsilon_per_study", sa.Double),
    sa.Column("epsilon_total", sa.Double),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "round", "purpose", "repeat", "attempt", "kind"),
    # Never gives an id again, so that a removed last row leaves a gap that the chain alone would not show.
    sqlite_autoincrement=True,
)
WITHDRAWN_ONCE = sa.Index(
    "withdrawn_once",
    ENTRIES.c.cohort,
    unique=True,
    sqlite_where=ENTRIES.c.kind == "withdraw",
    postgresql_where=ENTRIES.c.kind == "withdraw",
)


class Release(NamedTuple):
    """What a row of format 2 reserves: a round of a study for a purpose, or one draw of it that was made again."""

    study: str
    round: int
    purpose: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a row says; its place in the chain comes on top. The module says which kinds there are."""

    kind: str
    study: str | None
    round: int | None
    """Of the study; in rows about a block, which evaluation it is, or 0."""
    purpose: str | None
    """``train`` or ``evaluate``; in rows about a block, the block's name."""
    repeat: int | None
    """Number of the draw (``begin``); in format 2, 0 for a round, from 1 on a draw that was made again."""
    attempt: int | None
    """Number of the request, the allocation or the epoch; in format 2, of the reservation."""
    cohort: str
    """Digest of the patients' keys; of nobody's where a row is about no patient."""
    event: str | None
    """JSON: what the row says beyond its other columns; in format 2, the privacy event."""
    delta: float | None
    epsilon_per_study: float | None
    epsilon_total: float | None
    time: str
    """When it was written (ISO 8601, UTC)."""

    @property
    def release(self) -> Release:
        """What a row of format 2 is about.

        Raises:
            ValueError: it is about nothing of the kind.
        """
        if self.study is None or self.round is None or self.purpose is None or self.repeat is None:
            raise ValueError("this row belongs to no release")
        return Release(self.study, self.round, self.purpose, self.repeat)

    def followed_by(self, kind: str, time: str) -> Content:
        """Return the row of format 2 that settles or refunds this reservation."""
        return replace(self, kind=kind, time=time)


def content(kind: str, cohort: str, time: str, **values: Any) -> Content:
    """Return a row in which all fields that are not named are empty."""
    return Content(
        **{**dict.fromkeys(Content.__dataclass_fields__), "kind": kind, "cohort": cohort, "time": time, **values}
    )


def cohort_text(patients: tuple[str, ...]) -> str:
    """Return a cohort in the form for storage: its sorted keys as JSON."""
    return json.dumps(sorted(patients))


def cohort_digest(text: object) -> str:
    """Return the name of a cohort: SHA-256 (hex) of what is kept."""
    return hashlib.sha256(str(text).encode()).hexdigest()


def row_hash(number: int, previous: str, content: Content) -> str:
    """Return SHA-256 (hex) of a row, its id and the hash of the previous row."""
    parts: list[Any] = [number, previous, *astuple(content)]
    # repr stands for what JSON has no form for: bytes, which only a foreign hand can have put into a column.
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), default=repr).encode()).hexdigest()


def broken(what: str) -> TrustError:
    """Return the error of a ledger that cannot be trusted."""
    return TrustError(
        f"the privacy ledger cannot be trusted: {what}",
        hint="Nothing is released from now on. Restore the newest backup of the ledger that passes `verify`.",
    )


class Backend(Protocol):
    """A kind of database for a ledger."""

    location: str
    """The place of the ledger, for messages; it contains no secret."""

    def translated(self) -> AbstractContextManager[None]:
        """Turn errors of the database into dura's errors, without any value of a statement."""

    def exists(self) -> bool:
        """Tell whether there is a ledger; an absent one is empty."""

    def create(self) -> None:
        """Create the ledger with all its protection at once, unless it exists."""

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection that sees one moment."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """Lend the only connection that may write, until the rows are durable."""

    def check(self, connection: sa.Connection) -> None:
        """Check that this is a ledger of this format with its protection in place.

        Raises:
            TrustError: it is no ledger, or its protection was removed.
            InputError: it has another format.
        """

    def upgrade(self, connection: sa.Connection) -> None:
        """Raise the format of an older ledger, inside the transaction that writes the first new row."""

    def highest(self, connection: sa.Connection) -> int | None:
        """Return the highest id ever given to a row, which a removed last row does not lower; None if unknown."""

    def mark(self) -> object | None:
        """Return a value that changes whenever anybody writes; None if there is no such value."""

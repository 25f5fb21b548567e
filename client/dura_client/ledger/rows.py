"""What a row of the ledger is: the tables, the forms of a row, and the hashes that chain them.

Rules: a column never changes its meaning, since ledgers are kept for years; a new form raises ``FORMAT``.

Kinds of rows: ``reserve`` (an event is about to happen to a cohort), ``settle`` (the reserved release was made),
``refund`` (it was not, and nothing had been computed), ``withdraw`` (a patient takes part in nothing from here on).
"""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from typing import Any, NamedTuple, Protocol

import sqlalchemy as sa

from dura_common.errors import TrustError

FORMAT = 2
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
    """What is reserved once: a round of a study for a purpose, or one draw of it that had to be made again."""

    study: str
    round: int
    purpose: str
    repeat: int


@dataclass(frozen=True, slots=True)
class Content:
    """What a row says; its place in the chain comes on top. A withdrawal has a cohort of one and a time only."""

    kind: str
    study: str | None
    round: int | None
    purpose: str | None
    repeat: int | None
    """0 for the round itself; from 1 on, a draw that was made again after a loss."""
    attempt: int | None
    """From 1 on; the reservation after a refund is the next one."""
    cohort: str
    """Digest of the patients' keys."""
    event: str | None
    """JSON of the privacy event; None where a public study adds no noise."""
    delta: float | None
    epsilon_per_study: float | None
    epsilon_total: float | None
    time: str
    """When it was written (ISO 8601, UTC)."""

    @property
    def release(self) -> Release:
        """What the row is about.

        Raises:
            ValueError: it is a withdrawal.
        """
        if self.study is None or self.round is None or self.purpose is None or self.repeat is None:
            raise ValueError("a withdrawal belongs to no release")
        return Release(self.study, self.round, self.purpose, self.repeat)

    def followed_by(self, kind: str, time: str) -> Content:
        """Return the row that settles or refunds this reservation."""
        return replace(self, kind=kind, time=time)


def withdrawal(cohort: str, time: str) -> Content:
    """Return the row that takes the only patient of ``cohort`` out of everything that follows."""
    return Content("withdraw", None, None, None, None, None, cohort, None, None, None, None, time)


def cohort_text(patients: tuple[str, ...]) -> str:
    """Return a cohort as it is kept: its sorted keys as JSON."""
    return json.dumps(sorted(patients))


def cohort_digest(text: object) -> str:
    """Return the name of a cohort: SHA-256 (hex) of what is kept."""
    return hashlib.sha256(str(text).encode()).hexdigest()


def row_hash(number: int, previous: str, content: Content) -> str:
    """Return SHA-256 (hex) of a row, its id and the hash of the row before it."""
    parts: list[Any] = [number, previous, *astuple(content)]
    # repr stands for what JSON has no form for: bytes, which only a foreign hand can have put into a column.
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), default=repr).encode()).hexdigest()


def broken(what: str) -> TrustError:
    """Return the error of a ledger that cannot be trusted."""
    return TrustError(
        f"the privacy ledger cannot be trusted: {what}",
        hint="Nothing is released from now on. Restore the newest backup of the ledger that verifies.",
    )


class Backend(Protocol):
    """A kind of database that a ledger may lie in."""

    location: str
    """Where it lies, for messages; no secret."""

    def translated(self) -> AbstractContextManager[None]:
        """Turn errors of the database into ours, without any value of a statement."""

    def exists(self) -> bool:
        """Tell whether there is a ledger; an absent one is empty."""

    def create(self) -> None:
        """Make the ledger with all its protection at once, unless it is there."""

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection that sees one moment."""

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """Lend the only connection that may write, until the rows are durable."""

    def check(self, connection: sa.Connection) -> None:
        """Check that this is a ledger of this format with its protection in place.

        Raises:
            TrustError: it is not.
            InputError: another format.
        """

    def highest(self, connection: sa.Connection) -> int | None:
        """Return the highest id ever given to a row, which a removed last row does not lower; None if unknown."""

    def mark(self) -> object | None:
        """Return something that changes whenever anybody writes; None if there is nothing like it."""

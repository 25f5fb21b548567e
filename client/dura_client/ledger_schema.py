"""What a row of the ledger is: tables that refuse changes, and the hashes that chain them.

Rules: a column never changes its meaning, since ledgers are kept for years; a new form raises ``FORMAT``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import sqlalchemy as sa

APPLICATION = 0x64757261
"""SQLite's application_id of a ledger: the word dura in ASCII."""
FORMAT = 1
GENESIS = hashlib.sha256(b"dura privacy ledger 1").hexdigest()

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
    sa.Column("study", sa.Text, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("repeat", sa.Integer, nullable=False),
    sa.Column("cohort", sa.Text, sa.ForeignKey("cohort.digest"), nullable=False),
    sa.Column("event", sa.Text),
    sa.Column("delta", sa.Float, nullable=False),
    sa.Column("epsilon_per_study", sa.Float, nullable=False),
    sa.Column("epsilon_total", sa.Float, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("previous", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.UniqueConstraint("study", "round", "purpose", "repeat", "kind"),
    # Never gives an id again, so that a removed last row leaves a gap that the chain alone would not show.
    sqlite_autoincrement=True,
)
_REFUSAL = "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
_TAKEN = {
    "cohort": "digest = NEW.digest",
    "entry": "id = NEW.id OR (study, round, purpose, repeat, kind) = "
    "(NEW.study, NEW.round, NEW.purpose, NEW.repeat, NEW.kind)",
}
TRIGGERS = {
    f"{table}_{verb.lower()}": f"CREATE TRIGGER {table}_{verb.lower()} BEFORE {verb} ON {table} {_REFUSAL}"
    for table in _TAKEN
    for verb in ("UPDATE", "DELETE")
} | {
    # INSERT OR REPLACE deletes rows without asking the triggers of DELETE.
    f"{table}_insert": f"CREATE TRIGGER {table}_insert BEFORE INSERT ON {table} "  # noqa: S608  # the words above, no input
    f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {taken}) {_REFUSAL}"
    for table, taken in _TAKEN.items()
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a row says; its place in the chain comes on top."""

    kind: str
    study: str
    round: int
    purpose: str
    repeat: int
    """0 for the round itself; from 1 on, a draw that was made again after a loss."""
    cohort: str
    """Digest of the patients' keys."""
    event: str | None
    """JSON of the privacy event; None where a public study adds no noise."""
    delta: float
    epsilon_per_study: float
    epsilon_total: float
    time: str
    """When it was written (ISO 8601, UTC)."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the ledger holds at one moment, checked."""

    rows: tuple[Content, ...]
    """Row number n has id n + 1."""
    cohorts: Mapping[str, tuple[str, ...]]
    hashes: tuple[str, ...]

    @property
    def head(self) -> str:
        """Hash of the last row; it stands for all rows before it."""
        return self.hashes[-1] if self.hashes else GENESIS


def cohort_digest(text: str) -> str:
    """Return the name of a cohort: SHA-256 (hex) of its sorted keys as JSON."""
    return hashlib.sha256(str(text).encode()).hexdigest()


def row_hash(number: int, previous: str, content: Content) -> str:
    """Return SHA-256 (hex) of a row, its id and the hash of the row before it."""
    parts: list[Any] = [number, previous, *astuple(content)]
    # repr stands for what JSON has no form for: bytes, which only a foreign hand can have put into a column.
    return hashlib.sha256(json.dumps(parts, separators=(",", ":"), default=repr).encode()).hexdigest()

"""How the ledger is read and written: rows that are only ever added, chained by hashes, verified before any use.

Rules: nothing is ever decided on rows that were not verified; a process verifies everything once, and again from the
beginning whenever anybody else has written since (or, where a database cannot tell, after :data:`RECHECK_SECONDS`).
In between it decides on the rows that it verified and holds in memory, and verifies what is new.

The chain holds no key: it shows damage and changes by hand, while a whole ledger replaced by an older copy shows only
against a hash noted elsewhere (``known`` of :meth:`dura_client.ledger.ledger.Ledger.verify`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import sqlalchemy as sa

from dura_client.ledger.book import Book
from dura_client.ledger.rows import COHORTS, ENTRIES, Backend, Content, broken, cohort_digest, cohort_text, row_hash
from dura_client.ledger.sqlite import SQLite

RECHECK_SECONDS = 600.0
_COUNT_COHORTS = sa.select(sa.func.count()).select_from(COHORTS)
_HASH_OF = sa.select(ENTRIES.c.hash).where(ENTRIES.c.id == sa.bindparam("number"))
_ROWS_AFTER = sa.select(ENTRIES).where(ENTRIES.c.id > sa.bindparam("number")).order_by(ENTRIES.c.id)
_ADD_ROW = ENTRIES.insert()


@dataclass(slots=True)
class _Verified:
    """What this process knows of one ledger."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    book: Book | None = None
    mark: object | None = None
    since: float = 0.0
    """When everything was last verified (monotonic seconds)."""


_VERIFIED: dict[str, _Verified] = {}
# A child must not wait for a lock that a thread of its parent held.
os.register_at_fork(after_in_child=_VERIFIED.clear)


def backend_of(target: Path | str) -> Backend:
    """Return the database of a ledger: a file, or the URL of a PostgreSQL database."""
    if isinstance(target, Path):
        return SQLite(target)
    from dura_client.ledger.postgresql import PostgreSQL  # noqa: PLC0415  # its driver is an optional dependency

    return PostgreSQL(target)


class LedgerStore:
    """The rows of one ledger.

    Args:
        target: its file, or the URL of its database.
    """

    def __init__(self, target: Path | str) -> None:
        self._backend = backend_of(target)

    @contextmanager
    def reading(self, *, afresh: bool = False) -> Iterator[Book]:
        """Lend all rows, verified; an absent ledger is empty. ``afresh`` verifies from the beginning.

        Raises:
            TrustError: a row was altered or removed, or the ledger is damaged.
            HostError: it cannot be read.
        """
        known = self._known()
        with known.lock:
            with self._backend.translated():
                book = self._read(known, afresh=afresh)
            yield book

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the only right to write; what was added is durable on exit, or dropped by an exception.

        Raises:
            TrustError: as for :meth:`reading`.
            HostError: the disk is full or failing, or another writer does not finish.
        """
        known = self._known()
        with known.lock, self._backend.translated():
            self._backend.create()
            trusted = self._trusted(known)
            with self._backend.writing() as connection:
                writer = Writer(connection, self._verify(known, connection, trusted))
                yield writer
                if writer.wrote:
                    self._backend.upgrade(connection)
            writer.publish()
            self._remember(known, writer.book, trusted)

    def _known(self) -> _Verified:
        return _VERIFIED.setdefault(self._backend.location, _Verified())

    def _read(self, known: _Verified, *, afresh: bool) -> Book:
        if not self._backend.exists():
            known.book = None
            return Book()
        trusted = None if afresh else self._trusted(known)
        with self._backend.reading() as connection:
            book = self._verify(known, connection, trusted)
        self._remember(known, book, trusted)
        return book

    def _trusted(self, known: _Verified) -> Book | None:
        """Return the rows in memory if nobody else can have written since they were verified."""
        mark = self._backend.mark()
        fresh = mark == known.mark if mark is not None else time.monotonic() - known.since < RECHECK_SECONDS
        return known.book if fresh else None

    def _verify(self, known: _Verified, connection: sa.Connection, trusted: Book | None) -> Book:
        known.book = None  # until it is known to be whole
        book = _load(self._backend, connection, trusted or Book())
        known.book = book
        return book

    def _remember(self, known: _Verified, book: Book, trusted: Book | None) -> None:
        known.book, known.mark = book, self._backend.mark()
        if trusted is None:
            known.since = time.monotonic()


class Writer:
    """Adds rows inside one transaction."""

    def __init__(self, connection: sa.Connection, book: Book) -> None:
        self._connection = connection
        self._head = book.head
        self._cohorts: dict[str, str] = {}
        self._rows: list[tuple[Content, str]] = []
        self.book = book
        """What the ledger held when the transaction began; nobody can change it before the commit."""

    @property
    def wrote(self) -> bool:
        """Whether there is a new row."""
        return bool(self._rows)

    def add_cohort(self, patients: Sequence[str] = ()) -> str:
        """Keep the keys of a cohort once and return its digest."""
        text, digest = _named(tuple(patients))
        if digest not in self.book.sizes and digest not in self._cohorts:
            self._connection.execute(COHORTS.insert().values(digest=digest, patients=text))
            self._cohorts[digest] = text
        return digest

    def add(self, content: Content) -> int:
        """Append a row and return its id."""
        number = len(self.book.rows) + len(self._rows) + 1
        digest = row_hash(number, self._head, content)
        values = {name: getattr(content, name) for name in Content.__dataclass_fields__}
        self._connection.execute(_ADD_ROW, {"id": number, "previous": self._head, "hash": digest, **values})
        self._rows.append((content, digest))
        self._head = digest
        return number

    def publish(self) -> None:
        """Take the rows, which are durable by now, into memory."""
        for digest, text in self._cohorts.items():
            self.book.add_cohort(digest, text)
        for content, digest in self._rows:
            self.book.add(content, digest)


@lru_cache(maxsize=16)
def _named(patients: tuple[str, ...]) -> tuple[str, str]:
    """Return a cohort as it is kept, and its digest."""
    text = cohort_text(patients)
    return text, cohort_digest(text)


def _load(backend: Backend, connection: sa.Connection, book: Book) -> Book:
    """Verify what ``book`` does not hold yet and add it; see the rules of the module."""
    backend.check(connection)
    if not book.rows or connection.scalar(_COUNT_COHORTS) != len(book.sizes):
        _load_cohorts(connection, book)
    _load_rows(connection, book)
    highest = backend.highest(connection)
    if highest is not None and highest != len(book.rows):
        raise broken("the last entries were removed")
    if book.sizes.keys() != book.used:
        raise broken("a cohort belongs to no entry")
    return book


def _load_cohorts(connection: sa.Connection, book: Book) -> None:
    digests = set(connection.scalars(sa.select(COHORTS.c.digest)))
    missing = digests - book.sizes.keys()
    if not book.sizes.keys() <= digests:
        raise broken("a cohort was removed")
    wanted = sa.select(COHORTS) if not book.sizes else sa.select(COHORTS).where(COHORTS.c.digest.in_(missing))
    for digest, text in connection.execute(wanted):
        if cohort_digest(text) != digest:
            raise broken("a cohort was altered")
        book.add_cohort(digest, text)


def _load_rows(connection: sa.Connection, book: Book) -> None:
    known = len(book.rows)
    if known and connection.scalar(_HASH_OF, {"number": known}) != book.head:
        raise broken(f"entry {known} was altered or removed")
    for row in connection.execute(_ROWS_AFTER, {"number": known}):
        number, content = len(book.rows) + 1, Content(*row[1:-2])
        if row.id != number or row.previous != book.head:
            raise broken(f"entry {number} was removed")
        if row.hash != row_hash(number, book.head, content):
            raise broken(f"entry {number} was altered")
        if content.cohort not in book.sizes:
            raise broken(f"the cohort of entry {number} was removed")
        try:
            book.add(content, row.hash)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise broken(f"entry {number} follows from no entry before it") from error

"""How the ledger lies on disk: one SQLite file of rows that are only ever added, chained by hashes.

Rules: a row is complete and synchronised to the disk before :meth:`LedgerStore.writing` ends, or it is
absent; writers exclude each other from their first read to their commit; every read checks the whole chain,
so nothing is ever decided on rows that were altered or removed. The chain holds no key: it shows damage and
changes by hand, while a whole file replaced by an older copy shows only against a hash noted elsewhere
(``known`` of :meth:`dura_client.ledger.Ledger.verify`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dura_client.ledger_schema import (
    APPLICATION,
    COHORTS,
    ENTRIES,
    FORMAT,
    GENESIS,
    TABLES,
    TRIGGERS,
    Content,
    Snapshot,
    cohort_digest,
    row_hash,
)
from dura_common.errors import HostError, InputError, TrustError
from dura_common.runtime.files import private_folder

WAIT_SECONDS = 60
"""How long a writer waits for another one; a reservation takes well under a second."""
_HOST_CODES = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
_PRIMARY_CODE = 0xFF
"""SQLite's extended result codes carry the primary code in the lowest byte."""

_EMPTY = Snapshot((), {}, ())


class LedgerStore:
    """The file of one ledger.

    Args:
        path: the file; it is created by the first writer, in a folder that may be absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = _engine(path)

    def read(self) -> Snapshot:
        """Return all rows; an absent file is an empty ledger.

        Raises:
            TrustError: a row was altered or removed, or the file is damaged.
            HostError: the file cannot be read.
        """
        with _translated(self._path):
            if not self._path.exists():
                return _EMPTY
            with self._engine.connect() as connection:
                return _load(connection)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the only right to write; what was added is durable on exit, or dropped by an exception.

        Raises:
            TrustError: as for :meth:`read`.
            HostError: the disk is full or failing, or another writer does not finish.
        """
        with _translated(self._path):
            self._create()
            exclusive = self._engine.execution_options(dura_begin="IMMEDIATE")
            with exclusive.begin() as connection:
                yield Writer(connection, _load(connection))

    def _create(self) -> None:
        """Make the file under another name and link it: there is never a ledger without its triggers."""
        if self._path.exists():
            return
        folder = private_folder(self._path.parent)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f".{self._path.name}.")
        os.close(descriptor)
        draft = Path(name)
        try:
            _write_schema(draft)
            _synchronise(draft)
            with suppress(FileExistsError):  # another process was first; its ledger is as good
                os.link(draft, self._path)
            _synchronise(folder)
        finally:
            for leftover in (
                draft,
                draft.with_name(draft.name + "-wal"),
                draft.with_name(draft.name + "-shm"),
            ):
                leftover.unlink(missing_ok=True)


class Writer:
    """Adds rows inside one transaction."""

    def __init__(self, connection: sa.Connection, snapshot: Snapshot) -> None:
        self._connection = connection
        self._head = snapshot.head
        self._next = len(snapshot.rows) + 1
        self.snapshot = snapshot
        """What the ledger held when the transaction began; nobody can change it before the commit."""

    def add_cohort(self, patients: Sequence[str]) -> str:
        """Keep the keys of a cohort once and return its digest."""
        text = json.dumps(sorted(patients))
        digest = cohort_digest(text)
        if digest not in self.snapshot.cohorts:
            self._connection.execute(COHORTS.insert().values(digest=digest, patients=text))
        return digest

    def add(self, content: Content) -> int:
        """Append a row and return its id."""
        number, previous = self._next, self._head
        digest = row_hash(number, previous, content)
        values = {name: getattr(content, name) for name in Content.__dataclass_fields__}
        self._connection.execute(ENTRIES.insert().values(id=number, previous=previous, hash=digest, **values))
        self._head, self._next = digest, number + 1
        return number


def _engine(path: Path) -> sa.Engine:
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, poolclass=NullPool, connect_args={"timeout": WAIT_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: sa.Connection) -> None:
        # A deferred transaction would let two writers both read before either writes, and overdraw.
        kind = connection.get_execution_options().get("dura_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {kind}")

    return engine


def _write_schema(path: Path) -> None:
    with _engine(path).connect() as connection:
        driver = connection.connection.dbapi_connection
        if driver is None:
            raise RuntimeError("a fresh connection has no driver connection")
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute(f"PRAGMA application_id = {APPLICATION}")
        driver.execute(f"PRAGMA user_version = {FORMAT}")
        TABLES.create_all(connection, checkfirst=False)
        for trigger in TRIGGERS.values():
            connection.exec_driver_sql(trigger)
        connection.commit()
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(connection: sa.Connection) -> Snapshot:
    """Read everything and check it; see the rules of the module."""
    _check_schema(connection)
    cohorts: dict[str, tuple[str, ...]] = {}
    for digest, text in connection.execute(sa.select(COHORTS)):
        if cohort_digest(text) != digest:
            raise _broken("a cohort was altered")
        cohorts[digest] = tuple(json.loads(text))
    rows: list[Content] = []
    hashes: list[str] = []
    head = GENESIS
    for number, row in enumerate(connection.execute(sa.select(ENTRIES).order_by(ENTRIES.c.id)), start=1):
        content = Content(*row[1:-2])
        if row.id != number or row.previous != head:
            raise _broken(f"entry {number} was removed")
        if row.hash != row_hash(number, head, content):
            raise _broken(f"entry {number} was altered")
        if content.cohort not in cohorts:
            raise _broken(f"the cohort of entry {number} was removed")
        head = row.hash
        rows.append(content)
        hashes.append(head)
    given = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").scalar()
    if (given or 0) != len(rows):
        raise _broken("the last entries were removed")
    if cohorts.keys() != {row.cohort for row in rows}:
        raise _broken("a cohort belongs to no entry")
    return Snapshot(tuple(rows), cohorts, tuple(hashes))


def _check_schema(connection: sa.Connection) -> None:
    if connection.exec_driver_sql("PRAGMA application_id").scalar() != APPLICATION:
        raise _broken("the file is not a ledger")
    version = connection.exec_driver_sql("PRAGMA user_version").scalar()
    if version != FORMAT:
        raise InputError(f"the ledger has format {version}, this dura reads format {FORMAT}")
    triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    if {row.name: row.sql for row in triggers} != TRIGGERS:
        raise _broken("its protection against changes was removed")


def _broken(what: str) -> TrustError:
    return TrustError(
        f"the privacy ledger cannot be trusted: {what}",
        hint="Nothing is released from now on. Restore the newest backup of the ledger that verifies.",
    )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn errors of the database and the file system into ours, without any value of a statement."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", 0)
        if code & _PRIMARY_CODE in _HOST_CODES:
            raise HostError(
                f"the privacy ledger {path} cannot be used: {cause}",
                hint="Check free space, permissions and other running dura processes.",
            ) from None
        raise _broken("the file is damaged") from None
    except OSError as error:
        raise HostError(f"the privacy ledger {path} cannot be used: {error.strerror}") from error

"""A ledger in one SQLite file.

Rules: a row is complete and synchronised to the disk before :meth:`SQLite.writing` ends, or it is absent; writers
exclude each other from their first read to their commit; the file appears with all its triggers or not at all.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dura_client.ledger.rows import FORMAT, OLDER, TABLES, broken
from dura_common.errors import HostError, InputError
from dura_common.runtime.files import private_folder

APPLICATION = 0x64757261
"""SQLite's application_id of a ledger: the word dura in ASCII."""
WAIT_SECONDS = 60
"""How long a writer waits for another one; a reservation takes well under a second."""
_REFUSAL = "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
_TAKEN = {
    "cohort": "digest = NEW.digest",
    "entry": "id = NEW.id OR (study, round, purpose, repeat, attempt, kind) = "
    "(NEW.study, NEW.round, NEW.purpose, NEW.repeat, NEW.attempt, NEW.kind) "
    "OR (kind = 'withdraw' AND NEW.kind = 'withdraw' AND cohort = NEW.cohort)",
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


class SQLite:
    """See :class:`dura_client.ledger.rows.Backend`.

    Args:
        path: the file; it is created by the first writer, in a folder that may be absent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = _engine(path)
        self.location = str(path)

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self._path.exists()

    def create(self) -> None:
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

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Lend a connection inside one deferred transaction."""
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Lend a connection that holds the write lock from its first read on."""
        exclusive = self._engine.execution_options(dura_begin="IMMEDIATE")
        with exclusive.begin() as connection:
            yield connection

    def check(self, connection: sa.Connection) -> None:
        """Check application, format and triggers."""
        if connection.exec_driver_sql("PRAGMA application_id").scalar() != APPLICATION:
            raise broken("the file is not a ledger")
        version = connection.exec_driver_sql("PRAGMA user_version").scalar()
        if version != FORMAT and version not in OLDER:
            raise InputError(f"the ledger has format {version}, this version of dura reads format {FORMAT}")
        triggers = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        if {row.name: row.sql for row in triggers} != TRIGGERS:
            raise broken("its protection against changes was removed")

    def upgrade(self, connection: sa.Connection) -> None:
        """Write the present format into the file's head."""
        if connection.exec_driver_sql("PRAGMA user_version").scalar() in OLDER:
            connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT}")

    def highest(self, connection: sa.Connection) -> int | None:
        """Return what AUTOINCREMENT remembers."""
        return connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'entry'").scalar() or 0

    def mark(self) -> object | None:
        """Return inode, size and times of the file and its log; the time of the last change cannot be set by hand."""
        return tuple(_mark(path) for path in (self._path, self._path.with_name(self._path.name + "-wal")))

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of the database and the file system into ours."""
        try:
            yield
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            code = getattr(cause, "sqlite_errorcode", 0)
            if code & _PRIMARY_CODE in _HOST_CODES:
                raise HostError(
                    f"the privacy ledger {self._path} cannot be used: {cause}",
                    hint="Check free space, permissions and other running dura processes.",
                ) from None
            raise broken("the file is damaged") from None
        except OSError as error:
            raise HostError(f"the privacy ledger {self._path} cannot be used: {error.strerror}") from error


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


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


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

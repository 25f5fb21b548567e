"""A ledger in a PostgreSQL database of its own.

Rules as for SQLite: writers exclude each other by one advisory lock from their first read to their commit, a commit
returns after the server has synchronised it, and triggers refuse every change and removal of a row. Passwords come
from libpq's own places (a password file, PGPASSFILE, PGPASSWORD, a service file), never from the URL, and no text of
the server goes into a message, since it may quote a statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from dura_client.ledger.rows import FORMAT, OLDER, TABLES, broken
from dura_common.errors import HostError, InputError

WAIT_SECONDS = 60
"""How long a writer waits for another one."""
CONNECT_SECONDS = 10
LOCK = 0x64757261
"""Number of the advisory lock: the word dura in ASCII."""
_LABEL = "dura ledger "
_REFUSAL = "BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'DU001'; END"
_CHANGE = "CREATE TRIGGER {0}_change BEFORE UPDATE OR DELETE ON {0} FOR EACH ROW EXECUTE FUNCTION dura_refuse()"
_TRUNCATE = "CREATE TRIGGER {0}_truncate BEFORE TRUNCATE ON {0} FOR EACH STATEMENT EXECUTE FUNCTION dura_refuse()"
_COMMENT = f"COMMENT ON TABLE entry IS '{_LABEL}{FORMAT}'"
_PROTECTION = (
    f"CREATE FUNCTION dura_refuse() RETURNS trigger LANGUAGE plpgsql AS $${_REFUSAL}$$",
    *(statement.format(table) for table in ("cohort", "entry") for statement in (_CHANGE, _TRUNCATE)),
    _COMMENT,
)
_BEFORE_ROW_UPDATE_DELETE = 1 + 2 + 8 + 16
_BEFORE_TRUNCATE = 2 + 32
"""Bits of pg_trigger.tgtype (PostgreSQL sources, catalog/pg_trigger.h)."""
_EXPECTED = {
    (f"{table}_{name}", "O", kind, _REFUSAL)
    for table in ("cohort", "entry")
    for name, kind in (("change", _BEFORE_ROW_UPDATE_DELETE), ("truncate", _BEFORE_TRUNCATE))
}
_TRIGGERS = sa.text(
    "SELECT t.tgname, t.tgenabled::text, t.tgtype::int, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid "
    "WHERE t.tgrelid IN (to_regclass('cohort'), to_regclass('entry')) AND NOT t.tgisinternal"
)
_HOST_STATES = {
    "08": "the server is out of reach",
    "28": "the server does not let this site in; look at its password file",
    "3D": "the database does not exist",
    "42501": "this site's role lacks a permission",
    "53": "the server is out of space, memory or connections",
    "55P03": "another process holds it",
    "57": "the server stops or restarts",
    "58": "the server's disk fails",
    "25006": "the server is read-only",
}
"""SQLSTATE (or its class) to what the operator is told."""


class PostgreSQL:
    """See :class:`dura_client.ledger.rows.Backend`.

    Args:
        url: of the database, without a password.
    """

    def __init__(self, url: str) -> None:
        parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
        self.location = parsed.render_as_string(hide_password=True)
        self._engine = sa.create_engine(
            parsed,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_SECONDS, "application_name": "dura ledger"},
        )

    def exists(self) -> bool:
        """Tell whether the table of rows is there."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.text("SELECT to_regclass('entry')")) is not None

    def create(self) -> None:
        """Make tables, triggers and label in one transaction."""
        if self.exists():
            return
        with self.writing() as connection:
            if connection.scalar(sa.text("SELECT to_regclass('entry')")) is None:
                TABLES.create_all(connection, checkfirst=False)
                for statement in _PROTECTION:
                    connection.exec_driver_sql(statement)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Lend a connection that sees one moment and cannot write."""
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Lend a connection that holds the advisory lock until its commit is durable."""
        # Every statement sees what was committed before it: a snapshot taken before the lock would be stale after it.
        with self._engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
            yield connection

    def check(self, connection: sa.Connection) -> None:
        """Check label, triggers, and that the server synchronises what it commits."""
        label = connection.scalar(sa.text("SELECT obj_description(to_regclass('entry'), 'pg_class')"))
        if not isinstance(label, str) or not label.startswith(_LABEL):
            raise broken("the database is not a ledger")
        if label not in {f"{_LABEL}{number}" for number in (FORMAT, *OLDER)}:
            raise InputError(
                f"the ledger has format {label.removeprefix(_LABEL)}, this version of dura reads format {FORMAT}"
            )
        if {tuple(row) for row in connection.execute(_TRIGGERS)} != _EXPECTED:
            raise broken("its protection against changes was removed")
        if connection.scalar(sa.text("SHOW fsync")) != "on":
            raise HostError(
                f"the PostgreSQL server of {self.location} runs with fsync = off: a crash would lose reservations",
                hint="Turn fsync on in the server's configuration.",
            )

    def upgrade(self, connection: sa.Connection) -> None:
        """Write the present format into the table's comment."""
        label = connection.scalar(sa.text("SELECT obj_description(to_regclass('entry'), 'pg_class')"))
        if label in {f"{_LABEL}{number}" for number in OLDER}:
            connection.exec_driver_sql(_COMMENT)

    def highest(self, connection: sa.Connection) -> int | None:  # noqa: ARG002  # the interface's
        """PostgreSQL's sequences do not follow transactions, so nothing reliable is known."""
        return None

    def mark(self) -> object | None:
        """The server tells nothing of the kind; rows are verified again after some time."""
        return None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn errors of the driver into ours, by SQLSTATE alone."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            reason = _HOST_STATES.get(state or "08") or _HOST_STATES.get((state or "")[:2])
            if reason is None:
                raise broken(f"the database answered with SQLSTATE {state}") from None
            raise HostError(f"the privacy ledger {self.location} cannot be used: {reason}") from None

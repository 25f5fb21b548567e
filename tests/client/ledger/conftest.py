"""Ledgers of both kinds, and a real PostgreSQL server where its programs are installed."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dura_client.ledger.ledger import Ledger

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; tests that do run it as this user."""


@dataclass(frozen=True)
class Server:
    """A private cluster that listens on a socket in its folder only and asks for a password."""

    programs: Path
    folder: Path

    def call(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs as the cluster's owner."""
        command = [str(self.programs / program), *words]
        user = UNPRIVILEGED if os.geteuid() == 0 else None
        environment = {**os.environ, "PGPASSFILE": str(self.folder / "pgpass")}
        return subprocess.run(
            command,
            user=user,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=environment,
            timeout=300,
        )

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run SQL as the superuser and return what psql prints."""
        place = ["-h", str(self.folder), "-U", "dura", "-d", database]
        done = self.call("psql", *place, "-v", "ON_ERROR_STOP=1", "-qAtc", statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def database(self) -> str:
        """Make an empty database and return its URL, without a password."""
        name = f"ledger_{secrets.token_hex(6)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://dura@/{name}?host={self.folder}"


def _programs() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if all((place / name).exists() for name in ("initdb", "pg_ctl"))), None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """Start a cluster of its own, or skip with the reason."""
    pytest.importorskip("psycopg", reason="the PostgreSQL ledger is not tested: psycopg is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("the PostgreSQL ledger is not tested: no initdb and pg_ctl (Debian package postgresql)")
    with tempfile.TemporaryDirectory(prefix="dura-pg-", ignore_cleanup_errors=True) as name:
        server = Server(programs, Path(name))
        password = secrets.token_hex(16)
        (server.folder / "password").write_text(password)
        (server.folder / "pgpass").write_text(f"*:*:*:dura:{password}")
        (server.folder / "pgpass").chmod(0o600)
        if os.geteuid() == 0:
            for path in (server.folder, *server.folder.iterdir()):
                shutil.chown(path, UNPRIVILEGED)
        data = str(server.folder / "data")
        made = server.call(
            "initdb", "-D", data, "-U", "dura", "--auth=scram-sha-256", f"--pwfile={server.folder / 'password'}"
        )
        if made.returncode != 0:
            pytest.skip(f"the PostgreSQL ledger is not tested: initdb failed: {made.stderr[-300:]}")
        options = f"-c listen_addresses='' -c unix_socket_directories='{server.folder}'"
        started = server.call(
            "pg_ctl", "-D", data, "-w", "-t", "240", "-o", options, "-l", str(server.folder / "log"), "start"
        )
        assert started.returncode == 0, started.stdout + started.stderr
        # psycopg reads the password file as this process, which must own it.
        own = server.folder / "own-pgpass"
        own.write_text(f"*:*:*:dura:{password}")
        own.chmod(0o600)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PGPASSFILE", str(own))
            yield server
        server.call("pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """Return a ledger that does not exist yet: each kind of database keeps the same promises."""
    if request.param == "sqlite":
        return Ledger(tmp_path / "site" / "ledger.db")
    return Ledger(request.getfixturevalue("postgresql").database())


@pytest.fixture
def file_ledger(tmp_path: Path) -> Ledger:
    """Return a ledger in a file that does not exist yet."""
    return Ledger(tmp_path / "site" / "ledger.db")

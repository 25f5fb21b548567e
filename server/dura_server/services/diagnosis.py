"""Why the coordinator's services cannot run: what they need is looked at, one thing after the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

from dura_common.consortium.identity import check_issued, load_certificate
from dura_common.errors import DuraError, HostError
from dura_common.runtime.files import read_limited, require_space
from dura_common.runtime.running import require_free_port
from dura_server.consortium.place import GATEWAY, SUMS
from dura_server.home import CoordinatorHome
from dura_server.settings import CoordinatorSettings

RENEWAL = "`dura coordinator renew` issues a new one."


def diagnose(home: CoordinatorHome, settings: CoordinatorSettings, name: str) -> DuraError | None:
    """Return why a service, named, ends again and again; None if everything is there that it needs."""
    try:
        require_space(home.run)
        check_certificate(home, datetime.now(UTC))
        if name == "gateway":
            require_free_port(settings.bind, settings.port, what=GATEWAY)
        if name == "aggregator":
            require_free_port(settings.bind, settings.aggregation_port, what=SUMS)
        if name == "superlink":
            _check_database(home)
    except DuraError as error:
        return error
    return None


def check_certificate(home: CoordinatorHome, now: datetime) -> None:
    """Check the server's certificate.

    Raises:
        TrustError: it has expired, or the service's own authority has not issued it.
    """
    authority = load_certificate(read_limited(home.keys / "authority.pem", what="the authority's certificate"))
    server = load_certificate(read_limited(home.keys / "server.pem", what="the server's certificate"))
    check_issued(server, authority, now, renewal=RENEWAL)


def _check_database(home: CoordinatorHome) -> None:
    try:
        with closing(sqlite3.connect(f"file:{home.database}?mode=ro", uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise HostError(
            f"Flower's database {home.database} cannot be used: {found}",
            hint="Move the file away: the next start makes a new one. Studies and their sums are in other files, and "
            "nodes are entered again from the roster.",
        )

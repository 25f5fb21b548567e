"""The place of a site's ledger: the file in its folder, or the PostgreSQL database that its settings name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from dura_client.ledger.ledger import Ledger
from dura_client.site.home import SiteHome
from dura_client.site.settings import load_settings
from dura_common.errors import HostError, StateError, install_with
from dura_common.runtime.files import read_limited, write_atomic


def site_ledger(home: SiteHome, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Ledger:
    """Return the site's ledger.

    Raises:
        StateError: the site was not initialised, or it has two ledgers.
        HostError: the driver of PostgreSQL is not installed.
    """
    url = load_settings(home).ledger_url
    _check_place(home, url)
    if url is None:
        return Ledger(home.ledger, clock=clock)
    try:
        return Ledger(url, clock=clock)
    except ModuleNotFoundError as error:
        raise HostError(
            "a ledger in PostgreSQL needs a driver that is not installed",
            hint=install_with("site,postgresql"),
        ) from error


def _check_place(home: SiteHome, url: str | None) -> None:
    """Refuse any ledger except the first one: a changed setting must not make the site forget what was spent."""
    noted = home.ledger_location
    if url is not None and not home.ledger.exists() and not noted.exists():
        with suppress(StateError):  # another process recorded the place first; it is compared below
            write_atomic(noted, url.encode(), replace=False)
    before = read_limited(noted, what="the ledger's location").decode() if noted.exists() else None
    if before != url or (url is not None and home.ledger.exists()):
        raise StateError(
            f"the ledger of this site is in {before or home.ledger}, but site.toml says {url or 'nothing of it'}",
            hint="A ledger stays where it began: set ledger_url in site.toml as it was. To move it on purpose, "
            f"move its rows first, then remove {noted.name} or the file.",
        )

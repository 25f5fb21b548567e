"""The site's own settings (site.toml): its name and the resources of its machine. Only the site chooses them."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator

from dura_client.site.home import SiteHome
from dura_common.errors import StateError
from dura_common.runtime.files import read_limited
from dura_common.study import Frozen, SiteName, explain_validation, parse_toml


class SiteSettings(Frozen):
    """The content of site.toml."""

    name: SiteName
    device: Literal["cpu", "cuda"] = "cpu"
    """The device on which models train."""
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of processor cores for training; a hospital's machine may have other work."""
    ledger_url: str | None = None
    """PostgreSQL database of the ledger. By default, the ledger is a file in the site's folder."""

    prepare_processes: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Number of processes that prepare recordings. By default, one for each processor core."""
    encrypt_prepared: bool = False
    """Whether prepared recordings are encrypted on the disk. They are then held in memory while a study runs."""
    prepared_days: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 90.0
    """Prepared recordings that nobody used for so many days are removed."""
    prepared_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 200.0
    """Size in GiB beyond which the oldest prepared recordings are removed, except those of approved studies."""

    @model_validator(mode="before")
    @classmethod
    def _without_old(cls, data: Any) -> Any:
        """Drop what files of 0.1.0 may say about a port on which nothing listens any more."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if name != "runtime_port"}

    @field_validator("ledger_url")
    @classmethod
    def _safe_url(cls, url: str | None) -> str | None:
        return None if url is None else check_ledger_url(url)


def check_ledger_url(url: str) -> str:
    """Return the URL of a ledger if it names a PostgreSQL database, contains no password and protects the connection.

    Raises:
        ValueError: one of these conditions does not hold; the message does not repeat the URL.
    """
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    if parts.scheme != "postgresql" or not parts.path.strip("/"):
        raise ValueError("expected postgresql://user@host/database")
    if parts.password is not None or "password" in query:
        raise ValueError("the password must not be in this address: put it into ~/.pgpass, PGPASSFILE or PGPASSWORD")
    host = query.get("host", [parts.hostname or ""])[0]
    local = host in {"", "localhost", "127.0.0.1", "::1"} or host.startswith("/")
    if not local and query.get("sslmode") != ["verify-full"]:
        raise ValueError("a database on another machine needs ?sslmode=verify-full (and sslrootcert)")
    return url


def load_settings(home: SiteHome) -> SiteSettings:
    """Read site.toml.

    Raises:
        StateError: the site was not initialised.
        InputError: the file is not valid.
    """
    if not home.settings.exists():
        raise StateError(f"there is no site at {home.path}", hint="Create one with `dura site init`.")
    data = parse_toml(read_limited(home.settings, what="the site's settings"), what="the site's settings")
    try:
        return SiteSettings.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the site's settings") from error

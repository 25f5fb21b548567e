"""The files of the rosters that this site follows and has followed, each with the countersignatures known here."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from dura_client.site.home import SiteHome
from dura_common.consortium.chain import Link
from dura_common.consortium.envelope import payload_of
from dura_common.consortium.roster import Roster, parse_payload, roster_digest
from dura_common.runtime.files import read_limited
from dura_common.study import explain_validation

MAX_BYTES = 8 << 20
"""Largest file of rosters."""


def link_path(home: SiteHome, serial: int) -> Path:
    """Return the path of the followed roster with a given serial."""
    return home.consortium / "followed" / f"{serial:06d}.json"


def followed(home: SiteHome) -> list[Path]:
    """Return the files of all rosters that were ever followed, the newest first."""
    folder = home.consortium / "followed"
    return sorted(folder.glob("*.json"), reverse=True) if folder.exists() else []


def followed_link(home: SiteHome, serial: int) -> Link | None:
    """Return the followed roster of a serial, or None.

    Raises:
        InputError: the file was altered.
    """
    path = link_path(home, serial)
    return read_link(path) if path.exists() else None


def followed_digest(home: SiteHome, serial: int) -> str | None:
    """Return the digest of the followed roster of a serial, or None.

    Raises:
        InputError: the file was altered.
    """
    link = followed_link(home, serial)
    return None if link is None else roster_digest(link.roster)


def read_link(path: Path) -> Link:
    """Read one file. Its roster is NOT verified.

    Raises:
        InputError: the file was altered.
    """
    try:
        return Link.model_validate_json(read_limited(path, what="a roster", limit=MAX_BYTES))
    except ValidationError as error:
        raise explain_validation(error, what="a roster at this site") from error


def serial_of(link: Link) -> int:
    """Return the serial that a roster claims.

    Raises:
        InputError: the text is not a roster.
    """
    return parse_payload(Roster, payload_of(link.roster), what="the roster").serial

"""The consortium: its authority, its roster, and who is admitted to it.

One small file comes in (a card), one goes out (an admission); people compare fingerprints by telephone. The
coordinator never holds a site's private key.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from dura_common.envelope import canonical_json, payload_of, sign
from dura_common.errors import InputError, StateError, TrustError
from dura_common.identity import (
    CLOCK_SKEW,
    certificate_pem,
    check_node_public,
    load_certificate,
    load_private,
    load_request,
    make_authority,
    make_server_certificate,
    make_site_certificate,
    private_pem,
)
from dura_common.roster import (
    ADMISSION_TYPE,
    ROSTER_TYPE,
    Admission,
    ResearcherCard,
    Roster,
    RosterResearcher,
    RosterSite,
    SiteCard,
    consortium_fingerprint,
    encode_identity,
    read_card,
)
from dura_common.roster import read_roster as verify_roster
from dura_common.runtime.files import SHARED_FILE, private_folder, read_limited, write_atomic
from dura_common.study import Frozen, Word, explain_validation, parse_toml
from dura_server.home import CoordinatorHome

ROSTER_DAYS = 365
CARD_DAYS = 30
"""A card that lay about for longer is made again: its sender may have been replaced meanwhile."""
SECRET_BYTES = 48


class CoordinatorSettings(Frozen):
    """What coordinator.toml says."""

    consortium: Word
    host: Annotated[str, Field(min_length=1, max_length=255)]
    """Name or address under which sites reach this machine."""
    bind: str = "0.0.0.0"  # noqa: S104  # sites connect from outside; only the gateway listens here
    port: Annotated[int, Field(ge=1, le=65535)]
    """Public port of the gateway."""
    internal_port: Annotated[int, Field(ge=1, le=65535)]
    """Loopback port of the SuperLink."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """One admission on its way out."""

    name: str
    path: Path | None
    """The file for the site; researchers get none."""


def load_settings(home: CoordinatorHome) -> CoordinatorSettings:
    """Read coordinator.toml.

    Raises:
        StateError: there is no coordinator here.
        InputError: the file is not valid.
    """
    if not home.settings.exists():
        raise StateError(f"there is no coordinator at {home.path}", hint="Create one with `dura coordinator init`.")
    what = "the coordinator's settings"
    try:
        return CoordinatorSettings.model_validate(parse_toml(read_limited(home.settings, what=what), what=what))
    except ValidationError as error:
        raise explain_validation(error, what=what) from error


def init(home: CoordinatorHome, settings: CoordinatorSettings, now: datetime) -> str:
    """Make a consortium and return its fingerprint.

    Raises:
        StateError: there is one already; nothing is changed.
    """
    if home.settings.exists():
        raise StateError(f"there is a coordinator already at {home.path}", hint="Take another --home.")
    private_folder(home.path)
    keys = private_folder(home.keys)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    consortium_key = Ed25519PrivateKey.generate()
    authority = make_authority(authority_key, settings.consortium, now)
    hosts = (settings.host, "localhost", "127.0.0.1")
    server = make_server_certificate(authority, authority_key, server_key.public_key(), hosts, now)
    for name, content in (
        ("authority.key", private_pem(authority_key)),
        ("server.key", private_pem(server_key)),
        ("consortium.key", private_pem(consortium_key)),
        ("superexec.secret", secrets.token_hex(SECRET_BYTES).encode()),
        ("authority.pem", certificate_pem(authority)),
        ("server.pem", certificate_pem(server)),
    ):
        write_atomic(keys / name, content)
    roster = Roster(
        consortium=settings.consortium,
        serial=0,
        issued=now,
        expires=now + timedelta(days=ROSTER_DAYS),
        fleet=f"{settings.host}:{settings.port}",
    )
    _write_roster(home, roster, consortium_key)
    lines = [
        f'consortium = "{settings.consortium}"',
        f'host = "{settings.host}"',
        f'bind = "{settings.bind}"',
    ]
    lines += [f"port = {settings.port}", f"internal_port = {settings.internal_port}"]
    write_atomic(home.settings, ("\n".join(lines) + "\n").encode())  # last: it marks the coordinator as made
    return fingerprint(home)


def fingerprint(home: CoordinatorHome) -> str:
    """Return the fingerprint of the consortium, for reading aloud."""
    key = encode_identity(_consortium_key(home).public_key())
    return consortium_fingerprint(key, _authority_pem(home))


def read_roster(home: CoordinatorHome, now: datetime | None = None) -> tuple[Roster, str]:
    """Return the present roster and its envelope, verified.

    Raises:
        StateError: there is no coordinator here.
        TrustError: the file was altered.
    """
    load_settings(home)
    envelope = read_limited(home.roster, what="the roster").decode()
    issued = now or Roster.model_validate_json(payload_of(envelope)).issued
    return verify_roster(envelope, _consortium_key(home).public_key(), issued), envelope


def check_card(home: CoordinatorHome, content: bytes, now: datetime) -> SiteCard | ResearcherCard:
    """Check everything about a card but its fingerprint, which a person compares.

    Raises:
        InputError: not a card, or keys of the wrong kind.
        TrustError: altered, too old, from the future, or its name or keys belong to another member.
    """
    card = read_card(content)
    if card.created > now + CLOCK_SKEW:
        raise TrustError("the card was made in the future", hint="Check the clocks of both machines.")
    if card.created < now - timedelta(days=CARD_DAYS):
        raise TrustError(f"the card is older than {CARD_DAYS} days", hint="Ask its sender to make a new one.")
    roster, _ = read_roster(home)
    members = {site.name: site.identity for site in roster.sites}
    members |= {item.name: item.identity for item in roster.researchers}
    if members.get(card.name, card.identity) != card.identity:
        raise TrustError(
            f"{card.name} is on the roster with other keys",
            hint="If its keys were really renewed, remove the old entry with `dura coordinator remove` first.",
        )
    if card.identity in {identity for name, identity in members.items() if name != card.name}:
        raise TrustError("the keys of this card belong to another member of the roster")
    if isinstance(card, SiteCard):
        load_request(card.request.encode())
        check_node_public(card.node_key)
    return card


def admit(
    home: CoordinatorHome, cards: Sequence[SiteCard | ResearcherCard], out: Path, now: datetime
) -> list[Admitted]:
    """Put checked cards on the roster, once for all of them, and write the admissions into ``out``."""
    roster, _ = read_roster(home)
    sites = {site.name: site for site in roster.sites}
    researchers = {item.name: item for item in roster.researchers}
    for card in cards:
        if isinstance(card, SiteCard):
            sites[card.name] = RosterSite(name=card.name, identity=card.identity, node_key=card.node_key)
        else:
            researchers[card.name] = RosterResearcher(name=card.name, identity=card.identity)
    envelope = _next_roster(home, roster, tuple(sites.values()), tuple(researchers.values()), now)
    private_folder(out)
    return [
        Admitted(
            card.name,
            _write_admission(home, card, envelope, out, now) if isinstance(card, SiteCard) else None,
        )
        for card in cards
    ]


def remove(home: CoordinatorHome, name: str, now: datetime) -> None:
    """Take a member off the roster.

    Raises:
        InputError: nobody of that name is on it.
    """
    roster, _ = read_roster(home)
    sites = tuple(site for site in roster.sites if site.name != name)
    researchers = tuple(item for item in roster.researchers if item.name != name)
    if len(sites) + len(researchers) == len(roster.sites) + len(roster.researchers):
        raise InputError(f"nobody called {name} is on the roster")
    _next_roster(home, roster, sites, researchers, now)


def _next_roster(
    home: CoordinatorHome,
    old: Roster,
    sites: tuple[RosterSite, ...],
    researchers: tuple[RosterResearcher, ...],
    now: datetime,
) -> str:
    values = {
        **old.model_dump(),
        "serial": old.serial + 1,
        "issued": now,
        "expires": now + timedelta(days=ROSTER_DAYS),
        "sites": [site.model_dump() for site in sites],
        "researchers": [item.model_dump() for item in researchers],
    }
    try:
        roster = Roster.model_validate(values)
    except ValidationError as error:
        raise explain_validation(error, what="the new roster") from error
    return _write_roster(home, roster, _consortium_key(home))


def _write_roster(home: CoordinatorHome, roster: Roster, key: Ed25519PrivateKey) -> str:
    envelope = sign(canonical_json(roster), ROSTER_TYPE, key)
    write_atomic(home.roster, envelope.encode(), mode=SHARED_FILE)
    return envelope


def _write_admission(home: CoordinatorHome, card: SiteCard, roster: str, out: Path, now: datetime) -> Path:
    authority_key = load_private(read_limited(home.keys / "authority.key", what="the authority's key"))
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise InputError("authority.key does not hold an elliptic-curve key")
    authority = load_certificate(_authority_pem(home).encode())
    request = load_request(card.request.encode())
    certificate = make_site_certificate(authority, authority_key, request, card.name, now)
    key = _consortium_key(home)
    admission = Admission(
        name=card.name,
        consortium_key=encode_identity(key.public_key()),
        authority=_authority_pem(home),
        certificate=certificate_pem(certificate).decode(),
        roster=roster,
        issued=now,
    )
    path = out / f"{card.name}.admission.json"
    write_atomic(path, sign(canonical_json(admission), ADMISSION_TYPE, key).encode(), mode=SHARED_FILE)
    return path


def _consortium_key(home: CoordinatorHome) -> Ed25519PrivateKey:
    key = load_private(read_limited(home.keys / "consortium.key", what="the consortium's key"))
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("consortium.key does not hold an Ed25519 key")
    return key


def _authority_pem(home: CoordinatorHome) -> str:
    return read_limited(home.keys / "authority.pem", what="the authority's certificate").decode()

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

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.identity import (
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
from dura_common.consortium.roster import (
    ADMISSION_TYPE,
    ROSTER_TYPE,
    Admission,
    ResearcherCard,
    Roster,
    SiteCard,
    consortium_fingerprint,
    encode_identity,
    read_any_roster,
    read_card,
)
from dura_common.consortium.roster import read_roster as verify_roster
from dura_common.errors import HostError, InputError, StateError, TrustError
from dura_common.runtime.files import PRIVATE_FOLDER, SHARED_FILE, private_folder, read_limited, write_atomic
from dura_common.study import explain_validation
from dura_server.consortium.members import with_member
from dura_server.home import CoordinatorHome
from dura_server.settings import CoordinatorSettings, load_settings

__all__ = [
    "Admitted",
    "CoordinatorSettings",
    "admit",
    "check_card",
    "fingerprint",
    "init",
    "load_settings",
    "read_roster",
    "remove",
    "renew",
]

ROSTER_DAYS = 365
CARD_DAYS = 30
"""A card that lay about for longer is made again: its sender may have been replaced meanwhile."""
SECRET_BYTES = 48


@dataclass(frozen=True, slots=True)
class Admitted:
    """One admission on its way out."""

    name: str
    path: Path | None
    """The file for the site; researchers get none."""


def init(home: CoordinatorHome, settings: CoordinatorSettings, now: datetime) -> str:
    """Make a consortium and return its fingerprint.

    Raises:
        StateError: there is one already; nothing is changed.
    """
    if home.settings.exists():
        raise StateError(f"there is a coordinator already at {home.path}", hint="Take another --home.")
    keys = _closed_folder(_closed_folder(home.path) / home.keys.name)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    consortium_key = Ed25519PrivateKey.generate()
    authority = make_authority(authority_key, settings.consortium, now)
    server = make_server_certificate(authority, authority_key, server_key.public_key(), _hosts(settings), now)
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
        fleet=settings.fleet,
        aggregation=settings.aggregation,
    )
    _write_roster(home, roster, consortium_key)
    write_atomic(home.settings, tomli_w.dumps(settings.model_dump()).encode())  # last: it marks the coordinator as made
    return fingerprint(home)


def fingerprint(home: CoordinatorHome) -> str:
    """Return the fingerprint of the consortium, for reading aloud."""
    key = encode_identity(_consortium_key(home).public_key())
    return consortium_fingerprint(key, _authority_pem(home))


def read_roster(home: CoordinatorHome, now: datetime | None = None) -> tuple[Roster, str]:
    """Return the present roster and its envelope, verified; its dates are checked only against a given ``now``.

    Raises:
        StateError: there is no coordinator here.
        InputError: the file is not a roster.
        TrustError: the file was altered, or has expired.
    """
    load_settings(home)
    envelope = read_limited(home.roster, what="the roster").decode(errors="replace")
    key = _consortium_key(home).public_key()
    return read_any_roster(envelope, key) if now is None else verify_roster(envelope, key, now), envelope


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
    if isinstance(card, SiteCard):
        load_request(card.request.encode())
        check_node_public(card.node_key)
    with_member(read_roster(home)[0], card)
    return card


def admit(
    home: CoordinatorHome, cards: Sequence[SiteCard | ResearcherCard], out: Path, now: datetime
) -> list[Admitted]:
    """Put checked cards on the roster, once for all of them, and write the admissions into ``out``.

    The roster is written first: if a file cannot be written after that, admitting the same cards again helps.

    Raises:
        InputError: two cards of one name.
        TrustError: a name or key belongs to another member, or another card.
        HostError: ``out`` cannot be written; nothing was changed.
    """
    roster, _ = read_roster(home)
    if len({card.name for card in cards}) != len(cards):
        raise InputError("two of the cards carry the same name")
    for card in cards:
        roster = with_member(roster, card)
    private_folder(out)
    certificates = {card.name: _certify(home, card, now) for card in cards if isinstance(card, SiteCard)}
    envelope = _next_roster(home, roster, now)
    return [
        Admitted(card.name, _write_admission(home, card.name, certificates[card.name], envelope, out, now))
        if card.name in certificates
        else Admitted(card.name, None)
        for card in cards
    ]


def renew(home: CoordinatorHome, now: datetime) -> Roster:
    """Issue the same roster for another year, and the server's certificate for the same key.

    The addresses on the roster become those of the settings.
    """
    roster, _ = read_roster(home)
    settings = load_settings(home)
    roster = roster.model_copy(update={"fleet": settings.fleet, "aggregation": settings.aggregation})
    authority, authority_key = _authority(home)
    server_key = load_private(read_limited(home.keys / "server.key", what="the server's key"))
    if not isinstance(server_key, ec.EllipticCurvePrivateKey):
        raise InputError("server.key does not hold an elliptic-curve key")
    server = make_server_certificate(authority, authority_key, server_key.public_key(), _hosts(settings), now)
    write_atomic(home.keys / "server.pem", certificate_pem(server))
    _next_roster(home, roster, now)
    return read_roster(home)[0]


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
    _next_roster(home, roster.model_copy(update={"sites": sites, "researchers": researchers}), now)


def _next_roster(home: CoordinatorHome, roster: Roster, now: datetime) -> str:
    dates = {"issued": now, "expires": now + timedelta(days=ROSTER_DAYS)}
    values = {**roster.model_dump(), **dates, "serial": roster.serial + 1}
    try:
        checked = Roster.model_validate(values)
    except ValidationError as error:
        raise explain_validation(error, what="the new roster") from error
    return _write_roster(home, checked, _consortium_key(home))


def _write_roster(home: CoordinatorHome, roster: Roster, key: Ed25519PrivateKey) -> str:
    envelope = sign(canonical_json(roster), ROSTER_TYPE, key)
    write_atomic(home.roster, envelope.encode(), mode=SHARED_FILE)
    return envelope


def _certify(home: CoordinatorHome, card: SiteCard, now: datetime) -> str:
    authority, authority_key = _authority(home)
    request = load_request(card.request.encode())
    return certificate_pem(make_site_certificate(authority, authority_key, request, card.name, now)).decode()


def _write_admission(home: CoordinatorHome, name: str, certificate: str, roster: str, out: Path, now: datetime) -> Path:
    key = _consortium_key(home)
    admission = Admission(
        name=name,
        consortium_key=encode_identity(key.public_key()),
        authority=_authority_pem(home),
        certificate=certificate,
        roster=roster,
        issued=now,
    )
    path = out / f"{name}.admission.json"
    write_atomic(path, sign(canonical_json(admission), ADMISSION_TYPE, key).encode(), mode=SHARED_FILE)
    return path


def _closed_folder(path: Path) -> Path:
    """Create a folder, or close an existing one to everybody else."""
    try:
        private_folder(path).chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise HostError(f"cannot close the folder {path} to others: {error.strerror}") from error
    return path


def _authority(home: CoordinatorHome) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = load_private(read_limited(home.keys / "authority.key", what="the authority's key"))
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError("authority.key does not hold an elliptic-curve key")
    return load_certificate(_authority_pem(home).encode()), key


def _hosts(settings: CoordinatorSettings) -> tuple[str, ...]:
    return (settings.host, "localhost", "127.0.0.1")


def _consortium_key(home: CoordinatorHome) -> Ed25519PrivateKey:
    key = load_private(read_limited(home.keys / "consortium.key", what="the consortium's key"))
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("consortium.key does not hold an Ed25519 key")
    return key


def _authority_pem(home: CoordinatorHome) -> str:
    return read_limited(home.keys / "authority.pem", what="the authority's certificate").decode()

"""The authority: it holds the root key, admits members and issues rosters, on a separate machine if possible.

The authority reads a small file (a card) and writes a small file (an admission). It writes all rosters for the serving
host to one file. People compare fingerprints by telephone. The authority never holds a member's private key. Sites
follow a roster of the authority only if they have countersigned it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from dura_common.consortium.cards import ResearcherCard, SiteCard, encode_identity, read_card
from dura_common.consortium.chain import MAX_LINKS, Chain, Link, check_sound
from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.identity import (
    CLOCK_SKEW,
    certificate_pem,
    check_node_public,
    load_certificate,
    load_request,
    make_authority,
    make_researcher_certificate,
    make_site_certificate,
)
from dura_common.consortium.keyfile import private_pem
from dura_common.consortium.roster import (
    ADMISSION_TYPE,
    ROSTER_DAYS,
    ROSTER_TYPE,
    Admission,
    Roster,
    read_claimed_roster,
    roster_digest,
    roster_fingerprint,
)
from dura_common.errors import InputError, StateError, TrustError
from dura_common.runtime.files import SHARED_FILE, closed_folder, private_folder, read_limited, write_atomic
from dura_common.runtime.private_keys import read_private
from dura_common.study import explain_validation
from dura_server.consortium.enrolment import Service, install
from dura_server.consortium.members import successor, with_members, without
from dura_server.home import AuthorityHome, CoordinatorHome

CARD_DAYS = 30
"""An older card must be made again, because its sender may have been replaced in the meantime."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """One admission, and the file to which it is written."""

    name: str
    path: Path | None
    """The file for the member; None for a card of an earlier version of dura, which requests no certificate."""


def init(
    home: AuthorityHome,
    service: Service,
    now: datetime,
    *,
    coordinator: CoordinatorHome | None = None,
    passphrase: bytes | None = None,
) -> None:
    """Create an authority for a serving host: a root key, and a certificate authority for client certificates.

    If ``coordinator`` is a folder on this machine, new rosters are written there. ``passphrase`` encrypts both keys.

    Raises:
        StateError: the folder has an authority already; nothing is changed.
    """
    if home.root.exists():
        raise StateError(f"there is already an authority at {home.path}", hint="Choose another --authority folder.")
    closed_folder(home.path)
    clients_key = ec.generate_private_key(ec.SECP256R1())
    clients = make_authority(clients_key, service.consortium, now)
    write_atomic(home.clients_key, private_pem(clients_key, passphrase))
    write_atomic(home.clients, certificate_pem(clients))
    write_atomic(home.service, service.model_dump_json(indent=1).encode())
    if coordinator is not None:
        write_atomic(home.coordinator, str(coordinator.path.resolve()).encode())
    write_atomic(home.root, private_pem(Ed25519PrivateKey.generate(), passphrase), replace=False)  # last


def read_newest(home: AuthorityHome) -> tuple[Roster, str] | None:
    """Return the newest roster and its envelope, or None before the founding.

    Raises:
        StateError: there is no authority here.
    """
    _require(home)
    paths = sorted(home.rosters.glob("*.json")) if home.rosters.exists() else []
    if not paths:
        return None
    envelope = read_limited(paths[-1], what="the newest roster").decode()
    return read_claimed_roster(envelope), envelope


def fingerprint(home: AuthorityHome) -> str:
    """Return the fingerprint of the newest roster, for people to read out by telephone.

    Raises:
        StateError: no roster was issued yet.
    """
    return roster_fingerprint(_require_roster(home)[1])


def check_card(home: AuthorityHome, content: bytes, now: datetime) -> SiteCard | ResearcherCard:
    """Check everything about a card except its fingerprint, which a person compares.

    Raises:
        InputError: the file is not a card, or its keys are of the wrong kind.
        TrustError: the card was altered, is too old, or is dated in the future.
    """
    _require(home)
    card = read_card(content)
    if card.created > now + CLOCK_SKEW:
        raise TrustError("the card was made in the future", hint="Check the clocks of both machines.")
    if card.created < now - timedelta(days=CARD_DAYS):
        raise TrustError(f"the card is older than {CARD_DAYS} days", hint="Ask its sender to make a new one.")
    if card.request:
        load_request(card.request.encode())
    if isinstance(card, SiteCard):
        check_node_public(card.node_key)
    return card


def admit(
    home: AuthorityHome,
    cards: Sequence[SiteCard | ResearcherCard],
    out: Path,
    now: datetime,
    *,
    lost: Collection[str] = (),
    passphrase: bytes | None = None,
) -> list[Admitted]:
    """Put checked cards on one new roster, and write admissions and rosters to the folder ``out``.

    The first call founds the consortium, and its cards are the cards of the founders. As long as the roster lists only
    one site, nothing can be countersigned, and the next call founds the consortium again.

    Raises:
        InputError: two cards have the same name.
        TrustError: a name or key belongs to another member, or to another card.
        HostError: ``out`` cannot be written; nothing was changed.
    """
    root = _root(home, passphrase)
    found = read_newest(home)
    if found is None or not found[0].founded:
        before = _empty(home, root, now) if found is None else found[0].model_copy(update={"issued": now})
        roster = with_members(before, cards, now)
        roster = _checked(roster.model_copy(update={"issued": now, "expires": now + timedelta(days=ROSTER_DAYS)}))
    else:
        wanted = with_members(found[0], cards, now, lost=lost)
        same = wanted.members == found[0].members
        roster = found[0] if same else successor(found[0], roster_digest(found[1]), wanted, now, why=_why(cards, lost))
    private_folder(out)
    certificates = {card.name: _certify(home, card, now, passphrase) for card in cards if card.request}
    envelope = found[1] if found is not None and roster == found[0] else _issue(home, roster, [root])
    write_rosters(home, out / "rosters.json")
    return [
        Admitted(card.name, _write_admission(root, card.name, certificates[card.name], envelope, out, now))
        if card.name in certificates
        else Admitted(card.name, None)
        for card in cards
    ]


def remove(home: AuthorityHome, name: str, now: datetime, *, why: str = "", passphrase: bytes | None = None) -> Roster:
    """Issue a roster with a tombstone in place of a member; an :class:`InputError` if no member has this name."""
    found = _require_roster(home)
    roster = successor(found[0], roster_digest(found[1]), without(found[0], name), now, why=why)
    _issue(home, roster, [_root(home, passphrase)])
    return roster


def issue(home: AuthorityHome, service: Service | None, now: datetime, *, passphrase: bytes | None = None) -> Roster:
    """Issue the same roster for another 90 days, with the serving host's current addresses."""
    found = _require_roster(home)
    if service is not None:
        write_atomic(home.service, service.model_dump_json(indent=1).encode())
    return _issue_same(home, found, _root(home, passphrase), [], now)


def rotate(home: AuthorityHome, now: datetime, *, passphrase: bytes | None = None) -> Roster:
    """Replace the root key: the next roster names the new key and is signed with both keys."""
    found = _require_roster(home)
    old, new = _root(home, passphrase), Ed25519PrivateKey.generate()
    waiting = home.path / "root.next"
    write_atomic(waiting, private_pem(new, passphrase))  # first, because no roster may name a key that a crash has lost
    roster = _issue_same(home, found, new, [old], now)
    waiting.replace(home.root)
    return roster


def recover(home: AuthorityHome, content: bytes, now: datetime, *, passphrase: bytes | None = None) -> Roster:
    """Continue with a new authority after the root key was lost: all sites have to countersign.

    ``home`` is a new home, made by :func:`init`. ``content`` holds the rosters so far, as the serving host writes them.

    Raises:
        StateError: this authority has already issued rosters.
        InputError: ``content`` is not a file of rosters.
    """
    if read_newest(home) is not None:
        raise StateError(
            "this authority has already issued rosters",
            hint="Use a new, empty --authority folder.",
        )
    try:
        chain = Chain.model_validate_json(content)
    except ValidationError as error:
        raise explain_validation(error, what="the rosters") from error
    private_folder(home.rosters)
    for link in chain.links:
        roster = read_claimed_roster(link.roster)
        write_atomic(_path(home, roster.serial), link.roster.encode(), mode=SHARED_FILE)
    return _issue_same(home, _require_roster(home), _root(home, passphrase), [], now)


def write_rosters(home: AuthorityHome, path: Path) -> None:
    """Write the newest rosters as one file for the serving host."""
    paths = sorted(home.rosters.glob("*.json"))[-MAX_LINKS:]
    chain = Chain(links=tuple(Link(roster=one.read_text(), countersignatures=()) for one in paths))
    write_atomic(path, chain.model_dump_json().encode(), mode=SHARED_FILE)


def _issue_same(
    home: AuthorityHome,
    found: tuple[Roster, str],
    root: Ed25519PrivateKey,
    others: list[Ed25519PrivateKey],
    now: datetime,
) -> Roster:
    service = _service(home)
    wanted = found[0].model_copy(
        update={
            "root": encode_identity(root.public_key()),
            "fleet": service.fleet,
            "aggregation": service.aggregation,
            "authority": service.authority,
            "clients": read_limited(home.clients, what="the clients' authority").decode(),
        }
    )
    roster = successor(found[0], roster_digest(found[1]), wanted, now)
    _issue(home, roster, [root, *others])
    return roster


def _issue(home: AuthorityHome, roster: Roster, keys: list[Ed25519PrivateKey]) -> str:
    envelope = sign(canonical_json(roster), ROSTER_TYPE, *keys)
    if roster.serial > 1:
        last = _require_roster(home)[1]
        check_sound(read_claimed_roster(last), roster_digest(last), envelope)
    private_folder(home.rosters)
    write_atomic(_path(home, roster.serial), envelope.encode(), mode=SHARED_FILE)
    if home.coordinator.exists():
        where = CoordinatorHome(Path(home.coordinator.read_text()))
        chain = Chain(links=(Link(roster=envelope, countersignatures=()),))
        install(where, chain.model_dump_json().encode())
    return envelope


def _empty(home: AuthorityHome, root: Ed25519PrivateKey, now: datetime) -> Roster:
    service = _service(home)
    return Roster(
        consortium=service.consortium,
        serial=1,
        previous=None,
        issued=now,
        expires=now + timedelta(days=ROSTER_DAYS),
        root=encode_identity(root.public_key()),
        fleet=service.fleet,
        aggregation=service.aggregation,
        authority=service.authority,
        clients=read_limited(home.clients, what="the clients' authority").decode(),
    )


def _checked(roster: Roster) -> Roster:
    members = {
        "sites": [{**site.model_dump(), "since": roster.issued} for site in roster.sites],
        "researchers": [{**item.model_dump(), "since": roster.issued} for item in roster.researchers],
    }
    try:
        return Roster.model_validate({**roster.model_dump(), **members})
    except ValidationError as error:
        raise explain_validation(error, what="the first roster") from error


def _why(cards: Sequence[SiteCard | ResearcherCard], lost: Collection[str]) -> str:
    gone = sorted({card.name for card in cards} & set(lost))
    return f"keys lost: {', '.join(gone)}"[:200] if gone else "keys rotated"


def _certify(home: AuthorityHome, card: SiteCard | ResearcherCard, now: datetime, passphrase: bytes | None) -> str:
    key = read_private(home.clients_key, passphrase, what="the clients' authority key")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError("clients.key does not hold an elliptic-curve key")
    authority = load_certificate(read_limited(home.clients, what="the clients' authority"))
    request = load_request(card.request.encode())
    make = make_site_certificate if isinstance(card, SiteCard) else make_researcher_certificate
    return certificate_pem(make(authority, key, request, card.name, now)).decode()


def _write_admission(
    root: Ed25519PrivateKey, name: str, certificate: str, roster: str, out: Path, now: datetime
) -> Path:
    admission = Admission(name=name, certificate=certificate, roster=roster, issued=now)
    path = out / f"{name}.admission.json"
    write_atomic(path, sign(canonical_json(admission), ADMISSION_TYPE, root).encode(), mode=SHARED_FILE)
    return path


def _service(home: AuthorityHome) -> Service:
    try:
        return Service.model_validate_json(read_limited(home.service, what="the service's description"))
    except ValidationError as error:
        raise explain_validation(error, what="the service's description") from error


def _path(home: AuthorityHome, serial: int) -> Path:
    return home.rosters / f"{serial:06d}.json"


def _require(home: AuthorityHome) -> None:
    if not home.root.exists():
        raise StateError(f"there is no authority at {home.path}", hint="Create one with `dura authority init`.")


def _require_roster(home: AuthorityHome) -> tuple[Roster, str]:
    found = read_newest(home)
    if found is None:
        raise StateError("no roster was issued yet", hint="Admit the founders' cards: `dura authority admit`.")
    return found


def _root(home: AuthorityHome, passphrase: bytes | None) -> Ed25519PrivateKey:
    _require(home)
    key = read_private(home.root, passphrase, what="the root key")
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError("root.key does not hold an Ed25519 key")
    return key

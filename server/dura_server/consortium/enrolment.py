"""The serving host's part of enrolment: its TLS keys, the rosters that it received, and sites' countersignatures.

Nothing here can make a site follow a roster. The authority signs rosters (:mod:`dura_server.consortium.authority`), and
the sites countersign them. The service uses the newest roster that a quorum has countersigned. The first roster takes
effect at once, because hospitals compare its fingerprint when they join.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from dura_common.consortium.cards import Pem
from dura_common.consortium.chain import (
    Chain,
    Countersignature,
    Link,
    check_link,
    check_sound,
    countersigners,
    read_countersignature,
)
from dura_common.consortium.envelope import payload_of
from dura_common.consortium.identity import certificate_pem, load_certificate, make_authority, make_server_certificate
from dura_common.consortium.keyfile import private_pem
from dura_common.consortium.roster import (
    Address,
    Roster,
    check_dates,
    read_claimed_roster,
    roster_digest,
    roster_fingerprint,
)
from dura_common.errors import InputError, StateError, TrustError
from dura_common.runtime.files import (
    SHARED_FILE,
    closed_folder,
    private_folder,
    read_limited,
    write_atomic,
)
from dura_common.runtime.private_keys import read_private
from dura_common.study import Frozen, Word, explain_validation
from dura_server.home import CoordinatorHome
from dura_server.settings import CoordinatorSettings, load_settings

__all__ = [
    "CoordinatorSettings",
    "Service",
    "collect",
    "fingerprint",
    "init",
    "install",
    "links",
    "load_settings",
    "newest",
    "read_roster",
    "renew",
    "standing",
]

SECRET_BYTES = 48
MAX_LINK_BYTES = 32 << 20
"""A roster with the countersignatures of 500 sites."""


class Service(Frozen):
    """The description of a serving host that the authority puts on the roster."""

    consortium: Word
    fleet: Address
    aggregation: Address
    authority: Pem


def init(home: CoordinatorHome, settings: CoordinatorSettings, now: datetime) -> Service:
    """Create a serving host: its TLS key, its own certificate authority, and its settings.

    Raises:
        StateError: the folder has a coordinator already; nothing is changed.
    """
    if home.settings.exists():
        raise StateError(f"there is already a coordinator at {home.path}", hint="Choose another folder with --home.")
    keys = closed_folder(closed_folder(home.path) / home.keys.name)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    hosts = _hosts(settings)
    authority = make_authority(authority_key, settings.consortium, now, hosts=hosts)
    server = make_server_certificate(authority, authority_key, server_key.public_key(), hosts, now)
    for name, content in (
        ("authority.key", private_pem(authority_key)),
        ("server.key", private_pem(server_key)),
        ("superexec.secret", secrets.token_hex(SECRET_BYTES).encode()),
        ("authority.pem", certificate_pem(authority)),
        ("server.pem", certificate_pem(server)),
    ):
        write_atomic(keys / name, content)
    service = _write_service(home, settings)
    write_atomic(
        home.settings, tomli_w.dumps(settings.model_dump()).encode()
    )  # last, because this file marks the coordinator as complete
    return service


def _write_service(home: CoordinatorHome, settings: CoordinatorSettings) -> Service:
    service = Service(
        consortium=settings.consortium,
        fleet=settings.fleet,
        aggregation=settings.aggregation,
        authority=read_limited(home.keys / "authority.pem", what="the service's authority").decode(),
    )
    write_atomic(home.service, service.model_dump_json(indent=1).encode(), mode=SHARED_FILE)
    return service


def renew(home: CoordinatorHome, now: datetime) -> Service:
    """Renew the server's certificate for the same key, with the names that the settings have now.

    As long as the names stay the same, neither the root key nor a new roster is needed. If the names change, the
    certificate authority is replaced too. The authority must then issue a roster with the returned service.
    """
    _refuse_old(home)
    settings = load_settings(home)
    authority_key, server_key = _curve(home, "authority.key"), _curve(home, "server.key")
    hosts = _hosts(settings)
    known = Service.model_validate_json(read_limited(home.service, what="the service's description"))
    authority = load_certificate(known.authority.encode())
    if (known.fleet, known.aggregation) != (settings.fleet, settings.aggregation):
        authority = make_authority(authority_key, settings.consortium, now, hosts=hosts)
        write_atomic(home.keys / "authority.pem", certificate_pem(authority))
    server = make_server_certificate(authority, authority_key, server_key.public_key(), hosts, now)
    write_atomic(home.keys / "server.pem", certificate_pem(server))
    return _write_service(home, settings)


def links(home: CoordinatorHome) -> list[Link]:
    """Return every roster that this host has received, oldest first, with the countersignatures received so far.

    Raises:
        StateError: there is no coordinator here, or no roster yet.
        InputError: a file does not have the expected content.
    """
    load_settings(home)
    _refuse_old(home)
    found = [_read_link(path) for path in sorted(home.rosters.glob("*.json"))] if home.rosters.exists() else []
    if not found:
        raise StateError(
            "this coordinator has no roster yet",
            hint="The authority makes the roster from the cards of all founders: `dura authority admit`.",
        )
    return found


def newest(home: CoordinatorHome) -> tuple[Roster, str]:
    """Return the newest roster and its envelope, whether countersigned or not."""
    envelope = links(home)[-1].roster
    return read_claimed_roster(envelope), envelope


def read_roster(home: CoordinatorHome, now: datetime | None = None) -> tuple[Roster, str]:
    """Return the roster that this service uses; its dates are checked only if ``now`` is given.

    Raises:
        StateError: there is no coordinator here, or no roster yet.
        InputError: the file is not a roster.
        TrustError: the file was altered, or has expired.
    """
    effective = _effective(links(home))
    roster = read_claimed_roster(effective.roster)
    if now is not None:
        check_dates(roster, now)
    return roster, effective.roster


def fingerprint(home: CoordinatorHome) -> str:
    """Return the fingerprint of the newest roster, for people to read out by telephone."""
    return roster_fingerprint(newest(home)[1])


def install(home: CoordinatorHome, content: bytes) -> Roster:
    """Store the rosters from a file that the authority wrote. Stored rosters keep their countersignatures.

    Raises:
        InputError: the content is not such a file.
        TrustError: the rosters do not continue the stored rosters.
    """
    _refuse_old(home)
    try:
        chain = Chain.model_validate_json(content)
    except ValidationError as error:
        raise explain_validation(error, what="the rosters") from error
    private_folder(home.rosters)
    for link in chain.links:
        roster = read_claimed_roster(link.roster)
        path = _path(home, roster.serial)
        if path.exists():
            known = _read_link(path)
            before = read_claimed_roster(known.roster)
            if roster_digest(known.roster) == roster_digest(link.roster):
                continue
            if before.founded or before.serial != 1:
                raise TrustError(f"this coordinator already has another roster with serial {roster.serial}")
        elif roster.serial > 1:
            last = links(home)[-1].roster
            check_sound(read_claimed_roster(last), roster_digest(last), link.roster)
        write_atomic(path, link.model_dump_json().encode())
    _lay_out(home)
    return newest(home)[0]


def collect(home: CoordinatorHome, texts: Iterable[str]) -> list[tuple[str, int]]:
    """Store countersignatures. Return (site, serial) of each new countersignature.

    Raises:
        InputError: the content is not a countersignature.
        TrustError: the signer may not countersign, or this host does not have the roster.
    """
    kept = []
    known = links(home)
    for text in texts:
        serial = _serial_of(text)
        if not 1 <= serial <= len(known):
            raise TrustError(f"the countersignature is for roster {serial}, which this coordinator does not have")
        electors = _electors(known, serial)
        one = read_countersignature(text, electors)
        link = known[serial - 1]
        if one.roster != roster_digest(link.roster):
            raise TrustError(
                f"{one.site} has countersigned another roster with serial {serial}, not this coordinator's",
                hint="Somebody shows two different rosters. First compare fingerprints with every hospital.",
            )
        before = countersigners(link, electors)
        if before.get(one.site) == one:
            continue
        others = [item for item in link.countersignatures if read_countersignature(item, electors).site != one.site]
        known[serial - 1] = link.model_copy(update={"countersignatures": (*others, text)})
        write_atomic(_path(home, serial), known[serial - 1].model_dump_json().encode())
        kept.append((one.site, serial))
    if kept:
        _lay_out(home)
    return kept


def standing(home: CoordinatorHome) -> list[tuple[Roster, tuple[str, ...], int, bool]]:
    """Return for each roster who has countersigned it, how many sites must do so, and whether the service uses it."""
    known = links(home)
    effective = read_claimed_roster(_effective(known).roster).serial
    rows = []
    for link in known:
        roster = read_claimed_roster(link.roster)
        electors = _electors(known, roster.serial)
        said = tuple(sorted(countersigners(link, electors)))
        rows.append((roster, said, electors.needed, roster.serial <= effective))
    return rows


def _effective(known: list[Link]) -> Link:
    """Return the last roster that a quorum has countersigned; the first roster needs no quorum."""
    found = known[0]
    for link in known[1:]:
        try:
            check_link(read_claimed_roster(found.roster), roster_digest(found.roster), link)
        except TrustError:
            break
        found = link
    return found


def _electors(known: list[Link], serial: int) -> Roster:
    """Return the roster whose sites countersign a given roster: the previous roster, or the first roster itself."""
    return read_claimed_roster(known[max(serial - 2, 0)].roster)


def _serial_of(text: str) -> int:
    try:
        return Countersignature.model_validate_json(payload_of(text)).serial
    except ValidationError as error:
        raise explain_validation(error, what="the countersignature") from error


def _lay_out(home: CoordinatorHome) -> None:
    """Write the files that services and researchers read in addition to the chain."""
    roster, envelope = read_roster(home)
    write_atomic(home.keys / "clients.pem", roster.clients.encode())
    write_atomic(home.roster, envelope.encode(), mode=SHARED_FILE)


def _read_link(path: Path) -> Link:
    content = read_limited(path, what="a roster", limit=MAX_LINK_BYTES)
    try:
        return Link.model_validate_json(content)
    except ValidationError as error:
        raise explain_validation(error, what="a roster of this coordinator") from error


def _path(home: CoordinatorHome, serial: int) -> Path:
    return home.rosters / f"{serial:06d}.json"


def _hosts(settings: CoordinatorSettings) -> tuple[str, ...]:
    return (settings.host, "localhost", "127.0.0.1")


def _curve(home: CoordinatorHome, name: str) -> ec.EllipticCurvePrivateKey:
    key = read_private(home.keys / name, what=f"the service's {name}")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InputError(f"{name} does not hold an elliptic-curve key")
    return key


def _refuse_old(home: CoordinatorHome) -> None:
    if (home.keys / "consortium.key").exists():
        raise StateError(
            "this coordinator was made by an earlier version of dura: the consortium's root key is on the serving "
            "host, where an intruder could read it",
            hint="Create a coordinator in a new --home and found the consortium again with `dura authority`. Every "
            "hospital keeps its folder and joins again. See docs/how-to/two-hosts.md.",
        )

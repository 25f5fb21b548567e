"""The serving host's side of enrolment: its TLS keys, the rosters that it was given, and what sites said of them.

Nothing here makes a site follow anything: rosters come signed from the authority
(:mod:`dura_server.consortium.authority`) and countersignatures from the sites. The service goes by the newest roster
that a quorum has countersigned; the first one holds at once, since hospitals compare its fingerprint when they join.
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
from dura_common.errors import HostError, InputError, StateError, TrustError
from dura_common.runtime.files import PRIVATE_FOLDER, SHARED_FILE, private_folder, read_limited, write_atomic
from dura_common.runtime.private_keys import read_private
from dura_common.study import Frozen, Word, explain_validation
from dura_server.home import CoordinatorHome
from dura_server.settings import CoordinatorSettings, load_settings

__all__ = [
    "CoordinatorSettings",
    "Service",
    "chain_from",
    "closed_folder",
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
    """What the authority puts on the roster about a serving host."""

    consortium: Word
    fleet: Address
    aggregation: Address
    authority: Pem


def init(home: CoordinatorHome, settings: CoordinatorSettings, now: datetime) -> Service:
    """Make a serving host: TLS key, its own certificate authority, settings.

    Raises:
        StateError: there is one already; nothing is changed.
    """
    if home.settings.exists():
        raise StateError(f"there is a coordinator already at {home.path}", hint="Take another --home.")
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
    write_atomic(home.settings, tomli_w.dumps(settings.model_dump()).encode())  # last: it marks the coordinator as made
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
    """Issue the server's certificate anew for the same key, with the names that the settings have now.

    Neither the root key nor a new roster is needed while the names stay. With other names, the certificate authority is
    made anew too: the authority then issues a roster with the service that is returned.
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
    """Return every roster that this host was given, oldest first, with the countersignatures that have come.

    Raises:
        StateError: there is no coordinator here, or no roster yet.
        InputError: a file is not what it should be.
    """
    load_settings(home)
    _refuse_old(home)
    found = [_read_link(path) for path in sorted(home.rosters.glob("*.json"))] if home.rosters.exists() else []
    if not found:
        raise StateError(
            "this coordinator has no roster yet",
            hint="The authority makes it from the cards of all founders: `dura authority admit`.",
        )
    return found


def newest(home: CoordinatorHome) -> tuple[Roster, str]:
    """Return the newest roster and its envelope, countersigned or not."""
    envelope = links(home)[-1].roster
    return read_claimed_roster(envelope), envelope


def read_roster(home: CoordinatorHome, now: datetime | None = None) -> tuple[Roster, str]:
    """Return the roster by which this service goes; its dates are checked only against a given ``now``.

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
    """Return the fingerprint of the newest roster, for reading aloud."""
    return roster_fingerprint(newest(home)[1])


def chain_from(home: CoordinatorHome, serial: int = 1, *, limit: int = 16) -> tuple[Link, ...]:
    """Return the rosters from a serial on, at most so many, with their countersignatures."""
    return tuple(links(home)[max(serial, 1) - 1 :][:limit])


def install(home: CoordinatorHome, content: bytes) -> Roster:
    """Take the rosters in a file that the authority wrote; those that are here keep their countersignatures.

    Raises:
        InputError: not such a file.
        TrustError: they do not follow the rosters here.
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
                raise TrustError(f"another roster of serial {roster.serial} is here already")
        elif roster.serial > 1:
            last = links(home)[-1].roster
            check_sound(read_claimed_roster(last), roster_digest(last), link.roster)
        write_atomic(path, link.model_dump_json().encode())
    _lay_out(home)
    return newest(home)[0]


def collect(home: CoordinatorHome, texts: Iterable[str]) -> list[tuple[str, int]]:
    """Keep countersignatures; returns (site, serial) of each that was new.

    Raises:
        InputError: not a countersignature.
        TrustError: of nobody who may countersign, or of no roster here.
    """
    kept = []
    known = links(home)
    for text in texts:
        serial = _serial_of(text)
        if not 1 <= serial <= len(known):
            raise TrustError(f"a countersignature of roster {serial}, which is not here")
        electors = _electors(known, serial)
        one = read_countersignature(text, electors)
        link = known[serial - 1]
        if one.roster != roster_digest(link.roster):
            raise TrustError(
                f"{one.site} has countersigned another roster of serial {serial} than this coordinator has",
                hint="Somebody shows two rosters. Compare fingerprints with every hospital before anything goes on.",
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
    """Return each roster, who has countersigned it, how many it needs, and whether the service goes by it."""
    known = links(home)
    effective = read_claimed_roster(_effective(known).roster).serial
    rows = []
    for link in known:
        roster = read_claimed_roster(link.roster)
        electors = _electors(known, roster.serial)
        said = tuple(sorted(countersigners(link, electors)))
        rows.append((roster, said, electors.needed, roster.serial <= effective))
    return rows


def closed_folder(path: Path) -> Path:
    """Create a folder, or close an existing one to everybody else."""
    try:
        private_folder(path).chmod(PRIVATE_FOLDER)
    except OSError as error:
        raise HostError(f"cannot close the folder {path} to others: {error.strerror}") from error
    return path


def _effective(known: list[Link]) -> Link:
    """Return the last roster that a quorum has countersigned; the first one holds at once."""
    found = known[0]
    for link in known[1:]:
        try:
            check_link(read_claimed_roster(found.roster), roster_digest(found.roster), link)
        except TrustError:
            break
        found = link
    return found


def _electors(known: list[Link], serial: int) -> Roster:
    """Return the roster whose sites countersign the one of a serial: the one before, or the first one itself."""
    return read_claimed_roster(known[max(serial - 2, 0)].roster)


def _serial_of(text: str) -> int:
    try:
        return Countersignature.model_validate_json(payload_of(text)).serial
    except ValidationError as error:
        raise explain_validation(error, what="the countersignature") from error


def _lay_out(home: CoordinatorHome) -> None:
    """Write what services and researchers read beside the chain."""
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
            "this coordinator was made by an earlier dura: the consortium's root key lies on the serving host, where "
            "whoever breaks in could read it",
            hint="Make a coordinator in a new --home and found the consortium anew with `dura authority`; every "
            "hospital keeps its folder and joins again. See docs/how-to/two-hosts.md.",
        )

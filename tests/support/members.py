"""Authority, coordinator and sites of a test's consortium, by the very functions that people use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_client.consortium.countersign import confirm_pending, own_countersignatures
from dura_client.consortium.membership import take
from dura_client.site.home import SiteHome
from dura_common.consortium.cards import ResearcherCard, SiteCard
from dura_common.consortium.chain import Link
from dura_common.consortium.identity import load_private
from dura_server.consortium import authority, enrolment
from dura_server.consortium.authority import Admitted
from dura_server.home import AuthorityHome, CoordinatorHome
from dura_server.settings import CoordinatorSettings

Card = SiteCard | ResearcherCard


def authority_of(coordinator: CoordinatorHome) -> AuthorityHome:
    """Return the authority beside a coordinator."""
    return AuthorityHome(coordinator.path.with_name(f"{coordinator.path.name}-authority"))


def make_consortium(coordinator: CoordinatorHome, settings: CoordinatorSettings, now: datetime) -> None:
    """Make a serving host and, beside it, its authority."""
    service = enrolment.init(coordinator, settings, now)
    authority.init(authority_of(coordinator), service, now, coordinator=coordinator)


def admit(coordinator: CoordinatorHome, cards: Sequence[Card], out: Path, now: datetime) -> list[Admitted]:
    """Admit cards at the authority beside a coordinator."""
    return authority.admit(authority_of(coordinator), cards, out, now)


def gather(coordinator: CoordinatorHome, sites: Iterable[SiteHome]) -> tuple[Link, ...]:
    """Collect what sites have countersigned and return the rosters with it."""
    for home in sites:
        enrolment.collect(coordinator, own_countersignatures(home))
    return tuple(enrolment.links(coordinator)[-16:])


def agree(coordinator: CoordinatorHome, sites: Sequence[SiteHome]) -> tuple[Link, ...]:
    """Let every site countersign the newest rosters and follow them: what a majority of officers does by hand."""
    links = gather(coordinator, sites)
    for home in sites:
        here = take(home, links)
        if here.roster.serial < enrolment.newest(coordinator)[0].serial:
            confirm_pending(home)
        links = gather(coordinator, sites)
    for home in sites:
        take(home, links)
    return links


def root_key(coordinator: CoordinatorHome) -> Ed25519PrivateKey:
    """Return the root key of the authority beside a coordinator: an authority that lies signs with it."""
    key = load_private(authority_of(coordinator).root.read_bytes())
    assert isinstance(key, Ed25519PrivateKey)
    return key

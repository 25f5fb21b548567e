"""A real consortium in a folder: one coordinator, hospitals and a researcher, made by the very functions they use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.processes import free_port
from tests.support.studies import study

from dura_client.consortium import enrolment as site_side
from dura_client.consortium.countersign import confirm_pending, own_countersignatures
from dura_client.consortium.membership import pending, take
from dura_client.site.home import SiteHome
from dura_common.consortium.cards import ResearcherCard, SiteCard
from dura_common.consortium.chain import Link
from dura_common.consortium.keyfile import load_private
from dura_common.consortium.roster import Roster
from dura_common.messages import Offer
from dura_common.study import Study
from dura_server.consortium import authority, enrolment
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side
from dura_server.consortium.authority import Admitted
from dura_server.home import AuthorityHome, CoordinatorHome
from dura_server.settings import CoordinatorSettings
from dura_server.studies.researcher import ResearcherHome, create_identity, sign_study
from dura_server.studies.store import StoredStudy, StudyStore

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NAMES = ("north", "east")


SETTINGS = CoordinatorSettings(consortium="brains", host="localhost", port=8443)
"""Of a coordinator that is never started."""


def local_settings(**changes: Any) -> CoordinatorSettings:
    """Return settings under which a coordinator can really be started on this machine, beside others."""
    ports = {name: free_port() for name in ("port", "aggregation_port")}
    return CoordinatorSettings(consortium="test", host="127.0.0.1", bind="127.0.0.1", **{**ports, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder: equal before and after means that nothing changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


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
            confirm_pending(home, pending(home))
        links = gather(coordinator, sites)
    for home in sites:
        take(home, links)
    return links


def root_key(coordinator: CoordinatorHome) -> Ed25519PrivateKey:
    """Return the root key of the authority beside a coordinator: an authority that lies signs with it."""
    key = load_private(authority_of(coordinator).root.read_bytes())
    assert isinstance(key, Ed25519PrivateKey)
    return key


@dataclass
class Consortium:
    """Folders of everybody, and the enrolment that all tests share.

    Attributes:
        root: below which all folders lie.
        names: of the hospitals.
        settings: of the coordinator.
        moment: when everything happens; None is the present, which certificates of real connections need.
    """

    root: Path
    names: tuple[str, ...] = NAMES
    settings: CoordinatorSettings = SETTINGS
    moment: datetime | None = NOW

    @property
    def coordinator(self) -> CoordinatorHome:
        """The coordinator's folder."""
        return CoordinatorHome(self.root / "coordinator")

    @property
    def authority(self) -> AuthorityHome:
        """The authority's folder."""
        return authority_of(self.coordinator)

    @property
    def researcher(self) -> ResearcherHome:
        """The researcher's folder."""
        return ResearcherHome(self.root / "researcher")

    @property
    def post(self) -> Path:
        """Where admissions are written to."""
        return self.root / "post"

    def now(self) -> datetime:
        """Return the time at which things happen."""
        return self.moment or datetime.now(UTC)

    def site(self, name: str) -> SiteHome:
        """Return a hospital's folder."""
        return SiteHome(self.root / name)

    def card(self, name: str) -> bytes:
        """Return a hospital's card as it would be sent."""
        return site_side.card_path(self.site(name), name).read_bytes()

    def make_coordinator(self, now: datetime | None = None) -> None:
        """Create the coordinator."""
        make_consortium(self.coordinator, self.settings, now or self.now())

    def make_site(self, name: str, now: datetime | None = None) -> None:
        """Create a hospital that nobody has admitted yet."""
        site_side.init(self.site(name), name, None, now or self.now())

    def admit(self, *cards: bytes, now: datetime | None = None) -> None:
        """Admit cards at the authority."""
        moment = now or self.now()
        checked = [authority_side.check_card(self.authority, card, moment) for card in cards]
        authority_side.admit(self.authority, checked, self.post, moment)

    def admission(self, name: str) -> bytes:
        """Return the admission that waits for a hospital."""
        return (self.post / f"{name}.admission.json").read_bytes()

    def join(self, name: str, now: datetime | None = None) -> None:
        """Let a hospital join with its admission."""
        home, moment = self.site(name), now or self.now()
        site_side.join(home, site_side.check_admission(home, self.admission(name), moment), moment)

    def make_all(self, now: datetime | None = None) -> None:
        """Create everybody and let every hospital join."""
        moment = now or self.now()
        self.make_coordinator(moment)
        for name in self.names:
            self.make_site(name, moment)
        _, path = create_identity(self.researcher, "ada", moment)
        self.admit(*(self.card(name) for name in self.names), path.read_bytes(), now=moment)
        for name in self.names:
            self.join(name, moment)

    def roster(self) -> tuple[Roster, str]:
        """Return the newest roster, and the signed document that it stands in."""
        return coordinator_side.newest(self.coordinator)

    def joined(self) -> list[SiteHome]:
        """Return the homes of all hospitals that have joined."""
        return [self.site(path.name) for path in sorted(self.root.iterdir()) if site_side.has_joined(SiteHome(path))]

    def agree(self) -> None:
        """Let every hospital countersign the newest roster and follow it."""
        agree(self.coordinator, self.joined())

    def offer(self, wanted: Study | None = None) -> tuple[Offer, str]:
        """Return a study signed by the researcher for the newest roster, and its digest."""
        links = gather(self.coordinator, self.joined())
        _, roster = self.roster()
        envelope, reference = sign_study(self.researcher, wanted or study(), roster)
        return Offer(study=envelope, roster=roster, links=links), reference

    def submit(self, wanted: Study) -> tuple[StoredStudy, Offer]:
        """Sign a study and submit it at the coordinator."""
        offer, _ = self.offer(wanted)
        roster, _ = self.roster()
        return StudyStore(self.coordinator).submit(offer.study, offer.roster, roster), offer

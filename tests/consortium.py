"""A real consortium in a folder: one coordinator, hospitals and a researcher, made by the very functions they use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.members import agree, authority_of, gather, make_consortium

from dura_client.consortium import enrolment as site_side
from dura_client.site.home import SiteHome
from dura_common.messages import Offer
from dura_common.study import Study
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side
from dura_server.home import AuthorityHome, CoordinatorHome
from dura_server.settings import CoordinatorSettings
from dura_server.studies.researcher import ResearcherHome, create_identity, sign_study

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NAMES = ("north", "east")


def study(**changes: Any) -> Study:
    """Return a valid private study of two hospitals."""
    data: dict[str, Any] = {
        "name": "hands",
        "question": "Left or right?",
        "expires": "2030-06-01",
        "sites": dict.fromkeys(NAMES, 40),
        "data": {
            "task": "motorimagery",
            "channels": ["C3", "Cz", "C4"],
            "sampling_rate": 128.0,
            "band": [4.0, 38.0],
            "window_start": 0.5,
            "window_length": 2.0,
            "classes": ["left_hand", "right_hand"],
        },
        "privacy": {
            "noise": "local",
            "epsilon": 8.0,
            "delta": 1e-3,
            "participation": 0.5,
            "windows_per_patient": 8,
        },
        "training": {"rounds": 5, "steps_per_round": 10, "learning_rate": 0.01},
        "evaluation": {"epsilon": 8.0},
        "aggregation": {"minimum_sites": 2},
    }
    return Study.model_validate({**data, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder: equal before and after means that nothing changed."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@dataclass(frozen=True)
class Consortium:
    """Folders of everybody."""

    root: Path
    names: tuple[str, ...] = NAMES

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

    def site(self, name: str) -> SiteHome:
        """Return a hospital's folder."""
        return SiteHome(self.root / name)

    def card(self, name: str) -> bytes:
        """Return a hospital's card as it would be sent."""
        return site_side.card_path(self.site(name), name).read_bytes()

    def make_coordinator(self, now: datetime = NOW) -> None:
        """Create the coordinator."""
        settings = CoordinatorSettings(consortium="brains", host="localhost", port=8443, internal_port=8000)
        make_consortium(self.coordinator, settings, now)

    def make_site(self, name: str, now: datetime = NOW) -> None:
        """Create a hospital that nobody has admitted yet."""
        site_side.init(self.site(name), name, None, now)

    def admit(self, *cards: bytes, now: datetime = NOW) -> None:
        """Admit cards at the coordinator."""
        checked = [authority_side.check_card(self.authority, card, now) for card in cards]
        authority_side.admit(self.authority, checked, self.post, now)

    def admission(self, name: str) -> bytes:
        """Return the admission that waits for a hospital."""
        return (self.post / f"{name}.admission.json").read_bytes()

    def join(self, name: str, now: datetime = NOW) -> None:
        """Let a hospital join with its admission."""
        home = self.site(name)
        site_side.join(home, site_side.check_admission(home, self.admission(name), now), now)

    def make_all(self, now: datetime = NOW) -> None:
        """Create everybody and let every hospital join."""
        self.make_coordinator(now)
        for name in self.names:
            self.make_site(name, now)
        _, path = create_identity(self.researcher, "ada", now)
        self.admit(*(self.card(name) for name in self.names), path.read_bytes(), now=now)
        for name in self.names:
            self.join(name, now)

    def joined(self) -> list[SiteHome]:
        """Return the homes of all hospitals that have joined."""
        return [self.site(path.name) for path in sorted(self.root.iterdir()) if site_side.has_joined(SiteHome(path))]

    def agree(self) -> None:
        """Let every hospital countersign the newest roster and follow it."""
        agree(self.coordinator, self.joined())

    def offer(self, wanted: Study | None = None) -> tuple[Offer, str]:
        """Return a study signed by the researcher for the newest roster, and its digest."""
        links = gather(self.coordinator, self.joined())
        _, roster = coordinator_side.newest(self.coordinator)
        envelope, reference = sign_study(self.researcher, wanted or study(), roster)
        return Offer(study=envelope, roster=roster, links=links), reference

"""Four small hospitals and their coordinator in memory: real gate, ledger and protocol; only the network is missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.consortium import Consortium
from tests.support.policies import approve_study
from tests.support.running import CODES, SCALES, register_motor
from tests.support.studies import study
from tests.support.sums import Hub, MemorySites

from dura_client.data.simulated.simulate import simulate
from dura_client.ledger.ledger import Ledger
from dura_client.node.service import SiteService
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import find_offer
from dura_common.policy import Policy
from dura_common.study import Study
from dura_server.consortium.enrolment import read_roster
from dura_server.rounds.rounds import Rounds
from dura_server.studies.store import StoredStudy, StudyStore

SITES = ("east", "north", "south", "west")
PATIENTS = 8
DELTA = 1e-3
POLICY = Policy(
    epsilon_per_study=8.0,
    epsilon_total=5000.0,  # for as many studies as a module of tests has
    delta=DELTA,
    minimum_patients=5,
    minimum_sites=3,
    public_data_without_noise=False,
    noise=("local", "shared"),
    epsilon_if_broken=100.0,
)


@dataclass
class World:
    """A consortium with data, policies and an approved study."""

    consortium: Consortium
    hub: Hub
    sites: MemorySites

    def approved(self, wanted: Study) -> StoredStudy:
        """Sign, submit, offer and approve a study."""
        offer, digest = self.consortium.offer(wanted)
        roster, _ = read_roster(self.consortium.coordinator)
        stored = StudyStore(self.consortium.coordinator).submit(offer.study, offer.roster, roster)
        self.rounds(stored).offer(offer.links)
        for name in SITES:
            approve_study(
                self.consortium.site(name), find_offer(self.consortium.site(name), digest).digest, "motor", now()
            )
        return stored

    def rounds(self, stored: StoredStudy) -> Rounds:
        """Return the coordinator's side."""
        return Rounds(stored, self.sites, self.hub)

    def ledger(self, name: str) -> Ledger:
        """Return a site's ledger."""
        return Ledger(self.consortium.site(name).ledger)


def now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def make_world(root: Path) -> World:
    """Return four small hospitals in a folder."""
    consortium = Consortium(root, SITES)
    consortium.make_all(now())
    hub = Hub(consortium.coordinator)
    services = {}
    for name in SITES:
        home = consortium.site(name)
        (home.keys / "pseudonym.key").write_bytes(name.encode().ljust(32, b"*"))  # decides who is held out
        simulate(root / "bids" / name, name, patients=PATIENTS, trials=6, seed=3)
        register_motor(
            home, root / "bids" / name, labels=CODES.get(name, {}), scale=SCALES.get(name, 1.0), name="motor"
        )
        write_policy(home, POLICY)
        services[name] = SiteService(home, hub.way_of(name, SiteKeys(home).identity()))
    return World(consortium, hub, MemorySites(services))


def small(name: str, *, noise: str = "shared", **aggregation: Any) -> Study:
    """Return a study of two rounds with three steps each."""
    return study(
        name=name,
        sites=dict.fromkeys(SITES, PATIENTS),
        expires="2099-01-01",
        data={"minimum_patients": 5},
        model={"name": "eegnet", "temporal_filters": 2, "separable_filters": 4, "kernel_seconds": 0.1},
        privacy={"noise": noise, "windows_per_patient": 4, "participation": 1.0},
        training={"rounds": 2, "steps_per_round": 3},
        evaluation={"every": 1, "held_out": 0.4},
        aggregation={"minimum_sites": 4, **aggregation},
    )

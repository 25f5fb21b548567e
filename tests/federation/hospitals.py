"""Four small hospitals as real processes whose runners can be ordered to die at a given place of a secure sum."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.attacks.world import Planes
from tests.federation.world import dura

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import pseudonym
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import TASK, simulate
from dura_client.ledger.answers import Entry
from dura_client.ledger.ledger import Ledger
from dura_client.review.approval import approve_study
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_common.messages import Offer
from dura_common.policy import Policy
from dura_common.privacy import SampledGaussian
from dura_common.runtime import running
from dura_common.study import Study, parse_study
from dura_server.consortium import enrolment as at_coordinator
from dura_server.studies.researcher import ResearcherHome, create_identity, sign_study
from dura_server.studies.store import StoredStudy, StudyStore
from dura_server.studies.template import study_toml

SITES = ("east", "north", "south", "west")
PATIENTS = 8
DELTA = 1e-3
STEPS = 3
SPARE = 4
RUN_SECONDS = 600.0
"""Every death costs about a minute: the coordinator's waits, and the lease of the task that died."""
CODES = {"west": {"1": "left_hand", "2": "right_hand"}}
SCALES = {"south": 1e-3}
INSIDE = Path(__file__).parent / "inside"
POLICY = Policy(
    epsilon_per_study=8.0,
    epsilon_total=200.0,
    delta=DELTA,
    minimum_patients=5,
    minimum_sites=3,
    public_data_without_noise=False,
    noise=("local", "shared"),
    epsilon_if_broken=100.0,
)


@dataclass(frozen=True)
class Place:
    """Where in a study something happens to a hospital; see inside/sitecustomize.py for the stages."""

    stage: str
    purpose: str
    round: int
    step: int | None = None

    def fields(self) -> dict[str, object]:
        """Return what an order compares."""
        return {key: value for key, value in vars(self).items() if value is not None}


class Hospitals(Planes):
    """Four hospitals with recordings, a coordinator and a researcher."""

    def make(self) -> None:
        """Enrol everybody; simulate and register recordings."""
        self.init()
        self.enrol(SITES)
        _, card = create_identity(self.researcher, "rita", datetime.now(UTC))
        checked = at_coordinator.check_card(self.coordinator, card.read_bytes(), datetime.now(UTC))
        at_coordinator.admit(self.coordinator, [checked], self.root / "post", datetime.now(UTC))
        for name in SITES:
            home, folder = self.site(name), self.recordings(name)
            (home.keys / "pseudonym.key").write_bytes(name.encode().ljust(32, b"*"))  # decides who is held out
            write_policy(home, POLICY, replace=True)
            simulate(folder, name, patients=PATIENTS, trials=6, seed=3)
            read = {"labels": CODES.get(name, {}), "scale": SCALES.get(name, 1.0)}
            register(home, DataSet(name="mi", root=str(folder), task=TASK, simulated=True, **read))
            (self.orders(name) / "orders").mkdir(parents=True)

    def start(self) -> None:
        """Start everything with the public commands, in an environment that Python's start-up looks into."""
        path = os.pathsep.join(word for word in (str(INSIDE), os.environ.get("PYTHONPATH")) if word)
        where = {"coordinator": self.root / "none", **{name: self.orders(name) for name in SITES}}
        env = {name: {"PYTHONPATH": path, "DURA_TEST_ORDERS": str(folder)} for name, folder in where.items()}
        dura("coordinator", "start", "--detach", "--home", self.coordinator.path, env=env["coordinator"])
        with ThreadPoolExecutor(2) as pool:  # a start takes mostly processor time, and each is given a minute
            started = [
                pool.submit(dura, "site", "start", "--detach", "--home", self.site(name).path, env=env[name])
                for name in SITES
            ]
        for one in started:
            one.result()

    def stop(self) -> None:
        """Stop everything that runs, side by side."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda home: running.stop(home.run), [self.coordinator, *map(self.site, SITES)]))

    @property
    def researcher(self) -> ResearcherHome:
        """The researcher's folder."""
        return ResearcherHome(self.root / "rita")

    def recordings(self, name: str) -> Path:
        """Return a hospital's BIDS folder."""
        return self.root / "bids" / name

    def orders(self, name: str) -> Path:
        """Return the folder of a hospital's orders and its journal."""
        return self.root / "inside" / name

    def ledger(self, name: str) -> Ledger:
        """Return a hospital's ledger."""
        return Ledger(self.site(name).ledger)

    def pseudonyms(self, name: str) -> list[str]:
        """Return the ledger's keys of all patients of a hospital."""
        key = SiteKeys(self.site(name)).pseudonym_key()
        return [pseudonym(label.removeprefix("sub-"), key) for label in self.labels(name)]

    def labels(self, name: str) -> list[str]:
        """Return the BIDS labels of all patients of a hospital."""
        return sorted(path.name for path in self.recordings(name).glob("sub-*"))

    def order(self, name: str, place: Place, *, wait_for: Path | None = None) -> Path:
        """Order a hospital's runner to die at a place, or to wait there; return the file that is there afterwards."""
        folder = self.orders(name) / "orders"
        path = folder / f"{len(list(folder.iterdir())):03d}.json"
        act = {"act": "kill"} if wait_for is None else {"act": "wait", "for": str(wait_for)}
        path.write_text(json.dumps({"at": place.fields(), **act}))
        return path.with_suffix(".done")

    def approved(self, study: Study) -> StoredStudy:
        """Sign, submit and approve a study; offers reach the hospitals as their nodes would take them."""
        roster, roster_envelope = at_coordinator.read_roster(self.coordinator)
        envelope, digest = sign_study(self.researcher, study, roster_envelope)
        stored = StudyStore(self.coordinator).submit(envelope, roster_envelope, roster)
        for name in SITES:
            receive_offer(self.site(name), Offer(study=envelope, roster=roster_envelope), datetime.now(UTC))
            approve_study(self.site(name), digest, "mi", datetime.now(UTC))
        return stored

    def run_study(self, stored: StoredStudy) -> dict[str, Any]:
        """Run a study with the public command and return its answer."""
        return dura("study", "run", stored.digest, "--home", self.coordinator.path, timeout=RUN_SECONDS)

    def journal(self, name: str, study: str, what: str) -> list[dict[str, Any]]:
        """Return what a hospital's runner has noted of a study."""
        path = self.orders(name) / "journal.jsonl"
        lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
        return [line for line in lines if (line["study"], line["what"]) == (study, what)]


def small_study(name: str, *, rounds: int) -> Study:
    """Return a study of a few steps with shared noise that one hospital of four may miss."""
    sites = dict.fromkeys(SITES, PATIENTS)
    text = study_toml(name=name, question="?", sites=sites, epsilon=8, delta=DELTA, seed=1, noise="shared")
    data = parse_study(text.encode()).model_dump(mode="json")
    data["data"] |= {"channels": ["C3", "Cz", "C4"], "minimum_patients": 5}
    data["model"] = {"name": "eegnet", "temporal_filters": 2, "separable_filters": 4, "kernel_seconds": 0.1}
    data["privacy"] |= {"windows_per_patient": 4, "participation": 1.0}
    data["training"] |= {"rounds": rounds, "steps_per_round": STEPS}
    data["evaluation"] |= {"every": 1, "held_out": 0.4}
    data["aggregation"] |= {
        "minimum_sites": 3,
        "tolerated_dropouts": 1,
        "tolerated_colluders": 0,
        "spare_steps": SPARE,
    }
    return Study.model_validate(data)


def charged(entries: Iterable[Entry], study: str) -> tuple[int, int]:
    """Return what a ledger charges for a study: steps of training, and evaluations."""
    kept: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        release = (entry.purpose, entry.round, entry.repeat)
        if entry.study == study and entry.kind == "reserve":
            kept[release] = entry
        elif entry.study == study and entry.kind == "refund":
            del kept[release]
    steps = [entry.event.steps for entry in kept.values() if isinstance(entry.event, SampledGaussian)]
    return sum(steps), sum(entry.purpose == "evaluate" for entry in kept.values())

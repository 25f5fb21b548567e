"""Four small hospitals as real processes whose runners can be ordered to die at a given place of a secure sum."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.commands import dura
from tests.support.policies import approve_study
from tests.support.processes import interpreter, processes_of, wait_until
from tests.support.running import CODES, SCALES, RunningConsortium, fix_pseudonyms, register_motor
from tests.support.studies import Only, changed

from dura_client.data.simulated.simulate import simulate
from dura_client.ledger.answers import Entry
from dura_client.ledger.ledger import Ledger
from dura_client.studies.approvals import receive_offer
from dura_common.policy import Policy
from dura_common.study import Study, parse_study
from dura_server.studies.store import StoredStudy
from dura_server.studies.template import study_toml

SITES = ("east", "north", "south", "west")
PATIENTS = 8
DELTA = 1e-3
STEPS = 3
SPARE = 4
RUN_SECONDS = 600.0
"""Every death costs about a minute: the coordinator's waits, and the lease of the task that died."""
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
    study: str | None = None

    def fields(self) -> dict[str, object]:
        """Return what an order compares."""
        return {key: value for key, value in vars(self).items() if value is not None}


@dataclass
class Hospitals(RunningConsortium):
    """Four hospitals with recordings, a coordinator and a researcher."""

    names: tuple[str, ...] = SITES
    policy: Policy = POLICY

    def make_all(self, now: datetime | None = None) -> None:
        """Enrol everybody; simulate and register recordings."""
        super().make_all(now)
        for name in self.names:
            home, folder = self.site(name), self.recordings(name)
            fix_pseudonyms(home, name.encode().ljust(32, b"*"))
            simulate(folder, name, patients=PATIENTS, trials=6, seed=3)
            register_motor(home, folder, labels=CODES.get(name, {}), scale=SCALES.get(name, 1.0))
            (self.orders(name) / "orders").mkdir(parents=True)

    def start(self) -> None:
        """Start everything with the public commands, by a Python whose start-up looks into each process."""
        interpreter(self.root / "python", INSIDE)
        self.start_coordinator(**self.inside("coordinator"))
        with ThreadPoolExecutor(2) as pool:  # a start takes mostly processor time, and each is given a minute
            list(pool.map(lambda name: self.start_site(name, **self.inside(name)), self.names))

    def inside(self, name: str) -> dict[str, Any]:
        """Return how the processes of a hospital, or of the coordinator, are started."""
        orders = self.root / "none" if name == "coordinator" else self.orders(name)
        return {"env": {"DURA_TEST_ORDERS": str(orders)}, "python": self.root / "python" / "bin" / "python"}

    def orders(self, name: str) -> Path:
        """Return the folder of a hospital's orders and its journal."""
        return self.root / "inside" / name

    def ledger(self, name: str) -> Ledger:
        """Return a hospital's ledger."""
        return Ledger(self.site(name).ledger)

    def order(self, name: str, place: Place, *, wait_for: Path | None = None) -> Path:
        """Order a hospital's runner to die at a place, or to wait there; return the file that is there afterwards."""
        folder = self.orders(name) / "orders"
        path = folder / f"{len(list(folder.iterdir())):03d}.json"
        act = {"act": "kill"} if wait_for is None else {"act": "wait", "for": str(wait_for)}
        path.write_text(json.dumps({"at": place.fields(), **act}))
        return path.with_suffix(".done")

    def approved(self, study: Study) -> StoredStudy:
        """Sign, submit and approve a study; offers reach the hospitals as their nodes would take them."""
        stored, offer = self.submit(study)
        for name in self.names:
            receive_offer(self.site(name), offer, self.now())
            approve_study(self.site(name), stored.digest, "mi", self.now())
        return stored

    def run_study(self, stored: StoredStudy) -> dict[str, Any]:
        """Run a study with the public command and return its answer."""
        return dura("study", "run", stored.digest, "--home", self.coordinator.path, timeout=RUN_SECONDS)

    def journal(self, name: str, study: str, what: str) -> list[dict[str, Any]]:
        """Return what a hospital's runner has noted of a study."""
        path = self.orders(name) / "journal.jsonl"
        lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
        return [line for line in lines if (line["study"], line["what"]) == (study, what)]


def small_study(name: str, *, rounds: int, sums: str = "step") -> Study:
    """Return a study of a few steps with shared noise that one hospital of four may miss."""
    sites = dict.fromkeys(SITES, PATIENTS)
    text = study_toml(name=name, question="?", sites=sites, epsilon=8, delta=DELTA, seed=1, noise="shared")
    return changed(
        parse_study(text.encode()),
        data={"channels": ["C3", "Cz", "C4"], "minimum_patients": 5},
        model=Only(name="eegnet", temporal_filters=2, separable_filters=4, kernel_seconds=0.1),
        privacy={"windows_per_patient": 4, "participation": 1.0},
        training={"rounds": rounds, "steps_per_round": STEPS},
        evaluation={"every": 1, "held_out": 0.4},
        aggregation={
            "minimum_sites": 3,
            "tolerated_dropouts": 1,
            "tolerated_colluders": 0,
            "spare_steps": SPARE,
            "sums": sums,
        },
    )


def charged(entries: Iterable[Entry], study: str) -> tuple[int, int]:
    """Return how many draws of a study began at a site: of the training, spare ones among them, and evaluations."""
    begun = [entry.purpose or "" for entry in entries if entry.study == study and entry.kind == "begin"]
    evaluations = sum(name.startswith("evaluate") for name in begun)
    return len(begun) - evaluations, evaluations


@contextmanager
def running_hospitals(root: Path, policy: Policy = POLICY) -> Iterator[Hospitals]:
    """Give four running hospitals and their coordinator; no process is left of them afterwards."""
    made = Hospitals(root, policy=policy)
    made.make_all()
    try:
        made.start()
        yield made
    finally:
        made.stop()
    wait_until(lambda: not processes_of(made.root), "no process is left", 90)

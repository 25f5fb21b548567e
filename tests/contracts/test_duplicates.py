"""Recordings that several hospitals hold: real gate, protocol and coordinator find them, and nobody hears which."""

from __future__ import annotations

import queue
import shutil
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.consortium import Consortium
from tests.support.policies import approve_study
from tests.support.running import TASK
from tests.support.studies import Only, study
from tests.support.sums import Hub, MemorySites, _Meeting

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.data.store.fingerprint import keyed
from dura_client.node.service import SiteService
from dura_client.patients.cohort import load_cohort
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import find_offer
from dura_common.messages import Reply, encode
from dura_common.outputs.duplicates import LENGTH, Duplicates, tabulate
from dura_common.policy import Policy
from dura_common.secagg import SessionParameters
from dura_common.study import Study
from dura_server.commands.study.outcome import as_data
from dura_server.consortium.enrolment import read_roster
from dura_server.desk.view import view_of
from dura_server.report import render
from dura_server.report.outcome import result_of
from dura_server.rounds.rounds import Rounds
from dura_server.studies.store import StoredStudy, StudyStore

pytestmark = pytest.mark.long

SITES = ("east", "north", "south", "west")
PATIENTS = 8
NAMED = "{0}/eeg/{0}_task-motorimagery_eeg.edf"
COPIES = (
    ("north", "sub-001", "east", "sub-002"),  # two hospitals
    ("north", "sub-003", "south", "sub-003"),  # three hospitals: one recording
    ("north", "sub-003", "west", "sub-008"),
    ("west", "sub-004", "west", "sub-005"),  # one hospital: none of the consortium's business
)
BETWEEN_SITES = 2


class Tap(queue.Queue[Any]):
    """Frames of the aggregation plane, overheard: (site, frame) on the way up, frames on the way down."""

    def __init__(self, heard: list[bytes]) -> None:
        super().__init__()
        self._heard = heard

    def put(self, item: Any, *_: Any, **__: Any) -> None:
        """Keep a copy of every frame."""
        self._heard.append(item if isinstance(item, bytes) else item[1])
        super().put(item)


@dataclass
class TappedHub(Hub):
    """A meeting place at which somebody listens."""

    heard: list[bytes] = field(default_factory=list)
    """What sites sent."""
    told: list[bytes] = field(default_factory=list)
    """What the coordinator sent, opened sums among it."""
    lengths: list[tuple[str, int, int]] = field(default_factory=list)
    """Purpose, round and length of every session."""
    _tap: threading.Lock = field(default_factory=threading.Lock)

    def meeting(self, params: SessionParameters) -> _Meeting:
        """Return the meeting of a session with taps on both ways."""
        with self._tap:
            found = super().meeting(params)
            if not isinstance(found.up, Tap):
                found.up = Tap(self.heard)
                found.down = {name: Tap(self.told) for name in params.names}
                self.lengths.append((params.purpose, params.round, params.length))
            return found


@dataclass
class TappedService:
    """A site whose messages of the control plane are overheard, both ways."""

    service: SiteService
    heard: list[bytes]

    def answer(self, body: bytes, vector: NDArray[np.float32] | None) -> Reply:
        """Answer as the site does."""
        reply = self.service.answer(body, vector)
        self.heard += [body, b"" if vector is None else vector.tobytes(), encode(reply)]
        return reply


def now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def wanted(name: str, **evaluation: Any) -> Study:
    """Return a study of two rounds without noise that asks for duplicates."""
    return study(
        name=name,
        sites=dict.fromkeys(SITES, PATIENTS),
        expires="2099-01-01",
        data={"minimum_patients": 5},
        model={"name": "eegnet", "temporal_filters": 2, "separable_filters": 4, "kernel_seconds": 0.1},
        privacy=Only(noise="none", windows_per_patient=4),
        training={"rounds": 2, "steps_per_round": 1},
        evaluation=Only({"every": 1, "held_out": 0.4, "duplicates": True, **evaluation}),
        aggregation={"minimum_sites": 4},
    )


@dataclass
class World:
    """Four hospitals with public recordings, some of them copies."""

    consortium: Consortium
    hub: TappedHub
    sites: MemorySites
    heard: list[bytes]

    def run(self, asked: Study) -> StoredStudy:
        """Run a study to its end."""
        offer, digest = self.consortium.offer(asked)
        roster, _ = read_roster(self.consortium.coordinator)
        stored = StudyStore(self.consortium.coordinator).submit(offer.study, offer.roster, roster)
        rounds = Rounds(stored, self.sites, self.hub)
        rounds.offer(offer.links)
        for name in SITES:
            approve_study(
                self.consortium.site(name), find_offer(self.consortium.site(name), digest).digest, "motor", now()
            )
        rounds.train()
        return stored


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return the hospitals; they hold what the simulator writes for four of one kind."""
    root = tmp_path_factory.mktemp("world")
    consortium = Consortium(root, SITES)
    consortium.make_all(now())
    bids = {name: root / "bids" / name for name in SITES}
    for seed, name in enumerate(SITES):
        simulate(bids[name], "north", patients=PATIENTS, trials=6, seed=seed)
    for source, patient, target, other in COPIES:
        shutil.copy(bids[source] / NAMED.format(patient), bids[target] / NAMED.format(other))
    heard: list[bytes] = []
    hub = TappedHub(consortium.coordinator, heard=heard)
    services: dict[str, Any] = {}
    for name in SITES:
        home = consortium.site(name)
        (home.keys / "pseudonym.key").write_bytes(name.encode().ljust(32, b"*"))  # decides who is held out
        register(home, DataSet(name="motor", root=str(bids[name]), task=TASK, public=True))
        rules = {"epsilon_per_study": 8, "epsilon_total": 50, "delta": 1e-3, "minimum_patients": 5, "minimum_sites": 3}
        write_policy(home, Policy(**rules, public_data_without_noise=True))
        services[name] = TappedService(SiteService(home, hub.way_of(name, SiteKeys(home).identity())), heard)
    return World(consortium, hub, MemorySites(services), heard)


@pytest.fixture(scope="module")
def finished(world: World) -> StoredStudy:
    """Return the finished study."""
    return world.run(wanted("copies"))


def test_copies_between_sites_are_found_and_counted_once(world: World, finished: StoredStudy) -> None:
    """State, answer of the commands, result and page say the number, and no site's own copies are in it."""
    expected = Duplicates(recordings=BETWEEN_SITES, complete=True)
    state = finished.read_state()
    assert (state.phase, state.duplicates) == ("finished", expected)
    assert as_data(view_of(finished))["duplicates"] == expected.model_dump()
    result = result_of(finished, None)
    assert result.duplicates == expected
    assert "held by more than one site: at least 2. " in render(result)
    assert len(state.curve) == 2
    last = {length for purpose, number, length in world.hub.lengths if (purpose, number) == ("evaluate", 2)}
    first = {length for purpose, number, length in world.hub.lengths if (purpose, number) == ("evaluate", 1)}
    assert (first, last) == ({2}, {2 + LENGTH})


def test_no_message_holds_a_fingerprint(world: World, finished: StoredStudy) -> None:
    """No digest, plain or keyed, is in anything that was sent, and no row of a site's table before the sum is open."""
    sent = b"\0".join(world.heard)
    everything = sent + b"\0".join(world.hub.told)
    assert len(sent) > len(SITES) * LENGTH * 8  # the masked tables are among it
    for name in SITES:
        home = world.consortium.site(name)
        contents = load_cohort(home, finished.study, "motor").contents
        assert len(contents) == PATIENTS - (name == "west")
        key = SiteKeys(home).pseudonym_key()
        for content in contents:
            assert not any(part in everything for part in (content[:8], keyed(content, key)[:8]))
            assert content.hex()[:16].encode() not in everything
        rows = tabulate(finished.digest, contents).reshape(-1, 5)
        rows = rows[rows[:, 0] == 1]
        assert len(rows) > PATIENTS
        assert not any(row[2].tobytes() in sent for row in rows if row[2] > 2**32)


def test_a_study_that_does_not_ask_has_no_number(world: World) -> None:
    """Without the key there is neither a table in the sum nor a word in the outcome."""
    stored = world.run(wanted("quiet", duplicates=False))
    assert stored.read_state().duplicates is None
    assert "held by more than one site" not in render(result_of(stored, None))

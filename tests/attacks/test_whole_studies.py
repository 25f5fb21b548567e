"""Whole studies under a coordinator that lies: real gates, ledgers, cohorts and secure sums of three hospitals.

Two worlds are led through the same actions. They differ in the data of one patient: in the second world that patient
withdraws, and the recordings are lost. After every action:

- every opened sum holds as many sites as its study demands, is the exact sum of vectors that left, and no vector is in
  two of them, so that any combination of sums depends on all sites of at least one of them;
- every vector that left has a begun draw of its own, no more of them than were declared, and what everybody was charged
  covers them at the study's delta and at the policy's;
- both worlds have answered the same.
"""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from numpy.typing import NDArray
from tests.attacks.draws.hospital import DELTA, NOW, PATIENTS, key_with, label, vector_for
from tests.support.consortium import Consortium
from tests.support.policies import policy
from tests.support.studies import study
from tests.support.sums import Hub, SiteWay

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import TASK, simulate
from dura_client.ledger.ledger import Ledger
from dura_client.node.service import SiteService
from dura_client.patients.withdrawal import withdraw
from dura_client.review.approval import approve_study, decline_study
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_client.sums.ports import Part
from dura_common.consortium.roster import Roster
from dura_common.errors import InputError
from dura_common.messages import EvaluateRound, Refusal, Reply, RoundDone, SumRound, TrainRound, encode
from dura_common.models import build_model, first_state, state_from_vector
from dura_common.outputs.scores import length_of, parts_of
from dura_common.privacy.blocks import blocks_of
from dura_common.secagg import Abort, Opened, Reason, SessionParameters, open_coordinator, wire
from dura_common.study import Study
from dura_common.sums.agreed import Agreed, carried_rule

SITES = ("east", "north", "south")
CAP = 30.0
PATIENCE = 20.0


def studies() -> tuple[Study, Study]:
    """Return a study whose sites noise alone, and one whose sites share the noise of every step."""
    common: dict[str, Any] = {
        "sites": dict.fromkeys(SITES, 14),
        "expires": "2099-01-01",
        "data": {"minimum_patients": 5},
        "model": {"name": "linear"},
        "evaluation": {"epsilon": 8.0, "every": 1, "spare_draws": 1},
    }
    alone = study(
        name="alone",
        training={"rounds": 2, "steps_per_round": 1, "learning_rate": 0.01},
        aggregation={"minimum_sites": 2, "spare_steps": 1},
        **common,
    )
    shared = study(
        name="shared",
        privacy={"noise": "shared"},
        training={"rounds": 1, "steps_per_round": 3, "learning_rate": 0.01},
        aggregation={"minimum_sites": 3, "spare_steps": 2},
        **common,
    )
    return alone, shared


@dataclass(frozen=True)
class Sent:
    """One vector as it left a site."""

    site: str
    session: bytes
    step: int
    values: NDArray[np.signedinteger] = field(repr=False)


@dataclass
class World:
    """Three hospitals and what a coordinator has seen of them."""

    consortium: Consortium
    digests: dict[str, Study]
    roster: Roster
    hub: Hub = field(default_factory=Hub)
    sent: list[Sent] = field(default_factory=list)
    opened: list[tuple[str, SessionParameters, Opened]] = field(default_factory=list)
    answers: list[dict[str, tuple[object, ...]]] = field(default_factory=list)
    services: dict[str, SiteService] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str) -> None:
        """Let a fresh process serve a hospital."""
        home = self.consortium.site(name)
        way = Heard(self.hub, name, SiteKeys(home).identity(), self)
        self.services[name] = SiteService(home, way, clock=lambda: NOW)

    def ledger(self, name: str) -> Ledger:
        """Return a hospital's ledger."""
        return Ledger(self.consortium.site(name).ledger)

    def ask(self, request: SumRound, behaviour: str, victim: str) -> None:
        """Send a request to its members, play the coordinator of whatever session follows, and note the answers."""
        asked = self.digests[request.study]
        vector = vector_for(request, asked)
        with ThreadPoolExecutor(len(request.members)) as pool:
            futures = {
                name: pool.submit(self.services[name].answer, encode(request), vector.copy())
                for name in request.members
            }
            try:
                params = self._parameters(request, asked)
            except InputError:
                params = None
            if params is not None:
                self._lead(request.study, params, behaviour, victim, lambda: any(f.done() for f in futures.values()))
            answers = {name: _word(future.result(PATIENCE)) for name, future in futures.items()}
        self.answers.append(answers)

    def _parameters(self, request: SumRound, asked: Study) -> SessionParameters:
        agreed = Agreed(request.study, asked, self.roster)
        state = first_state(build_model(asked), carried_rule(asked))
        if isinstance(request, TrainRound):
            steps = (request.round - 1) * asked.training.steps_per_round + request.first_step - 1
            length = state.parameters.size
            position = state_from_vector(vector_for(request, asked), carried_rule(asked), length=length, steps=steps)
            return agreed.training(request, state=position.digest(), length=length)
        assert isinstance(request, EvaluateRound)
        return agreed.evaluation(request, parameters=state.parameters, length=length_of(parts_of(asked, request.round)))

    def _lead(
        self, digest: str, params: SessionParameters, behaviour: str, victim: str, over: Callable[[], bool]
    ) -> None:
        """Open what can be opened; tell it, or say that it was lost, or lose one site's vector on the way."""
        meeting = self.hub.meeting(params)
        machine = open_coordinator(params)
        with suppress(Abort):
            for name, frame in self._frames(meeting, over):
                lost = frame is None or (behaviour == "lose" and name == victim and _is_vector(frame))
                progress = machine.lost(name) if lost else machine.receive(name, frame or b"")
                if progress.opened is not None:
                    self.opened.append((digest, params, progress.opened))
                    if behaviour == "silent":
                        break
                for receiver, outgoing in progress.outgoing.items():
                    meeting.down[receiver].put(bytes(outgoing))
                if machine.ended:
                    return
        for frames in meeting.down.values():
            frames.put(machine.abort_frame(Reason.LOST))

    def _frames(self, meeting: Any, over: Callable[[], bool]) -> Iterator[tuple[str, bytes | None]]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                yield meeting.up.get(timeout=0.02)
            except queue.Empty:
                if over():
                    return


def _is_vector(frame: bytes) -> bool:
    return wire.decode(frame).type is wire.Type.MASKED


@dataclass
class Heard(SiteWay):
    """A hospital's way into sums, on which every vector that leaves is noted."""

    world: World

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take part as usual."""
        super().attend(params, _Noting(part, self.name, params.session_id, self.world))


@dataclass
class _Noting:
    part: Part
    site: str
    session: bytes
    world: World

    def draw(self, step: int) -> NDArray[np.signedinteger]:
        vector = self.part.draw(step)
        with self.world.lock:
            self.world.sent.append(Sent(self.site, self.session, step, vector.copy()))
        return vector

    def opened(self, opened: Opened) -> None:
        self.part.opened(opened)


def _word(reply: Reply) -> tuple[object, ...]:
    """Return what a coordinator learns of a reply; the state of a model depends on noise."""
    if isinstance(reply, RoundDone):
        return ("done", reply.round, reply.attempt, reply.redraws)
    assert isinstance(reply, Refusal)
    return ("refused", reply.reason, reply.attempt)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Study], Roster]:
    """Return a folder with three hospitals that have approved both studies."""
    root = tmp_path_factory.mktemp("template")
    simulate(root / "bids", "north", patients=PATIENTS, trials=2, seed=3)
    consortium = Consortium(root, SITES)
    consortium.make_all(NOW)
    digests: dict[str, Study] = {}
    for name in SITES:
        home = consortium.site(name)
        key = key_with(lambda out: 4 <= len(out) <= 5 and not out & {1, 2})
        (home.keys / "pseudonym.key").write_bytes(key)
        register(home, DataSet(name="motor", root=str(root / "bids"), task=TASK, simulated=True))
        rules: dict[str, Any] = {"epsilon_per_study": 10, "epsilon_total": CAP, "minimum_sites": 2}
        write_policy(
            home, policy(noise=("local", "shared"), epsilon_if_broken=60.0, minimum_patients=5, delta=DELTA, **rules)
        )
    for asked in studies():
        offer, reference = consortium.offer(asked)
        digests[reference] = asked
        for name in SITES:
            receive_offer(consortium.site(name), offer, NOW)
            approve_study(consortium.site(name), reference, "motor", NOW)
    return root, digests, consortium.roster()[0]


class WholeStudies(RuleBasedStateMachine):
    """See the module."""

    template: tuple[Path, dict[str, Study], Roster]
    folder: Path
    count = 0

    def __init__(self) -> None:
        super().__init__()
        WholeStudies.count += 1
        root, digests, roster = self.template
        self.worlds = []
        for which in ("first", "second"):
            copy = Path(shutil.copytree(root, self.folder / f"{self.count}-{which}"))
            for name in SITES:  # each world has recordings of its own
                path = copy / name / "data" / "motor.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), "root": str(copy / "bids")}))
            world = World(Consortium(copy, SITES), digests, roster)
            for name in SITES:
                world.start(name)
            self.worlds.append(world)
        self.names = {asked.name: digest for digest, asked in digests.items()}
        self.attempts: dict[tuple[str, str, int], int] = {}
        self.differ = False

    def teardown(self) -> None:
        """Remove both worlds."""
        for world in self.worlds:
            shutil.rmtree(world.consortium.root)

    def _attempt(self, name: str, purpose: str, number: int, *, fresh: bool) -> int:
        key = (name, purpose, number)
        if fresh:
            self.attempts[key] = self.attempts.get(key, 0) + 1
        return max(self.attempts.get(key, 1), 1)

    @rule(
        name=st.sampled_from(("alone", "shared")),
        number=st.integers(1, 2),
        fresh=st.sampled_from((True, True, True, False)),
        out=st.sampled_from((None, None, *SITES)),
        behaviour=st.sampled_from(("honest", "silent", "silent", "lose")),
        victim=st.sampled_from(SITES),
        first=st.sampled_from((1, 1, 2)),
    )
    def train(
        self, name: str, number: int, fresh: bool, out: str | None, behaviour: str, victim: str, first: int
    ) -> None:
        """Ask for a round, with a new or an old number, of all sites or some, honestly or not."""
        members = tuple(site for site in SITES if site != out or name == "shared")  # which needs all three
        request = TrainRound(
            study=self.names[name],
            round=number if name == "alone" else 1,
            attempt=self._attempt(name, "train", number, fresh=fresh),
            members=members,
            first_step=first if name == "shared" else 1,
        )
        for world in self.worlds:
            world.ask(request, behaviour, victim)

    @rule(name=st.sampled_from(("alone", "shared")), out=st.sampled_from((None, *SITES)))
    def again(self, name: str, out: str | None) -> None:
        """Open a sum in silence and ask for it again, of all sites or of all but one: their difference is the aim."""
        for members in (None, out, out, None):
            self.train(name, 1, True, members, "silent", "east", 1)

    @rule(
        name=st.sampled_from(("alone", "shared")),
        number=st.integers(1, 2),
        fresh=st.booleans(),
        behaviour=st.sampled_from(("honest", "silent", "lose")),
        victim=st.sampled_from(SITES),
    )
    def evaluate(self, name: str, number: int, fresh: bool, behaviour: str, victim: str) -> None:
        """Ask for an evaluation."""
        number = number if name == "alone" else 1
        attempt = self._attempt(name, "evaluate", number, fresh=fresh)
        request = EvaluateRound(study=self.names[name], round=number, attempt=attempt, members=SITES)
        for world in self.worlds:
            world.ask(request, behaviour, victim)

    @rule(name=st.sampled_from(SITES))
    def restart(self, name: str) -> None:
        """Kill a hospital's process and start another one."""
        for world in self.worlds:
            world.start(name)

    @rule(name=st.sampled_from(SITES))
    def newcomer(self, name: str) -> None:
        """A patient joins a hospital's data set."""
        for world in self.worlds:
            target = world.consortium.root / "bids" / "sub-900"
            if not target.exists():
                shutil.copytree(world.consortium.root / "bids" / f"sub-{label(2)}", target)
            world.start(name)

    @precondition(lambda self: not self.differ)
    @rule()
    def one_patient_differs(self) -> None:
        """In one world a patient withdraws everywhere and the recordings are lost."""
        self.differ = True
        world = self.worlds[1]
        for name in SITES:
            withdraw(world.consortium.site(name), label(1), "motor")
        shutil.rmtree(world.consortium.root / "bids" / f"sub-{label(1)}")

    @rule(name=st.sampled_from(("alone", "shared")), site=st.sampled_from(SITES))
    def decline(self, name: str, site: str) -> None:
        """A hospital ends its part in a study."""
        for world in self.worlds:
            decline_study(world.consortium.site(site), self.names[name])

    @invariant()
    def sums_hide_sites(self) -> None:
        """No vector is in two opened sums, and no sum holds too few."""
        for world in self.worlds:
            used: set[tuple[str, bytes, int]] = set()
            vectors = {(one.site, one.session, one.step): one for one in world.sent}
            assert len(vectors) == len(world.sent)
            for digest, params, opened in world.opened:
                rules = world.digests[digest].aggregation
                assert len(opened.contributors) >= rules.minimum_sites
                names = {(name, params.session_id, opened.step) for name in opened.contributors}
                assert not names & used
                used |= names
                total = np.sum([vectors[name].values.astype(np.int64) for name in names], axis=0)
                assert np.array_equal(total, opened.total)
            for site in SITES:
                mine = [one.values.tobytes() for one in world.sent if one.site == site]
                assert len(set(mine)) == len(mine)

    @invariant()
    def everybody_has_paid(self) -> None:
        """Draws that began cover the vectors that left, and what was charged covers the draws."""
        for world in self.worlds:
            for site in SITES:
                ledger = world.ledger(site)
                ledger.verify()
                rows = [row for row in ledger.entries() if row.kind == "begin"]
                assert len(rows) >= sum(one.site == site for one in world.sent)
                for digest, asked in world.digests.items():
                    begun = [row for row in rows if row.study == digest]
                    for block in blocks_of(asked):
                        mine = [row for row in begun if (row.purpose, row.round) == (block.name, block.round)]
                        assert len({row.repeat for row in mine}) == len(mine) <= block.draws
                    if begun:
                        assert 0 < ledger.spent(getattr(asked.privacy, "delta", 0.0), digest) <= 8.0
                assert ledger.spent(DELTA) <= CAP

    @invariant()
    def no_answer_depends_on_one_patient(self) -> None:
        """Both worlds have answered the same."""
        first, second = self.worlds
        assert first.answers == second.answers


@pytest.mark.parametrize(
    ("examples", "steps"), [(3, 6), pytest.param(30, 14, marks=pytest.mark.long)], ids=["short", "long"]
)
def test_a_lying_coordinator_breaks_no_promise(
    template: tuple[Path, dict[str, Study], Roster], tmp_path: Path, examples: int, steps: int
) -> None:
    """Attempts, silent openings, losses, restarts, newcomers, withdrawals and refusals over two studies."""
    WholeStudies.template, WholeStudies.folder = template, tmp_path
    run_state_machine_as_test(
        WholeStudies,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, phases=[Phase.generate]
        ),
    )

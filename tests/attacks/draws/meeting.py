"""One world of hospitals with real gates, ledgers and sums, and a coordinator that leads their meetings as it likes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.attacks.draws.hospital import NOW, vector_for
from tests.attacks.draws.whole.eyes import Eyes, at
from tests.support.consortium import Consortium
from tests.support.studies import study
from tests.support.sums import Hub, SiteWay

from dura_client.ledger.ledger import Ledger
from dura_client.node.service import SiteService
from dura_client.site.keys import SiteKeys
from dura_client.sums.ports import Part, Peers
from dura_common.consortium.roster import Roster
from dura_common.errors import InputError
from dura_common.messages import EvaluateRound, Refusal, Reply, RoundDone, SumRound, TrainRound, encode
from dura_common.models import build_model, first_state, state_from_vector
from dura_common.outputs.scores import length_of, parts_of
from dura_common.secagg import Abort, Opened, SessionParameters, open_coordinator, wire
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
        privacy={"noise": "shared", "delta": 1e-4},
        training={"rounds": 1, "steps_per_round": 3, "learning_rate": 0.01},
        aggregation={"minimum_sites": 3, "spare_steps": 2},
        **common,
    )
    return alone, shared


@dataclass(frozen=True)
class Sent:
    """One vector as it left a site."""

    site: str
    study: str
    session: bytes
    step: int
    values: NDArray[np.signedinteger] = field(repr=False)


@dataclass
class World:
    """Three hospitals and what a coordinator has seen of them."""

    consortium: Consortium
    digests: dict[str, Study]
    roster: Roster
    hub: Hub = field(init=False)
    sent: list[Sent] = field(default_factory=list)
    opened: list[tuple[str, SessionParameters, Opened]] = field(default_factory=list)
    answers: list[dict[str, tuple[object, ...]]] = field(default_factory=list)
    services: dict[str, SiteService] = field(default_factory=dict)
    eyes: Eyes = field(default_factory=Eyes)
    """Sees who is drawn; blind where nobody has said who was approved."""
    now: datetime = NOW
    """Every request comes a second after the one before."""
    over: dict[tuple[str, str], int] = field(default_factory=dict)
    """Hospital and study to the vectors that it had sent for the study when its part in the study ended."""
    accepted: dict[tuple[object, ...], list[int]] = field(default_factory=dict)
    """Hospital, study, purpose and round to the numbers of the requests that it took up, in their order."""
    said: list[tuple[SumRound, dict[str, bytes]]] = field(default_factory=list)
    """Requests, and the keys and notes that hospitals have said in the session of each."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.hub = Hub(self.consortium.coordinator)

    def start(self, name: str) -> None:
        """Let a fresh process serve a hospital."""
        home = self.consortium.site(name)
        way = Heard(self.hub, name, SiteKeys(home).identity(), self)
        self.services[name] = SiteService(home, way, clock=lambda: self.now)

    def ledger(self, name: str) -> Ledger:
        """Return a hospital's ledger."""
        return Ledger(self.consortium.site(name).ledger)

    def ask(self, request: SumRound, behaviour: str, victim: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Send a request to its members, play the coordinator of whatever session follows, and note the answers.

        A ``deaf`` victim is heard and hears nobody. A ``silent`` coordinator opens a sum and tells nobody.
        ``meanwhile`` happens when the first sum is open and nobody has heard of it: all sites wait.
        """
        self.now += timedelta(seconds=1)
        asked, before = self.digests[request.study], len(self.sent)
        vector = vector_for(request, asked)
        with ThreadPoolExecutor(len(request.members)) as pool:
            futures = {
                name: pool.submit(self.services[name].answer, encode(request), vector.copy())
                for name in request.members
            }
            try:
                params = self.parameters(request)
            except InputError:
                params = None
            if params is not None:
                over = lambda: any(future.done() for future in futures.values())  # noqa: E731  # one line, used once
                self.said.append((request, {}))
                self._lead(request.study, params, (behaviour, victim, meanwhile), over)
            answers = {name: _word(future.result(PATIENCE)) for name, future in futures.items()}
        self.answers.append(answers)
        drawn = {one.site for one in self.sent[before:]}
        self._note(request, {name for name, said in answers.items() if said[0] == "done"}, drawn)

    def say_again(self, number: int, name: str) -> None:
        """Send an old request to one hospital alone, then what the others said in its session, and end it."""
        request, said = self.said[number]
        params = self.parameters(request)
        self.hub.forget(params)
        meeting, machine = self.hub.meeting(params), open_coordinator(params)
        with ThreadPoolExecutor(1) as pool:
            vector = vector_for(request, self.digests[request.study])
            future = pool.submit(self.services[name].answer, encode(request), vector)
            for _, frame in self._frames(meeting, future.done):
                frames = {**said, name: frame or b""}
                outgoing = [machine.receive(sender, one).outgoing for sender, one in frames.items()][-1]
                if len(frames) == len(params.names):
                    meeting.down[name].put(bytes(outgoing[name]))
                    next(self._frames(meeting, future.done), None)  # it has heard
                break
            meeting.down[name].put(None)
        self.hub.forget(params)

    def ask_alone(self, request: SumRound, name: str) -> None:
        """Send a request to one hospital, and end its session at once: it takes the request up, and draws nothing."""
        params = self.parameters(request)
        self.hub.meeting(params).down[name].put(None)
        self.services[name].answer(encode(request), vector_for(request, self.digests[request.study]))
        self.hub.forget(params)

    def _note(self, request: SumRound, done: set[str], drawn: set[str]) -> None:
        for name in sorted(done | drawn):
            key = (name, request.study, type(request).__name__, request.round)
            self.accepted.setdefault(key, []).append(request.attempt)
        last = self.digests[request.study].training.rounds
        if isinstance(request, EvaluateRound) and request.round == last:
            for name in done:
                self.ends(name, request.study)

    def vectors(self, name: str, study: str) -> int:
        """Count the vectors that a hospital has sent for a study."""
        return sum((one.site, one.study) == (name, study) for one in self.sent)

    def ends(self, name: str, study: str) -> None:
        """Note that a hospital's part in a study is over: from here on, no vector may leave."""
        self.over.setdefault((name, study), self.vectors(name, study))

    def parameters(self, request: SumRound) -> SessionParameters:
        """Return the session that a request leads to.

        Raises:
            InputError: it leads to none.
        """
        asked = self.digests[request.study]
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
        self,
        digest: str,
        params: SessionParameters,
        how: tuple[str, str, Callable[[], None]],
        over: Callable[[], bool],
    ) -> None:
        """Open what can be opened; tell it, or say that it was lost, or lose one site's vector on the way."""
        behaviour, victim, meanwhile = how
        meeting, first = self.hub.meeting(params), True
        machine = open_coordinator(params)
        with suppress(Abort):
            for name, frame in self._frames(meeting, over):
                if frame is not None and wire.decode(frame).type is wire.Type.ADVERTISE:
                    self.said[-1][1][name] = frame
                lost = frame is None or (behaviour == "lose" and name == victim and _is_vector(frame))
                progress = machine.lost(name) if lost else machine.receive(name, frame or b"")
                if behaviour == "deaf" and victim in progress.outgoing:
                    meeting.down[victim].put(None)
                    self._pass_on(meeting, progress.outgoing, but=victim)
                    progress = machine.lost(victim)
                if progress.opened is not None:
                    self.opened.append((digest, params, progress.opened))
                    if first:
                        meanwhile()
                    first = False
                    if behaviour == "silent":
                        break
                self._pass_on(meeting, progress.outgoing)
                if machine.ended:
                    return
        for frames in meeting.down.values():
            frames.put(None)

    @staticmethod
    def _pass_on(meeting: Any, outgoing: Mapping[str, Any], but: str | None = None) -> None:
        for receiver, frame in outgoing.items():
            if receiver != but:
                meeting.down[receiver].put(bytes(frame))

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
        super().attend(params, _Noting(part, self.name, params, self.world))


@dataclass
class _Noting:
    part: Part
    site: str
    params: SessionParameters
    world: World

    @property
    def peers(self) -> Peers:
        return self.part.peers

    def draw(self, step: int) -> NDArray[np.signedinteger]:
        with at(self.world.eyes, self.site, self.params.purpose):
            vector = self.part.draw(step)
        with self.world.lock:
            self.world.sent.append(Sent(self.site, self.params.study, self.params.session_id, step, vector.copy()))
        return vector

    def opened(self, opened: Opened) -> None:
        self.part.opened(opened)


def _word(reply: Reply) -> tuple[object, ...]:
    """Return what a coordinator learns of a reply; the state of a model depends on noise."""
    if isinstance(reply, RoundDone):
        return ("done", reply.round, reply.attempt, reply.redraws)
    assert isinstance(reply, Refusal)
    return ("refused", reply.reason, reply.attempt)

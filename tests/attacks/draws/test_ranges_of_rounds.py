"""A coordinator asks for ranges of rounds: too far, twice, overlapping, backwards, another one at each site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from tests.support.world import SITES, World, make_world, small

from dura_common.errors import DuraError
from dura_common.messages import EvaluateRound, Refusal, RefusalReason, Reply, TrainRound
from dura_common.models import TrainingState, first_state
from dura_common.outputs.duplicates import length_in
from dura_common.outputs.scores import length_of, parts_of
from dura_common.sums.agreed import Agreed, carried_rule, follow
from dura_server.rounds.rounds import Rounds
from dura_server.studies.store import StoredStudy
from dura_server.sums.ports import Lost

pytestmark = pytest.mark.long

ROUNDS, STEPS = 5, 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return four small hospitals."""
    return make_world(tmp_path_factory.mktemp("world"))


class Attacker:
    """A coordinator that sends what it likes, and follows the protocol of the sums to see what it gets."""

    def __init__(self, world: World, name: str, *, spare_steps: int = 0) -> None:
        study = small(name, spare_steps=spare_steps)
        training = study.training.model_copy(update={"rounds": ROUNDS, "steps_per_round": STEPS})
        evaluation = study.evaluation.model_copy(update={"every": ROUNDS})
        self.stored: StoredStudy = world.approved(
            study.model_copy(update={"training": training, "evaluation": evaluation})
        )
        self.study = self.stored.study
        self.opened: list[tuple[str, int, int]] = []
        """Purpose, round and step of every sum that it got."""
        self._world = world
        self._agreed = Agreed(self.stored.digest, self.study, self.stored.roster)
        self._network = Rounds(self.stored, world.sites, world.hub)._network

    def request(self, first: int, last: int | None, attempt: int) -> TrainRound:
        """Return a request; None asks as for one round."""
        return TrainRound(study=self.stored.digest, round=first, attempt=attempt, members=SITES, last=last)

    def ask(
        self, *requests: TrainRound, sends: Callable[[str, TrainRound], TrainRound] | None = None
    ) -> list[Reply | None]:
        """Send requests at the same time and open what can be opened of each, in turn; return what all sites answer.

        ``sends`` changes what one site receives.
        """
        state = self._state(1)
        replies = [
            self._world.sites.ask((name,), request if sends is None else sends(name, request), state.to_vector())
            for request in requests
            for name in SITES
        ]
        for number, request in enumerate(requests):
            mine = replies[number * len(SITES) : (number + 1) * len(SITES)]
            # Who has answered adds to nothing any more.
            self._work_through(request, lambda mine=mine: any(any(one.collect(0).values()) for one in mine))  # type: ignore[misc]
        return [reply for one in replies for reply in one.collect(60).values()]

    def draws(self) -> Mapping[str, int]:
        """Return how many draws of the study each site has begun."""
        return {
            name: sum(
                row.kind == "begin" and row.study == self.stored.digest for row in self._world.ledger(name).entries()
            )
            for name in SITES
        }

    def _state(self, number: int) -> TrainingState:
        """Return a state before a round: sites train from any."""
        return replace(first_state(self._network, carried_rule(self.study)), steps=(number - 1) * STEPS)

    def _work_through(self, request: TrainRound, stop: Callable[[], bool]) -> None:
        state = self._state(request.round)
        for number in range(request.round, (request.last or request.round) + 1):
            now = request.model_copy(update={"round": number, "last": None})
            try:
                params = self._agreed.training(now, state=state.digest(), length=state.parameters.size)
                for opened in self._world.hub.meeting(params).sums(stop):
                    self.opened.append(("train", number, opened.step))
                    state = follow(self.study, self._network, state, opened)
                if number == ROUNDS:
                    scores = EvaluateRound(**now.model_dump(include={"study", "round", "attempt", "members"}))
                    length = length_of(parts_of(self.study, number)) + length_in(self.study, number)
                    params = self._agreed.evaluation(scores, parameters=state.parameters, length=length)
                    self.opened += [("evaluate", number, 1) for _ in self._world.hub.meeting(params).sums(stop)]
            except (Lost, DuraError):
                return


def reasons(replies: list[Reply | None]) -> set[RefusalReason | None]:
    """Return why sites refused; None for an answer that is no refusal."""
    return {reply.reason if isinstance(reply, Refusal) else None for reply in replies}


def test_a_range_twice_overlapping_or_backwards_opens_nothing_new(world: World) -> None:
    """After rounds 1 to 3, no number and no range gets a second vector of theirs; rounds 4 and 5 are there, once."""
    attacker = Attacker(world, "again")
    assert reasons(attacker.ask(attacker.request(1, 3, 4))) == {None}
    first, paid = list(attacker.opened), dict.fromkeys(SITES, 3 * STEPS)
    assert first == [("train", number, step) for number in (1, 2, 3) for step in (1, 2)]
    assert attacker.draws() == paid
    for first_round, last, attempt, expected in (
        (1, 3, 4, RefusalReason.REPEATED_ROUND),  # the same again
        (1, 3, 1, RefusalReason.REPEATED_ROUND),  # as it was before
        (2, 5, 4, RefusalReason.REPEATED_ROUND),  # overlapping, under the same number
        (3, 1, 9, RefusalReason.NOT_UNDERSTOOD),  # backwards
        (4, ROUNDS + 1, 9, RefusalReason.NOT_UNDERSTOOD),  # too far
        (ROUNDS + 1, ROUNDS + 1, 9, RefusalReason.NOT_UNDERSTOOD),  # beyond
        (1, 3, 9, RefusalReason.NO_DRAW_LEFT),  # again, under a higher number
        (2, 5, 9, RefusalReason.NO_DRAW_LEFT),  # overlapping
        (3, None, 9, RefusalReason.NO_DRAW_LEFT),  # the last of them alone
    ):
        answers = reasons(attacker.ask(attacker.request(first_round, last, attempt)))
        assert expected in answers, (first_round, last, attempt)
        assert answers <= {expected, RefusalReason.AGGREGATION}, "who draws last hears that the sum is lost"
        assert (attacker.opened, attacker.draws()) == (first, paid)
    assert reasons(attacker.ask(attacker.request(4, 5, 1))) == {None}, "nothing of this has touched the other rounds"
    assert attacker.opened[len(first) :] == [
        *(("train", n, step) for n in (4, 5) for step in (1, 2)),
        ("evaluate", 5, 1),
    ]
    assert attacker.draws() == dict.fromkeys(SITES, ROUNDS * STEPS + 1)


def test_overlapping_ranges_take_the_spare_draws_and_no_more(world: World) -> None:
    """Every further vector is a fresh draw that was declared; the ranges cannot add up to more than the study."""
    spare = 3
    attacker = Attacker(world, "spare", spare_steps=spare)
    attacker.ask(attacker.request(1, 3, 1))
    for attempt, (first, last) in enumerate([(2, 4), (1, 5), (3, 5), (1, 2), (4, 5)], 2):
        attacker.ask(attacker.request(first, last, attempt))
        assert all(count <= ROUNDS * STEPS + spare + 1 for count in attacker.draws().values())
    assert len(attacker.opened) <= max(attacker.draws().values())
    for name in SITES:
        world.ledger(name).verify()


def test_two_ranges_at_the_same_time_share_no_round(world: World) -> None:
    """Each round belongs to one of them: what one takes up under its number, the other is refused."""
    attacker = Attacker(world, "at-once")
    attacker.ask(attacker.request(1, 4, 1), attacker.request(2, 5, 2))
    assert len(attacker.opened) == len(set(attacker.opened))
    assert all(count <= ROUNDS * STEPS + 1 for count in attacker.draws().values())
    for name in SITES:
        world.ledger(name).verify()


def test_sites_that_are_told_different_ends_draw_nothing_in_vain(world: World) -> None:
    """One hospital is to stop after round 1: the others find nobody to add to in round 2, and draw nothing for it."""
    attacker = Attacker(world, "different")

    def sends(name: str, request: TrainRound) -> TrainRound:
        return request.model_copy(update={"last": 1}) if name == "south" else request

    stopped = attacker.request(1, 2, 1)
    assert None in reasons(attacker.ask(stopped, sends=sends))
    assert attacker.opened == [("train", 1, 1), ("train", 1, 2)]
    assert attacker.draws() == dict.fromkeys(SITES, STEPS)

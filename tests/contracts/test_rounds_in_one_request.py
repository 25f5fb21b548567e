"""A request for several rounds: the same sums and the same model as round by round, and fewer messages."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.support.world import DELTA, SITES, World, make_world, small

from dura_common.messages import EvaluateRound, Refusal, RefusalReason, TrainRound, encode
from dura_common.models import first_state
from dura_common.study import Study
from dura_common.sums.agreed import carried_rule
from dura_server.rounds import asking
from dura_server.rounds.asking import MOST_ROUNDS, Pace
from dura_server.studies.store import StoredStudy

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return four small hospitals."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ask for as many rounds as a study has, from the first request on."""
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "rounds", lambda _self: MOST_ROUNDS)
        yield


def five_rounds(name: str, **aggregation: object) -> Study:
    """Return a study of five rounds, with an evaluation after every second one."""
    study = small(name, **aggregation)  # type: ignore[arg-type]  # options of a test
    return study.model_copy(
        update={
            "training": study.training.model_copy(update={"rounds": 5}),
            "evaluation": study.evaluation.model_copy(update={"every": 2}),
        }
    )


def requests(world: World, stored: StoredStudy) -> list[tuple[str, int, int | None]]:
    """Return what one site was asked for: kind, round, last round."""
    return [
        (request.kind, request.round, getattr(request, "last", None))
        for name, request in world.sites.asked
        if name == SITES[0] and isinstance(request, TrainRound | EvaluateRound) and request.study == stored.digest
    ]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("noise", "sums"), [("shared", "step"), ("shared", "round"), ("local", "step")])
def test_one_request_is_enough(world: World, noise: str, sums: str) -> None:
    """Five rounds and three evaluations: every draw once, and the coordinator and all sites come to the same states."""
    study = five_rounds(f"once-{noise}-{sums}", noise=noise, sums=sums)
    stored = world.approved(study)
    world.rounds(stored).train()
    state = stored.read_state()
    assert (state.phase, state.round, [point.round for point in state.curve]) == ("finished", 5, [2, 4, 5])
    assert requests(world, stored) == [("train-round", 1, 5)]
    for name in SITES:
        (row,) = [row for row in world.ledger(name).studies(DELTA) if row.study == stored.digest]
        draws = 5 if noise == "local" else 15
        assert (row.state, row.draws, row.redraws) == ("closed", draws + 3, 0)
        assert world.ledger(name).spent(DELTA, stored.digest) <= study.privacy.epsilon * (1 + 1e-6)


@pytest.mark.usefixtures("at_once")
def test_a_lost_site_is_asked_again_at_the_next_round(world: World) -> None:
    """The others end the request after the round in which it was lost, and the next request is for all of them."""
    study = five_rounds("lost", minimum_sites=3, tolerated_dropouts=1, spare_steps=2)
    stored = world.approved(study)
    world.hub.killed["south", 2] = "before sending"
    world.rounds(stored).train()
    state = stored.read_state()
    assert (state.phase, state.given_up) == ("finished", 0)
    asked = requests(world, stored)
    assert asked[0] == ("train-round", 1, 5)
    assert all(kind == "train-round" for kind, _, _ in asked)
    assert state.redraws == 1


def test_the_first_request_is_for_one_round_and_the_next_for_about_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long rounds go one by one, short ones together; nobody is kept busy for hours."""
    now = [0.0]
    monkeypatch.setattr(asking.time, "monotonic", lambda: now[0])
    pace = Pace()
    assert pace.rounds() == 1
    for seconds, rounds in ((600.0, 1), (25.0, 2), (4.0, 15), (0.01, MOST_ROUNDS), (0.0, MOST_ROUNDS)):
        pace.begin()
        now[0] += seconds
        pace.end()
        assert pace.rounds() == rounds
    assert time.monotonic() is now[0]


@pytest.mark.parametrize(
    ("first", "last"), [(2, 1), (1, 6), (5, 6), (6, 6)], ids=["backwards", "too-far", "beyond", "none"]
)
def test_rounds_that_the_study_does_not_have_are_refused_before_the_first(world: World, first: int, last: int) -> None:
    """Nothing is drawn for a request whose end is wrong, though its beginning is right."""
    stored = world.approved(five_rounds(f"range-{first}-{last}"))
    rounds = world.rounds(stored)
    vector = first_state(rounds._network, carried_rule(stored.study)).to_vector()
    request = TrainRound(study=stored.digest, round=first, attempt=1, members=SITES, last=last)
    before = world.ledger("east").entries()
    assert world.sites.services["east"].answer(encode(request), vector) == Refusal(reason=RefusalReason.NOT_UNDERSTOOD)
    assert world.ledger("east").entries() == before


@pytest.mark.usefixtures("at_once")
def test_each_round_of_a_request_needs_its_own_number(world: World) -> None:
    """A site that has taken up a later round before does not take it up again within a request of that number."""
    stored = world.approved(five_rounds("numbers", minimum_sites=4))
    ledger = world.ledger("west")
    ledger.attempt(stored.digest, "train", 2, 7)
    world.rounds(stored).train()
    assert stored.read_state().phase == "finished"
    first, second = requests(world, stored)[:2]
    assert first == ("train-round", 1, 5)
    assert second == ("train-round", 2, 5)
    assert stored.read_state().attempts["train-2"] == 8
    assert all(row.redraws == 0 for row in ledger.studies(DELTA) if row.study == stored.digest), (
        "nothing was drawn in vain"
    )

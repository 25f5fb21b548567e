"""A coordinator that dies goes on where it was: at most one draw is repeated, and nothing is asked for twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from tests.support.world import DELTA, SITES, World, make_world, small

from dura_client.patients.frozen import read_manifest
from dura_client.review.approval import decline_study
from dura_common.errors import HostError
from dura_common.messages import EvaluateRound, TrainRound
from dura_common.secagg import SessionParameters
from dura_common.study import Study
from dura_server.rounds.checkpoint import Checkpoints
from dura_server.rounds.rounds import Rounds
from dura_server.studies.store import StoredStudy

pytestmark = pytest.mark.long


class Crash(BaseException):
    """The process ends here: nothing in the coordinator may catch it."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return four small hospitals."""
    return make_world(tmp_path_factory.mktemp("world"))


@contextmanager
def dying(world: World, *places: tuple[str, str, int, int]) -> Iterator[list[tuple[str, str, int, int]]]:
    """Let the coordinator die once at each place (stage, purpose, round, step); yield what is still to come."""
    left = list(places)

    def watch(stage: str, params: SessionParameters, step: int) -> None:
        place = (stage, params.purpose, params.round, step)
        if place in left:
            left.remove(place)
            raise Crash

    before, world.hub.watch = world.hub.watch, watch
    try:
        yield left
    finally:
        world.hub.watch = before


def run_to_the_end(world: World, stored: StoredStudy, *, most: int) -> int:
    """Run a study again after every crash, as the command does; return how often it crashed."""
    for crashes in range(most + 1):
        try:
            world.rounds(stored).train()
        except Crash:
            continue
        return crashes
    raise AssertionError("it never ends")


def cost(world: World, stored: StoredStudy) -> dict[str, tuple[int, int]]:
    """Return draws and repeated draws of a study at each site, after a look at the caps."""
    found = {}
    for name in SITES:
        ledger = world.ledger(name)
        ledger.verify()
        assert ledger.spent(DELTA, stored.digest) <= stored.study.privacy.epsilon * (1 + 1e-6)
        (row,) = [row for row in ledger.studies(DELTA) if row.study == stored.digest]
        found[name] = (row.draws, row.redraws)
    return found


def asked_steps(world: World, stored: StoredStudy) -> Counter[tuple[str, int, int]]:
    """Return how often sites were asked to begin at each step of each round."""
    return Counter(
        (request.kind, request.round, getattr(request, "first_step", 1))
        for name, request in world.sites.asked
        if name == SITES[0] and isinstance(request, TrainRound | EvaluateRound) and request.study == stored.digest
    )


def planned(study: Study) -> int:
    """Return the draws of a study in which nothing is lost: steps and evaluations."""
    rounds = study.training.rounds
    steps = rounds if study.privacy.noise == "local" else study.training.steps
    return steps + len(study.evaluation.rounds(rounds))


@pytest.mark.parametrize("sums", ["step", "round"])
@pytest.mark.parametrize(
    ("stage", "step", "again"),
    [
        ("opened", 2, 1),
        ("kept", 2, 0),
        ("told", 2, 1),
        ("opened", 3, 1),
        ("kept", 3, 0),
        ("told", 3, 0),
        ("kept", 1, 0),
    ],
)
def test_a_crash_in_a_round_costs_at_most_one_draw(world: World, sums: str, stage: str, step: int, again: int) -> None:
    """Before a sum is kept it is lost; once it is kept, only a draw that sites began since is repeated."""
    study = small(f"crash-{sums}-{stage}-{step}", sums=sums, spare_steps=1)
    stored = world.approved(study)
    with dying(world, (stage, "train", 2, step)) as left:
        assert run_to_the_end(world, stored, most=1) == 1
        assert left == []
    state = stored.read_state()
    assert (state.phase, state.round, state.given_up, len(state.curve)) == ("finished", 2, 0, 2)
    draws = cost(world, stored)
    assert all(more <= again for _, more in draws.values()), draws
    assert all(count == planned(study) + more for count, more in draws.values()), draws
    opened = step if stage != "opened" else step - 1
    asked = asked_steps(world, stored)
    expected = Counter({("train-round", 1, 1): 1, ("train-round", 2, 1): 1})
    if opened < 3:
        expected["train-round", 2, opened + 1] += 1
    assert {key: count for key, count in asked.items() if key[0] == "train-round"} == dict(expected)
    assert not (stored.folder / "sums").exists()


@pytest.mark.parametrize(("stage", "again"), [("opened", 1), ("kept", 0), ("told", 0)])
def test_a_crash_of_averaging_costs_at_most_the_round_under_way(world: World, stage: str, again: int) -> None:
    """With noise of each site's own a draw is a round, and takes as many spare steps."""
    study = small(f"averaged-{stage}", noise="local", spare_steps=3)
    stored = world.approved(study)
    with dying(world, (stage, "train", 1, 1)):
        assert run_to_the_end(world, stored, most=1) == 1
    assert stored.read_state().phase == "finished"
    assert set(cost(world, stored).values()) == {(planned(study) + again, again)}


@pytest.mark.parametrize(
    ("stage", "spare", "points", "again"),
    [("opened", 0, 1, 0), ("opened", 1, 2, 1), ("kept", 0, 2, 0), ("told", 0, 2, 0)],
)
def test_a_crash_of_an_evaluation_costs_what_was_declared_for_it(
    world: World, stage: str, spare: int, points: int, again: int
) -> None:
    """A kept sum is a point of the curve; a lost one is drawn again from the evaluation's own spare, or given up."""
    study = small(f"evaluation-{stage}-{spare}")
    study = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"spare_draws": spare})})
    stored = world.approved(study)
    with dying(world, (stage, "evaluate", 1, 1)):
        assert run_to_the_end(world, stored, most=1) == 1
    state = stored.read_state()
    assert (state.phase, len(state.curve)) == ("finished", points)
    assert set(cost(world, stored).values()) == {(planned(study) + again, again)}
    assert asked_steps(world, stored)["train-round", 1, 1] == 1, "the round before it was checkpointed"


def test_without_a_spare_draw_the_lost_step_is_given_up_and_the_next_ones_are_made(world: World) -> None:
    """Nothing is drawn beyond the plan, nothing wedges, and the study says what it lacks."""
    study = small("given-up")
    stored = world.approved(study)
    with dying(world, ("opened", "train", 1, 2)):
        assert run_to_the_end(world, stored, most=1) == 1
    state = stored.read_state()
    assert (state.phase, state.given_up, len(state.curve)) == ("finished", 1, 2)
    assert set(cost(world, stored).values()) == {(planned(study), 0)}
    assert np.isfinite(stored.read_model()).all()


def test_a_study_of_which_nothing_was_opened_has_no_model(world: World) -> None:
    """Every sum of the training was lost and none could be drawn again: the study fails with that sentence."""
    study = small("nothing", noise="local")
    stored = world.approved(study)
    with dying(world, ("opened", "train", 1, 1), ("opened", "train", 2, 1)), pytest.raises(HostError, match="no sum"):
        run_to_the_end(world, stored, most=2)
    assert not stored.model_file.exists()


def test_a_coordinator_that_dies_at_every_step_ends_all_the_same(world: World) -> None:
    """Crash after crash: each costs one spare draw at most, and the spare ones are enough for all of them."""
    study = small("every-step", spare_steps=12)
    stored = world.approved(study)
    places = [(stage, "train", number, step) for number in (1, 2) for step in (1, 2, 3) for stage in ("opened", "told")]
    with dying(world, *places) as left:
        crashes = run_to_the_end(world, stored, most=len(places))
        assert left == []
    assert crashes == len(places)
    state = stored.read_state()
    assert (state.phase, state.round, state.given_up) == ("finished", 2, 0)
    assert all(more <= crashes for _, more in cost(world, stored).values())


def test_what_a_run_resumes_from_is_what_every_site_has(world: World) -> None:
    """The state that is sent after a crash is the one before it, moments included: sites would notice another."""
    stored = world.approved(small("moments", spare_steps=1))
    with dying(world, ("told", "train", 2, 1)), pytest.raises(Crash):
        world.rounds(stored).train()
    found = Checkpoints(stored.folder / "checkpoints").newest(moments=2)
    assert found is not None
    assert (found.round, found.state.steps, len(found.state.moments)) == (1, 3, 2)
    assert all(np.abs(moment).max() > 0 for moment in found.state.moments)
    again = Rounds(stored, world.sites, world.hub)
    state, done, _ = again._replay(2, found)
    assert (done, state.steps) == (1, 4)
    assert run_to_the_end(world, stored, most=0) == 0
    assert stored.read_state().phase == "finished"


@pytest.mark.parametrize("enough", [True, False])
def test_an_approval_that_is_taken_back_thins_or_ends_a_study(world: World, enough: bool) -> None:
    """In the middle of a round: the others go on if they are enough, or the study ends with one sentence."""
    rules = {"minimum_sites": 3, "tolerated_dropouts": 1} if enough else {}
    stored = world.approved(small(f"declined-{enough}", spare_steps=2, **rules))
    home = world.consortium.site("north")

    def decline(stage: str, params: SessionParameters, step: int) -> None:
        if (stage, params.purpose, params.round, step) == ("told", "train", 1, 1):
            decline_study(home, stored.digest)

    before, world.hub.watch = world.hub.watch, decline
    try:
        if enough:
            world.rounds(stored).train()
        else:
            with pytest.raises(HostError, match=r"3 of 4 needed sites are left: north .*its approval was taken back"):
                world.rounds(stored).train()
    finally:
        world.hub.watch = before
    state = stored.read_state()
    assert "its approval was taken back" in state.sites["north"]
    assert (state.phase == "finished") == enough
    assert state.given_up == 0, "the others had draws left"
    cost(world, stored)


def test_a_withdrawal_changes_no_answer(world: World) -> None:
    """A patient who withdraws in the middle of a round counts zero from then on, and the study goes on as before."""
    stored = world.approved(small("withdrawn"))
    aside = world.ledger("west").allocation(stored.digest)
    assert aside is not None
    manifest = read_manifest(world.consortium.site("west"), stored.digest, aside.manifest)
    key = min(manifest.training)

    def withdraw(stage: str, params: SessionParameters, step: int) -> None:
        if (stage, params.purpose, params.round, step) == ("opened", "train", 1, 1):
            world.ledger("west").withdraw(key)

    before, world.hub.watch = world.hub.watch, withdraw
    try:
        world.rounds(stored).train()
    finally:
        world.hub.watch = before
    assert stored.read_state().phase == "finished"
    assert set(cost(world, stored).values()) == {(planned(stored.study), 0)}
    assert key in world.ledger("west").withdrawn()


def test_a_full_disk_is_said_before_anybody_pays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little space for the round's sums: one sentence, no request for a sum; with space the study goes on."""
    stored = world.approved(small("full-disk"))
    with monkeypatch.context() as patch:
        patch.setattr("dura_server.rounds.checkpoint.RESERVE_BYTES", 1 << 62)
        with pytest.raises(HostError, match="the coordinator's disk is nearly full"):
            world.rounds(stored).train()
    assert asked_steps(world, stored) == Counter()
    assert all(world.ledger(name).spent(DELTA, stored.digest) > 0 for name in SITES), "set aside at approval"
    assert all(
        not any(row.kind == "begin" and row.study == stored.digest for row in world.ledger(name).entries())
        for name in SITES
    )
    assert run_to_the_end(world, stored, most=0) == 0
    assert stored.read_state().phase == "finished"

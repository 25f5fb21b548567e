"""A hospital that went back, or follows another roster, is seen by the others before any vector leaves them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from tests.attacks.draws.hospital import NOW, vector_for
from tests.attacks.draws.meeting import SITES, Heard, World
from tests.support.commands import Failed, dura
from tests.support.consortium import Consortium
from tests.support.policies import approve_study

from dura_client.consortium.people import distrust
from dura_client.consortium.witness import Report, Seen, Witnessed, load_witnessed
from dura_client.node.service import SiteService
from dura_client.review.approval import decline_study
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import load_policy, write_policy
from dura_client.sums.ports import Part
from dura_common.consortium.roster import Roster
from dura_common.messages import RefusalReason, TrainRound, encode
from dura_common.secagg import Opened, SessionParameters, open_coordinator
from dura_common.study import Study

Template = tuple[Path, dict[str, Study], Roster]


@pytest.fixture
def world(template: Template, tmp_path: Path) -> World:
    """Return three hospitals that have approved two studies."""
    root, digests, roster = template
    copy = Path(shutil.copytree(root, tmp_path / "world"))
    for name in SITES:
        path = copy / name / "data" / "motor.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "root": str(copy / "bids")}))
    world = World(Consortium(copy, SITES), digests, roster)
    for name in SITES:
        world.start(name)
    return world


def asked(world: World, attempt: int, name: str = "alone") -> TrainRound:
    """Return a request for the first round."""
    (digest,) = [digest for digest, study in world.digests.items() if study.name == name]
    return TrainRound(study=digest, round=1, attempt=attempt, members=SITES, first_step=1)


def begun(world: World) -> dict[str, int]:
    """Count the draws of every hospital."""
    return {name: sum(row.kind == "begin" for row in world.ledger(name).entries()) for name in SITES}


def words(world: World) -> dict[str, object]:
    """Return the words of the last answers."""
    return {name: answer[1] for name, answer in world.answers[-1].items()}


@pytest.mark.parametrize("name", ["alone", "shared"])
def test_a_ledger_that_was_restored_from_a_backup(world: World, tmp_path: Path, name: str) -> None:
    """The other hospitals refuse before they draw, until an officer at each of them has accepted it."""
    home = world.consortium.site("north").path
    backup = shutil.copytree(home, tmp_path / "backup")
    world.ask(asked(world, 1, name), "honest", "east")
    assert {answer[0] for answer in world.answers[-1].values()} == {"done"}
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    world.start("north")
    before, vectors = begun(world), len(world.sent)
    world.ask(asked(world, 2, name), "honest", "east")
    said = words(world)
    assert said["east"] == said["south"] == RefusalReason.MEMBER_WENT_BACK
    assert {**begun(world), "north": 0} == {**before, "north": 0}
    assert {one.site for one in world.sent[vectors:]} <= {"north"}
    for site in ("east", "south"):
        dura("site", "roster", "accept", "north", "--yes", "--home", world.consortium.site(site).path, here=True)
    world.ask(asked(world, 3, name), "honest", "east")
    assert RefusalReason.MEMBER_WENT_BACK not in words(world).values()
    assert all(count > before[site] for site, count in begun(world).items())


def test_a_ledger_that_runs_twice(world: World, tmp_path: Path) -> None:
    """A copy that went another way from the same backup has as many rows, and shows by its mark."""
    home = world.consortium.site("north").path
    backup = shutil.copytree(home, tmp_path / "backup")
    world.ask(asked(world, 1), "lose", "north")  # no sum is opened, so the others know what was said and no more
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    world.start("north")
    world.ask(asked(world, 2), "honest", "east")
    assert words(world)["east"] == words(world)["south"] == RefusalReason.MEMBER_WENT_BACK


def restored_and_asked_alone(world: World, tmp_path: Path, name: str) -> int:
    """Restore the north from a backup of before a round, and ask it alone until its ledger is longer than it was.

    Return how many requests and draws the others have witnessed.
    """
    home = world.consortium.site("north").path
    backup = shutil.copytree(home, tmp_path / "backup")
    world.ask(asked(world, 1, name), "honest", "east")
    assert {answer[0] for answer in world.answers[-1].values()} == {"done"}
    witnessed = load_witnessed(world.consortium.site("east")).of("north")
    assert witnessed is not None
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    world.start("north")
    return asked_alone(world, name, 1, witnessed.rows + 2)


def asked_alone(world: World, name: str, attempt: int, rows: int) -> int:
    """Ask the north alone until its ledger is longer than so many rows, and return the last number of a request."""
    key = SiteKeys(world.consortium.site("north")).pseudonym_key()
    while world.ledger("north").requested(key).rows <= rows:
        attempt += 1
        world.ask_alone(asked(world, attempt, name), "north")  # nobody else is there
    return attempt


@pytest.mark.parametrize("name", ["alone", "shared"])
def test_a_restored_ledger_that_was_asked_alone_until_it_was_longer(world: World, tmp_path: Path, name: str) -> None:
    """The restored hospital compares what others have witnessed of it with its own ledger, and draws nothing."""
    attempt = restored_and_asked_alone(world, tmp_path, name)
    before, opened, vectors = begun(world), len(world.opened), len(world.sent)
    assert begun(world)["north"] == 0  # alone, it draws nothing
    world.ask(asked(world, attempt + 1, name), "honest", "east")
    assert words(world)["north"] == RefusalReason.MEMBER_WENT_BACK
    assert begun(world)["north"] == before["north"]
    assert len(world.opened) == opened
    assert "north" not in {one.site for one in world.sent[vectors:]}
    for site in ("east", "south"):  # the officers of both have to accept it
        dura("site", "roster", "accept", "north", "--yes", "--home", world.consortium.site(site).path, here=True)
        world.ask(asked(world, attempt + 2, name), "honest", "east") if site == "east" else None
    world.ask(asked(world, attempt + 3, name), "honest", "east")
    assert RefusalReason.MEMBER_WENT_BACK not in words(world).values()


@pytest.mark.parametrize("name", ["alone", "shared"])
def test_a_restored_ledger_is_known_however_often_it_is_asked(world: World, tmp_path: Path, name: str) -> None:
    """The others keep what gives it away: a newer report of it does not take the place, since it has heard nobody."""
    attempt = restored_and_asked_alone(world, tmp_path, name)
    before, opened = begun(world)["north"], len(world.opened)
    for more in (1, 2, 3):
        world.ask(asked(world, attempt + more, name), "honest", "east")
        assert words(world)["north"] == RefusalReason.MEMBER_WENT_BACK
    assert begun(world)["north"] == before
    assert len(world.opened) == opened


@pytest.mark.parametrize("name", ["alone", "shared"])
def test_a_backup_from_after_a_session_in_which_nobody_was_heard(world: World, tmp_path: Path, name: str) -> None:
    """The others have heard the north and were not heard: what it draws next is witnessed, too."""
    world.ask(asked(world, 1, name), "silent", "east")
    world.ask(asked(world, 2, name), "deaf", "north")
    home = world.consortium.site("north").path
    backup = shutil.copytree(home, tmp_path / "backup")
    world.ask(asked(world, 3, name), "silent", "east")
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    world.start("north")
    world.ask(asked(world, 4, name), "silent", "east")
    assert RefusalReason.MEMBER_WENT_BACK in words(world).values()


@pytest.mark.parametrize("name", ["alone", "shared"])
def test_old_messages_make_no_restored_ledger_believed(world: World, tmp_path: Path, name: str) -> None:
    """What the others said is sent again to the restored north, which then is heard by them while it hears nobody."""
    home = world.consortium.site("north").path
    world.ask(asked(world, 1, name), "silent", "east")
    backup = shutil.copytree(home, tmp_path / "backup")
    world.ask(asked(world, 2, name), "silent", "east")
    witnessed = load_witnessed(world.consortium.site("east")).of("north")
    assert witnessed is not None
    shutil.rmtree(home)
    shutil.copytree(backup, home)
    world.start("north")
    world.say_again(len(world.said) - 1, "north")
    attempt = asked_alone(world, name, 2, witnessed.rows + 2)
    world.ask(asked(world, attempt + 1, name), "deaf", "north")
    world.ask(asked(world, attempt + 2, name), "silent", "east")
    assert words(world)["north"] == RefusalReason.MEMBER_WENT_BACK


def test_whoever_is_never_heard_is_waited_for_once(world: World) -> None:
    """Sums in which the north hears nobody are few: then the others wait for it, and the next sum but one passes."""
    for number in range(1, 6):
        world.ask(asked(world, number).model_copy(update={"members": SITES}), "deaf", "north")
    waiting = load_witnessed(world.consortium.site("east")).of("north")
    assert waiting is not None
    assert len(waiting.reports) == 4
    drawn = begun(world)
    world.ask(asked(world, 1).model_copy(update={"round": 2}), "honest", "east")
    assert words(world)["east"] == words(world)["south"] == RefusalReason.AGGREGATION
    assert begun(world)["east"] == drawn["east"]
    world.ask(asked(world, 2).model_copy(update={"round": 2}), "honest", "east")
    assert {answer[0] for answer in world.answers[-1].values()} == {"done"}


def test_a_ledger_alone_that_was_restored_confirms_nothing(world: World, tmp_path: Path) -> None:
    """The ledger, not the file of what was heard, says what this hospital can confirm."""
    home = world.consortium.site("north")
    world.ask(asked(world, 1), "silent", "east")
    backup = shutil.copy(home.ledger, tmp_path / "ledger")
    world.ask(asked(world, 1).model_copy(update={"round": 2}), "silent", "east")
    world.ask(asked(world, 2).model_copy(update={"round": 2}), "silent", "east")
    shutil.copy(backup, home.ledger)
    world.start("north")
    witnessed = load_witnessed(world.consortium.site("east")).of("north")
    assert witnessed is not None
    attempt = asked_alone(world, "alone", 2, witnessed.rows + 2)
    world.ask(asked(world, attempt + 1), "deaf", "north")
    world.ask(asked(world, attempt + 2), "silent", "east")
    assert words(world)["north"] == RefusalReason.MEMBER_WENT_BACK


def test_a_ledger_that_was_begun_again(world: World) -> None:
    """A hospital whose ledger was lost and begun again is told so by the others, though nothing in it is wrong."""
    home = world.consortium.site("north")
    world.ask(asked(world, 1), "honest", "east")
    home.ledger.unlink()
    home.witnessed.unlink()
    for digest in world.digests:
        approve_study(home, digest, "motor", NOW)
    world.start("north")
    world.ask(asked(world, 2), "honest", "east")
    assert words(world)["north"] == RefusalReason.MEMBER_WENT_BACK
    assert begun(world)["north"] == 0


def test_a_member_that_lies_about_another_one(world: World) -> None:
    """A member that invents what it has seen of the north stops that sum, and nothing is kept of the lie."""
    home = world.consortium.site("east")
    reports = (Report(rows=1, mark="cd" * 32),)
    invented = Seen(name="north", serial=1, roster="ab" * 32, reports=reports, when=NOW)
    home.witnessed.write_text(Witnessed(seen=(invented,)).model_dump_json())
    world.ask(asked(world, 1), "honest", "east")
    assert words(world)["north"] == RefusalReason.MEMBER_WENT_BACK
    assert begun(world)["north"] == 0
    home.witnessed.unlink()
    world.ask(asked(world, 2), "honest", "east")
    assert {answer[0] for answer in world.answers[-1].values()} == {"done"}


def test_a_message_that_is_delivered_late_accuses_its_sender_once(world: World) -> None:
    """The coordinator keeps the north's message back over another sum: no vector leaves, and the next sum passes."""
    late = asked(world, 1).model_copy(update={"round": 2})
    meeting, machine = world.hub.meeting(world.parameters(late)), open_coordinator(world.parameters(late))
    vector = vector_for(late, world.digests[late.study])
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(world.services["north"].answer, encode(late), vector.copy())
        kept = meeting.up.get(timeout=60)
        meeting.down["north"].put(None)
        assert first.result(60).reason == RefusalReason.AGGREGATION
        world.ask(asked(world, 1), "honest", "east")
        vectors = len(world.sent)
        others = [pool.submit(world.services[name].answer, encode(late), vector.copy()) for name in ("east", "south")]
        for name, frame in [kept, meeting.up.get(timeout=60), meeting.up.get(timeout=60)]:
            for receiver, outgoing in machine.receive(name, frame).outgoing.items():
                meeting.down[receiver].put(bytes(outgoing))
        assert {one.result(60).reason for one in others} == {RefusalReason.MEMBER_WENT_BACK}
    assert len(world.sent) == vectors
    world.ask(late.model_copy(update={"attempt": 2}), "honest", "east")
    assert {answer[0] for answer in world.answers[-1].values()} == {"done"}


def after_one_step(world: World, act: Callable[[], object]) -> None:
    """Ask all hospitals for three steps; after the first one somebody in the north acts."""

    @dataclass
    class Acting(Heard):
        def attend(self, params: SessionParameters, part: Part) -> None:
            opened = part.opened

            def then(one: Opened) -> None:
                opened(one)
                act()

            with mock.patch.object(part, "opened", then):
                super().attend(params, part)

    home = world.consortium.site("north")
    way = Acting(world.hub, "north", SiteKeys(home).identity(), world)
    world.services["north"] = SiteService(home, way, clock=lambda: NOW)
    world.ask(asked(world, 1, "shared"), "honest", "east")


def test_distrust_ends_a_request_that_is_under_way(world: World) -> None:
    """Between two steps an officer distrusts another hospital: no further vector leaves this one."""
    home = world.consortium.site("north")
    after_one_step(world, lambda: distrust(home, world.roster, "south", "", NOW))
    assert words(world)["north"] == RefusalReason.OTHER_ROSTER
    assert sum(one.site == "north" for one in world.sent) == 1
    assert begun(world)["north"] == 1


def test_a_policy_that_was_tightened_ends_a_request_that_is_under_way(world: World) -> None:
    """The policy is looked at again before the next draw."""
    home = world.consortium.site("north")
    strict = load_policy(home).model_copy(update={"noise": ("local",)})
    after_one_step(world, lambda: write_policy(home, strict, replace=True))
    assert words(world)["north"] == RefusalReason.POLICY
    assert begun(world)["north"] == 1


def test_a_policy_that_hides_times_from_now_on_ends_a_request_that_shows_them(world: World) -> None:
    """The request under way was begun without a tick; the next one has it."""
    home = world.consortium.site("north")
    hidden = load_policy(home).model_copy(update={"hide_timing": True})
    after_one_step(world, lambda: write_policy(home, hidden, replace=True))
    assert words(world)["north"] == RefusalReason.POLICY
    assert begun(world)["north"] == 1
    world.ask(asked(world, 2, "shared"), "honest", "east")
    assert {answer[0] for answer in world.answers[-1].values()} == {"done"}


def test_a_study_that_was_declined_ends_a_request_that_is_under_way(world: World) -> None:
    """So does an approval that is taken back."""
    digest = asked(world, 1, "shared").study
    after_one_step(world, lambda: decline_study(world.consortium.site("north"), digest))
    assert words(world)["north"] == RefusalReason.NOT_APPROVED
    assert begun(world)["north"] == 1


def test_what_was_heard_is_shown_and_kept(world: World) -> None:
    """`dura site roster` shows the last word of every member; a member that has reported nothing cannot be accepted."""
    home = world.consortium.site("east")
    with pytest.raises(Failed, match="has reported nothing"):
        dura("site", "roster", "accept", "north", "--yes", "--home", home.path, here=True)
    world.ask(asked(world, 1), "honest", "east")
    seen = load_witnessed(home)
    assert [one.name for one in seen.seen] == ["north", "south"]
    shown = {row["name"]: row["heard"] for row in dura("site", "roster", "--home", home.path, here=True)["members"]}
    assert shown["north"]["serial"] == 1
    assert shown["east"] is None

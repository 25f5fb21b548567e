"""A coordinator with a watch: what the time of an answer tells of who was drawn.

No time is measured here, which would be noise on a busy machine. What is held is what time depends on: how much goes
through the model, and at which tick of the site's own clock a vector leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from tests.attacks.draws.hospital import Hospital, Keeps

from dura_client.patients.withdrawal import withdraw
from dura_client.release import gate
from dura_client.release.pace import Pace
from dura_client.sums.ports import Part
from dura_client.sums.session import SumFailed
from dura_client.training import gradients
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient
from dura_client.training.places import places_of
from dura_common.messages import Refusal, RefusalReason, RoundDone
from dura_common.secagg import Opened, SessionParameters

pytestmark = pytest.mark.long

WORK = 0.01
"""Seconds that a patient takes by the clock of these tests."""


class World:
    """A clock that moves with the windows that go through the model, and with sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.computed: list[int] = []
        self.left: list[float] = []
        for name in ("by_backward", "by_vmap"):
            monkeypatch.setattr(gradients, name, self._taking_time(getattr(gradients, name)))
        monkeypatch.setattr(gate.Pace, "measured", self._measured)
        monkeypatch.setattr(PatientEngine, "clipped_sum", self._counting(PatientEngine.clipped_sum))

    def _taking_time(self, real: Callable[..., object]) -> Callable[..., object]:
        def computed(network: object, loss: object, batches: list[gradients.Batch]) -> object:
            self.now += WORK * len(batches)
            self.computed[-1] += sum(len(batch.labels) for batch in batches)
            return real(network, loss, batches)

        return computed

    def _counting(self, real: Callable[..., object]) -> Callable[..., object]:
        def step(engine: PatientEngine, drawn: list[TrainingPatient]) -> object:
            self.computed.append(0)
            return real(engine, drawn)

        return step

    def _measured(self, _engine: PatientEngine, places: int, *, steps: int) -> Pace:
        return Pace(places, 1.25 * WORK * places * steps, lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


class Hurries(Keeps):
    """A coordinator with a deadline: a vector that comes later counts as lost, and the session is over."""

    def __init__(self, world: World, deadline: float) -> None:
        super().__init__()
        self.world, self.deadline = world, deadline

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take one vector, if it comes in time."""
        begun = self.world.now
        vector = part.draw(params.first_step)
        if self.world.now - begun > self.deadline:
            raise SumFailed("TOO_LATE", "the secure sum did not continue in time")
        part.opened(Opened(params.first_step, vector.astype(np.int64), params.names))


class Watches(Keeps):
    """A coordinator that notes how long each vector took."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Note the time of each draw."""
        for step in range(params.first_step, params.first_step + params.steps):
            begun = self.world.now
            vector = part.draw(step)
            self.world.left.append(self.world.now - begun)
            part.opened(Opened(step, vector.astype(np.int64), params.names))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let each step draw another number of patients: none, all, one, all but one."""
    wanted = [0, 99, 1, 98]

    def next_draw(_: PatientEngine, patients: tuple[TrainingPatient, ...]) -> list[TrainingPatient]:
        number = wanted.pop(0)
        return list(patients[: {99: len(patients), 98: len(patients) - 1}.get(number, number)])

    monkeypatch.setattr(PatientEngine, "draw", next_draw)
    return wanted


def steps_of(
    make: Callable[..., Hospital], world: World, *, noise: str, hide: bool, spoil: Callable[[Hospital], None] | None
) -> tuple[list[float], list[int]]:
    """Return the time of each vector, and the windows of each step, of two rounds."""
    hospital = make("east", "north", hide_timing=hide)
    asked = hospital.wanted(privacy={"participation": 0.5, "noise": noise}, aggregation={"minimum_sites": 2})
    reference = hospital.approved(asked)
    if spoil is not None:
        spoil(hospital)
    for number in (1, 2):
        way = Watches(world)
        assert isinstance(hospital.answer(way, hospital.train(reference, round=number), asked), RoundDone)
    return world.left, world.computed


def spoil(hospital: Hospital) -> None:
    """Let one patient withdraw, and lose the recordings of two."""
    withdraw(hospital.home, "001", "motor")
    hospital.remove((5, 15))
    hospital.forget_prepared()


@pytest.mark.parametrize("spoiled", [None, spoil], ids=["whole", "spoiled"])
def test_no_time_tells_who_was_drawn(
    new_hospital: Callable[..., Hospital],
    monkeypatch: pytest.MonkeyPatch,
    counts: list[int],
    spoiled: Callable[[Hospital], None] | None,
) -> None:
    """None, one or all drawn, withdrawn or unreadable: every step is the same work, every vector leaves at one tick."""
    world = World(monkeypatch)
    left, computed = steps_of(new_hospital, world, noise="local", hide=True, spoil=spoiled)
    assert not counts
    assert len(computed) == 4
    assert len(set(computed)) == 1
    assert len(left) == 2
    assert left == pytest.approx([left[0]] * len(left))


def test_without_the_setting_time_tells_it(
    new_hospital: Callable[..., Hospital], monkeypatch: pytest.MonkeyPatch, counts: list[int]
) -> None:
    """The attack works where the policy does not ask for anything against it: this is what the test above would see."""
    world = World(monkeypatch)
    left, computed = steps_of(new_hospital, world, noise="local", hide=False, spoil=None)
    assert not counts
    assert computed[0] == 0
    assert len(set(computed)) == 4
    assert len(left) == 2


def in_time(make: Callable[..., Hospital], world: World, draw: Drawn, *, hide: bool, number: int) -> list[list[bool]]:
    """Return for each deadline whether each draw was answered in time; every other step is a redraw."""
    hospital = make("east", "north", number=number, hide_timing=hide)
    patients = places_of(hospital.wanted(), "north", 1)
    asked = hospital.wanted(
        privacy={"participation": 1.0, "noise": "local"},
        training={"rounds": 1, "steps_per_round": 1},
        aggregation={"minimum_sites": 2, "spare_steps": len(DEADLINES) * len(DRAWN)},
    )
    reference = hospital.approved(asked)
    found: list[list[bool]] = []
    attempt = 0
    for deadline in DEADLINES:
        found.append([])
        for wanted in DRAWN:
            draw.share, attempt = wanted, attempt + 1
            way = Hurries(world, deadline * WORK * patients)
            reply = hospital.answer(way, hospital.train(reference, attempt), asked)
            found[-1].append(isinstance(reply, RoundDone))
    return found


@dataclass
class Drawn:
    """Which share of the patients the next step draws."""

    share: float = 1.0


DRAWN = (0.0, 0.5, 1.0)
DEADLINES = (0.001, 0.3, 0.7, 1.2, 1.3)
"""Parts of the time that all patients take; a tick is 1.25 of it."""


def test_no_deadline_is_a_question_about_the_draw(
    new_hospital: Callable[..., Hospital], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever deadline a coordinator sets, who was drawn changes no answer; where nothing is hidden, it does."""
    world, draw = World(monkeypatch), Drawn()

    def next_draw(_: PatientEngine, patients: tuple[TrainingPatient, ...]) -> list[TrainingPatient]:
        return list(patients[: round(draw.share * len(patients))])

    monkeypatch.setattr(PatientEngine, "draw", next_draw)
    hidden = in_time(new_hospital, world, draw, hide=True, number=1)
    assert hidden == [[False] * 3] * 4 + [[True] * 3]
    shown = in_time(new_hospital, world, draw, hide=False, number=2)
    assert [True, False, False] in shown
    assert [True, True, False] in shown


def test_a_draw_that_fails_leaves_at_a_tick(
    new_hospital: Callable[..., Hospital], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A computation that ends with an error in the middle is answered when a whole one would have been."""
    world = World(monkeypatch)
    hospital = new_hospital("east", "north", hide_timing=True)
    asked = hospital.wanted(privacy={"participation": 1.0, "noise": "local"}, aggregation={"minimum_sites": 2})
    reference = hospital.approved(asked)
    tick = 1.25 * WORK * places_of(asked, "north", 1) * asked.training.steps_per_round

    def out_of_memory(_: PatientEngine, drawn: list[TrainingPatient]) -> None:
        world.now += WORK * len(drawn) / 2
        raise MemoryError

    monkeypatch.setattr(PatientEngine, "clipped_sum", out_of_memory)
    reply = hospital.answer(Keeps(), hospital.train(reference), asked)
    assert isinstance(reply, Refusal)
    assert reply.reason is RefusalReason.SITE_FAULT
    assert world.now == pytest.approx(tick)


def test_the_tick_comes_from_no_message(new_hospital: Callable[..., Hospital]) -> None:
    """Places, and with them the tick, follow from the study and this machine: no request has a field for them."""
    hospital = new_hospital(hide_timing=True)
    asked = hospital.wanted(privacy={"participation": 0.5})
    fields = set(hospital.train("f" * 64).model_dump())
    assert fields == {"kind", "study", "round", "last", "attempt", "members", "first_step"}
    assert places_of(asked, "north", 1) == places_of(asked, "north", asked.sites["north"])

"""A coordinator with a watch: what the time of an answer tells of who was drawn.

No time is measured here, which would be noise on a busy machine. What is held is what time depends on: how much goes
through the model, and at which tick of the site's own clock a vector leaves.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.attacks.draws.hospital import Hospital, Keeps

from dura_client.patients.withdrawal import withdraw
from dura_client.release import gate
from dura_client.release.pace import Pace
from dura_client.training import gradients
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient
from dura_client.training.places import places_of
from dura_common.messages import RoundDone

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


class Watches(Keeps):
    """A coordinator that notes how long each vector took."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    def attend(self, params: object, part: object) -> None:
        """Note the time of each draw."""
        real = part.draw  # type: ignore[attr-defined]  # of a part, as for every coordinator

        def timed(step: int) -> object:
            begun = self.world.now
            vector = real(step)
            self.world.left.append(self.world.now - begun)
            return vector

        part.draw = timed  # type: ignore[attr-defined]  # idem
        super().attend(params, part)  # type: ignore[arg-type]  # idem


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


def test_the_tick_comes_from_no_message(new_hospital: Callable[..., Hospital]) -> None:
    """Places, and with them the tick, follow from the study and this machine: no request has a field for them."""
    hospital = new_hospital(hide_timing=True)
    asked = hospital.wanted(privacy={"participation": 0.5})
    fields = set(hospital.train("f" * 64).model_dump())
    assert fields == {"kind", "study", "round", "attempt", "members", "first_step"}
    assert places_of(asked, "north", 1) == places_of(asked, "north", asked.sites["north"])

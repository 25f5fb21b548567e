"""One damaged byte in any message, either way: an abort or the true sum, and no other exception."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tests.support.secagg.sites import assert_true, session, simulation, vectors

from dura_common.secagg import Abort, Kind

BITS = (0x01, 0x80)


@dataclass
class Damage:
    """Flips bits of one byte of the number-th frame of one site in one direction; notes how long frames are."""

    site: str
    number: int = -1
    place: int = 0
    bits: int = 0
    sizes: list[int] = field(default_factory=list)

    def __call__(self, site: str, frame: bytes) -> bytes:
        """Pass a frame on, damaged if it is the one."""
        if site != self.site:
            return frame
        self.sizes.append(len(frame))
        if len(self.sizes) - 1 != self.number:
            return frame
        changed = bytearray(frame)
        changed[self.place] ^= self.bits
        return bytes(changed)


def flip_everything(kind: Kind, site: str, direction: str, threshold: int, stride: int = 1) -> None:
    """Run one session for every byte (or every second, ...) of every frame of a site."""
    params = session(3, kind, 1, threshold=threshold, steps=2 if kind is Kind.STEP else 1)
    vector = vectors(params)
    watching = Damage(site)
    simulation(params, vector, **{direction: watching}).run()
    ended = 0
    for number, size in enumerate(watching.sizes):
        for place in range(number % stride, size, stride):
            damage = Damage(site, number, place, BITS[place // stride % len(BITS)])
            run = simulation(params, vector, **{direction: damage})
            opened = []
            try:
                opened = run.run()
            except Abort:
                ended += 1
            if opened:
                assert_true(vector, opened, run.opened_at)
            else:  # a step may have been opened before the session ended
                for told in run.opened_at.values():
                    assert all(
                        (one.total == sum(vector(name, one.step) for name in params.names)).all() for one in told
                    )
            assert len(damage.sizes) > number, "the damaged frame was never on its way"
    if kind is Kind.STEP and direction == "upward":
        assert ended == sum(watching.sizes), "damage on the way up always ends a step session"


@pytest.mark.parametrize("direction", ["upward", "downward"])
def test_every_byte_of_a_step_session(direction: str) -> None:
    """The middle one of three sites, which both adds and subtracts masks."""
    flip_everything(Kind.STEP, "site-001", direction, 3)


@pytest.mark.parametrize("direction", ["upward", "downward"])
def test_every_fourth_byte_of_a_round_session(direction: str) -> None:
    """The middle one of three sites, of which two are enough."""
    flip_everything(Kind.ROUND, "site-001", direction, 2, stride=4)


@pytest.mark.full
@pytest.mark.parametrize("direction", ["upward", "downward"])
@pytest.mark.parametrize("site", ["site-000", "site-001", "site-002"])
@pytest.mark.parametrize(
    ("kind", "threshold"),
    [(Kind.STEP, 3), (Kind.ROUND, 2), (Kind.ROUND, 3)],
    ids=["step", "round 2 of 3", "round 3 of 3"],
)
def test_every_byte_of_every_message(kind: Kind, site: str, threshold: int, direction: str) -> None:
    """Every site, both ways, also with a threshold that nobody may miss."""
    flip_everything(kind, site, direction, threshold)

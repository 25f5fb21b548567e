"""When a vector leaves: at a tick of this site's own clock, whenever the computation was done.

With places (:mod:`dura_client.training.places`) every draw is the same work; what is left is noise of the machine. The
tick hides that, too. Its length is measured here on dummies alone, never taken from a message: a deadline that the
coordinator chooses would be a question about the draw, and being late the answer
(docs/decisions/0036-time-of-a-step.md).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from dura_client.training.clipping import add_noise
from dura_client.training.engine import PatientEngine

log = logging.getLogger(__name__)

RUNS = 5
"""Steps that are measured, after one that is not."""
MARGIN = 1.25
"""The tick over the longest of them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a site's draws leave."""

    places: int
    """Patients that every step computes."""
    tick: float
    """Seconds; a vector leaves a whole number of ticks after its draw began."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def measured(cls, engine: PatientEngine, places: int, *, steps: int) -> Pace:
        """Measure steps of dummies.

        Args:
            engine: with these places; its model does not change.
            places: as in the engine.
            steps: of one draw.
        """
        seconds = []
        for _ in range(1 + RUNS):
            begin = time.monotonic()
            add_noise(engine.clipped_sum([]), 1.0)
            seconds.append(time.monotonic() - begin)
        tick = MARGIN * max(seconds[1:]) * steps
        log.info("draws of %d patients, real ones and dummies, leave at ticks of %.3g seconds", places, tick)
        return cls(places, tick)

    def wait(self, begun: float) -> None:
        """Wait for the next tick after a draw that began at ``begun`` on the clock."""
        ticks = max(1, math.ceil((self.clock() - begun) / self.tick))
        if ticks > 1:
            log.info("a draw took %d ticks", ticks)
        while (left := begun + ticks * self.tick - self.clock()) > 0:
            self.sleep(left)

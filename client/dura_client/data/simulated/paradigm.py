"""What simulated patients do, and where: the demo's motor imagery, or what a study's own contract asks for.

A class is a place on the cortex whose rhythm weakens while the task lasts. For two classes these are the hand
areas (the hand opposite to the hemisphere); further classes get places of their own, so that a study with any
number of classes, channels, rates and window lengths can be rehearsed. The effect is that of motor imagery
whatever the study asks: a rehearsal tells what the cohort, the noise and the model allow, and nothing about
whether the question itself has an answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dura_client.data.simulated.hospitals import HOSPITALS, MEG_HOSPITALS, Hospital
from dura_common.study import SignalContract

JITTER_SECONDS = 0.2
"""Most that a cue comes later than planned."""
REST_SECONDS = 0.15
"""After the task, before the next trial."""
HANDS = ("right", "left")
"""Hemisphere that weakens for the first and the second class."""
MOTOR_RHYTHM = 10.5
"""Hz."""
RATE_MARGIN = 2.6
"""Sampling rate over the upper edge of the study's band: room for the filter's slope."""


@dataclass(frozen=True, slots=True)
class Paradigm:
    """Time course and places of a task."""

    task: str = "motorimagery"
    cue_seconds: float = 0.75
    """From the beginning of a trial to its cue."""
    active: tuple[float, float] = (0.4, 3.4)
    """Seconds after the cue between which the rhythm is weak."""
    rhythm: float = MOTOR_RHYTHM
    """Mean frequency over patients, Hz."""
    areas: tuple[str, ...] = HANDS
    """The place of each class."""

    @property
    def trial_seconds(self) -> float:
        """Length of a trial."""
        return self.cue_seconds + JITTER_SECONDS + self.active[1] + REST_SECONDS

    @property
    def extra_areas(self) -> int:
        """Places besides the two hand areas."""
        return len(self.areas) - len(HANDS)


def paradigm_of(contract: SignalContract) -> Paradigm:
    """Return a paradigm whose task fills the contract's windows, with a rhythm inside its band."""
    demo = Paradigm()
    low, high = contract.band
    return Paradigm(
        task=contract.task,
        cue_seconds=max(demo.cue_seconds, 0.25 - contract.window_start),
        active=(
            min(demo.active[0], contract.window_start),
            max(demo.active[1], contract.window_start + contract.window_length),
        ),
        rhythm=MOTOR_RHYTHM if low <= MOTOR_RHYTHM - 2 and high >= MOTOR_RHYTHM + 2 else math.sqrt(low * high),
        areas=(*HANDS, *(f"extra-{number}" for number in range(len(contract.classes) - len(HANDS)))),
    )


def hospital_for(contract: SignalContract, index: int) -> Hospital:
    """Return the profile of a study's ``index``-th site: one of the four, with what the contract needs besides.

    It records the study's channels beside its own, of MEG the study's alone, fast enough for the band, and codes events
    by class name.
    """
    if contract.source == "meg":
        profile = replace(list(MEG_HOSPITALS.values())[index % len(MEG_HOSPITALS)], channels=())
    else:
        profile = list(HOSPITALS.values())[index % len(HOSPITALS)]
    known = {name.lower() for name in profile.channels}
    missing = tuple(name for name in contract.channels if name.lower() not in known)
    return replace(
        profile,
        channels=(*profile.channels, *missing),
        rate=float(math.ceil(max(profile.rate, RATE_MARGIN * contract.band[1]))),
        codes=contract.classes,
        stored_scale=1.0,
    )

"""What a study costs, derived from the study alone: coordinator and site compute it and must agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from dura_common.privacy.accounting import calibrate_evaluation, calibrate_training, epsilon_of
from dura_common.privacy.events import Gaussian, SampledGaussian
from dura_common.study import LocalNoise, Study


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """Noise and cost of a study; without noise the events are absent and epsilon is infinite."""

    noise_multiplier: float
    """Of training; 0 without noise."""
    round_event: SampledGaussian | None
    """What one round costs each training patient."""
    training_event: SampledGaussian | None
    """What all rounds together cost."""
    evaluation_events: Mapping[int, Gaussian]
    """Round to what its evaluation costs each held-out patient."""
    training_epsilon: float
    evaluation_epsilon: float


@lru_cache(maxsize=64)
def _plan(text: str) -> PrivacyPlan:
    study = Study.model_validate_json(text)
    privacy = study.privacy
    if not isinstance(privacy, LocalNoise) or study.evaluation.epsilon is None:
        return PrivacyPlan(0.0, None, None, MappingProxyType({}), math.inf, math.inf)
    noise = calibrate_training(privacy.epsilon, privacy.delta, privacy.participation, study.training.steps)
    whole = SampledGaussian(participation=privacy.participation, noise_multiplier=noise, steps=study.training.steps)
    rounds = study.evaluation.rounds(study.training.rounds)
    curve, final = calibrate_evaluation(study.evaluation.epsilon, privacy.delta, len(rounds))
    events = {number: Gaussian(noise_multiplier=curve) for number in rounds[:-1]}
    events[rounds[-1]] = Gaussian(noise_multiplier=final)
    return PrivacyPlan(
        noise_multiplier=noise,
        round_event=whole.model_copy(update={"steps": study.training.steps_per_round}),
        training_event=whole,
        evaluation_events=MappingProxyType(events),
        training_epsilon=epsilon_of([whole], privacy.delta),
        evaluation_epsilon=epsilon_of(events.values(), privacy.delta),
    )


def plan_of(study: Study) -> PrivacyPlan:
    """Return the plan of a study; the same study gives the same plan everywhere (seconds once, then cached)."""
    return _plan(study.model_dump_json())

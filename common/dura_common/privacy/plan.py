"""What a study costs, derived from the study alone: coordinator and site compute it and must agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TypeVar

from dura_common.errors import InputError
from dura_common.privacy.accounting import calibrate_evaluation, calibrate_training, epsilon_of
from dura_common.privacy.events import Gaussian, SampledGaussian
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.rounding import smallest_share
from dura_common.privacy.tails import smallest_multiplier
from dura_common.study import PatientNoise, SharedNoise, Study

AnyEvent = TypeVar("AnyEvent", SampledGaussian, Gaussian)
MOST_VALUES = 1 << 50
"""More numbers than any study releases: parameters times steps."""
NEGLIGIBLE = 1e-6
"""Share of delta that the rounding of noise shares and the end of their tails may add each; far below the accountant's
own rounding."""


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """Noise and cost of a study. Without noise, there are no events and epsilon is infinite.

    Events and epsilons hold against everybody outside. An outsider sees only opened sums, and knows the noise of the
    declared colluders. ``*_if_broken`` hold against a coordinator who broke the aggregation and sees the vectors of one
    site separately. With local noise, both are the same.
    """

    noise_multiplier: float
    """Noise multiplier of the opened sum in a step of training; 0 without noise."""
    honest_sites: int
    """h: number of sites whose shares together make up the noise of a sum; 1 with local noise."""
    training_event: SampledGaussian | None
    """The cost of all rounds together, including spare steps."""
    evaluation_events: Mapping[int, Gaussian]
    """Maps each round to the cost of one draw of its evaluation for each held-out patient."""
    training_epsilon: float
    evaluation_epsilon: float
    training_epsilon_if_broken: float
    evaluation_epsilon_if_broken: float

    def share_of(self, noise_multiplier: float) -> float:
        """Return the noise multiplier of one site's share, so that the honest sites together reach the given one.

        Variances of independent Gaussians add up (Dwork et al. 2006, EUROCRYPT, "Our data, ourselves").
        """
        return noise_multiplier / math.sqrt(self.honest_sites)

    @property
    def share_multiplier(self) -> float:
        """The noise multiplier of one site's share in a step of training."""
        return self.share_of(self.noise_multiplier)

    @property
    def epsilon(self) -> float:
        """The largest epsilon of any patient, against everybody outside. No patient both trains and is held out."""
        return max(self.training_epsilon, self.evaluation_epsilon)

    @property
    def epsilon_if_broken(self) -> float:
        """The largest epsilon of any patient, against a coordinator who broke the aggregation."""
        return max(self.training_epsilon_if_broken, self.evaluation_epsilon_if_broken)


@lru_cache(maxsize=64)
def _plan(text: str) -> PrivacyPlan:
    study = Study.model_validate_json(text)
    privacy = study.privacy
    if not isinstance(privacy, PatientNoise) or study.evaluation.epsilon is None:
        return PrivacyPlan(0.0, 1, None, MappingProxyType({}), math.inf, math.inf, math.inf, math.inf)
    noise = calibrate_training(privacy.epsilon, privacy.delta, privacy.participation, study.paid_steps)
    whole = SampledGaussian(participation=privacy.participation, noise_multiplier=noise, steps=study.paid_steps)
    rounds = study.evaluation.rounds(study.training.rounds)
    draws = 1 + study.evaluation.spare_draws
    # The squares of inverse noise add up over draws of a Gaussian.
    curve, final = (
        one * math.sqrt(draws) for one in calibrate_evaluation(study.evaluation.epsilon, privacy.delta, len(rounds))
    )
    events = {number: Gaussian(noise_multiplier=curve) for number in rounds[:-1]}
    events[rounds[-1]] = Gaussian(noise_multiplier=final)
    all_draws = [event.model_copy(update={"count": draws}) for event in events.values()]
    honest = study.honest_sites if isinstance(privacy, SharedNoise) else 1
    for noise_multiplier, releases in ((noise, study.paid_steps), (curve, len(rounds)), (final, 1)):
        _check_tails(noise_multiplier / math.sqrt(honest), releases, privacy.delta)
        _check_grid(
            noise_multiplier, honest, epsilon=max(privacy.epsilon, study.evaluation.epsilon), delta=privacy.delta
        )
    return PrivacyPlan(
        noise_multiplier=noise,
        honest_sites=honest,
        training_event=whole,
        evaluation_events=MappingProxyType(events),
        training_epsilon=epsilon_of([whole], privacy.delta),
        evaluation_epsilon=epsilon_of(all_draws, privacy.delta),
        training_epsilon_if_broken=epsilon_of([alone(whole, honest)], privacy.delta),
        evaluation_epsilon_if_broken=epsilon_of([alone(event, honest) for event in all_draws], privacy.delta),
    )


def alone(event: AnyEvent, honest_sites: int) -> AnyEvent:
    """Return the event for somebody who sees one site's vector separately: its noise is one share."""
    return event.model_copy(update={"noise_multiplier": event.noise_multiplier / math.sqrt(honest_sites)})


def _check_grid(noise_multiplier: float, honest: int, *, epsilon: float, delta: float) -> None:
    """Refuse noise that is so small on the integer grid that the sum of rounded shares is no longer Gaussian.

    Evaluations have a finer grid (:mod:`dura_common.outputs.scores`), so the one of training is asked of both.
    """
    share = noise_multiplier / math.sqrt(honest) * WHOLE
    needed = smallest_share(honest, MOST_VALUES, epsilon, NEGLIGIBLE * delta)
    if share < needed:
        raise InputError(
            f"each site's noise would be {share:.3g} steps of the grid, but at least {needed:.3g} are needed",
            hint="Ask for a smaller epsilon, or for fewer honest sites to make up the noise.",
        )


def _check_tails(share: float, releases: int, delta: float) -> None:
    """Refuse a site's noise whose tails would end where a patient can still be seen (:mod:`.tails`)."""
    needed = smallest_multiplier(releases, NEGLIGIBLE * delta)
    if share < needed:
        raise InputError(
            f"each site's noise would be {share:.3g} of what one patient adds, at least {needed:.3g} are needed: "
            "with less noise, nobody would be protected if the aggregation were broken",
            hint="Ask for a smaller epsilon, or for fewer honest sites to make up the noise.",
        )


def plan_of(study: Study) -> PrivacyPlan:
    """Return the plan of a study; the same study gives the same plan everywhere (seconds once, then cached)."""
    return _plan(study.model_dump_json())

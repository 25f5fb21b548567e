"""What a privacy loss means to a patient, in words: how well the best attack can tell whether somebody took part.

Epsilon is a bound on a ratio that nobody can picture. The trade-off curve (Dong, Roth and Su 2022, J. R. Stat. Soc. B
84:3; Kulynych et al. 2024, arXiv 2407.02191) says it as two figures that a person can judge. For a patient with
privacy curve delta(e), the worse one of adding and removing the patient, every attack obeys at every e >= 0

    hits <= delta(e) + exp(e) false alarms    and    1 - false alarms <= delta(e) + exp(e) (1 - hits)

so that hits minus false alarms is at most delta(0). The curve comes from the privacy loss distribution: (epsilon,
delta) alone would overstate the risk five times at epsilon 1.

The attack knows everything about all other patients, sees everything that is released, and asks about one given
patient. The figures hold for one person at one hospital, and say nothing about what a model tells of groups.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dura_common.privacy.accounting import SMALLEST_NOISE, mechanism_of
from dura_common.privacy.blocks import blocks_of
from dura_common.privacy.composition import Composition
from dura_common.privacy.events import Gaussian, SampledGaussian
from dura_common.privacy.loss import Sampled
from dura_common.study import Study

FALSE_ALARMS = 0.01
"""Share of patients who took no part and whom the attack may accuse wrongly."""
_ORDERS = np.concatenate([[0.0], np.geomspace(1e-3, 60.0, 400)])
"""Epsilons at which the curve is read; a coarser choice would only make the bounds looser."""


@dataclass(frozen=True, slots=True)
class Risk:
    """Bounds on the best attack on one patient."""

    advantage: float
    """Hits minus false alarms, at most."""
    hits: float
    """Share of those who took part whom the attack recognises, at most, with :data:`FALSE_ALARMS`."""

    @property
    def right(self) -> float:
        """Share of right answers, at most, to whether one given patient took part, with even odds before."""
        return (1 + self.advantage) / 2


CERTAIN = Risk(1.0, 1.0)
"""What is known to everybody."""
NO_RISK = Risk(0.0, FALSE_ALARMS)
"""What a study reveals of somebody who takes no part."""


def risk_of(events: Iterable[SampledGaussian | Gaussian]) -> Risk:
    """Return the risk of all events together to one patient."""
    totals: Counter[Sampled] = Counter()
    for event in events:
        mechanism, times = mechanism_of(event)
        totals[mechanism] += times
    if not totals:
        return NO_RISK
    if any(mechanism.noise_multiplier < SMALLEST_NOISE for mechanism in totals):
        return CERTAIN
    items = sorted(totals.items(), key=lambda item: (item[0].participation, item[0].noise_multiplier))
    deltas = Composition.of(tuple(items)).deltas(_ORDERS)
    bounds = np.minimum(deltas + np.exp(_ORDERS) * FALSE_ALARMS, 1 - np.exp(-_ORDERS) * (1 - FALSE_ALARMS - deltas))
    return Risk(min(1.0, float(deltas[0])), float(np.clip(bounds.min(), FALSE_ALARMS, 1.0)))


def risk_of_mu(mu: float, leak: float) -> Risk:
    """Return the risk of studies under a filter of Gaussian privacy ``mu``, but for an event of probability ``leak``.

    Raises:
        ValueError: ``mu`` is negative, or ``leak`` no probability.
    """
    if not (mu >= 0 and 0 <= leak <= 1):
        raise ValueError("mu must not be negative, and leak is a probability")
    from scipy.special import ndtr, ndtri  # noqa: PLC0415  # scipy takes 30 MiB, and a process that only waits composes nothing

    advantage = 2 * float(ndtr(mu / 2)) - 1
    hits = float(ndtr(ndtri(FALSE_ALARMS) + mu))
    return Risk(min(1.0, advantage + leak), min(1.0, hits + leak))


def risk_of_study(study: Study, *, broken: bool = False) -> Risk:
    """Return the risk of a study to the patient who bears most, spare draws included.

    Args:
        study: with or without noise; without it, the risk is certain.
        broken: to somebody who broke the aggregation and sees one site's vectors alone.
    """
    risks = []
    for purpose in ("train", "evaluate"):
        mine = [block for block in blocks_of(study) if block.purpose == purpose]
        events = [block.alone if broken else block.event for block in mine]
        if any(event is None for event in events):
            return CERTAIN
        risks.append(risk_of(event for event in events if event is not None))
    return Risk(max(risk.advantage for risk in risks), max(risk.hits for risk in risks))


def sentences(risk: Risk, *, what: str = "this study") -> tuple[str, ...]:
    """Return the risk as sentences for people; figures are rounded up."""
    if risk.right >= 1:  # nothing between these figures and certainty
        return (f"Whoever sees all that {what} releases may tell with certainty whether a given patient took part.",)
    asked = (
        f"Suppose that somebody knows everything about all other patients and sees everything that {what} releases. "
        "Asked whether one given patient took part, with even odds before, this person is right at most "
        f"{of_hundred(risk.right)} times in 100. Guessing gives 50."
    )
    accused = (
        "If this person accepts 1 false alarm in 100 patients who took no part, this person recognises at most "
        f"{of_hundred(risk.hits)} in 100 of those who did. Without {what}, it would be 1."
    )
    return asked, accused


def of_hundred(share: float) -> str:
    """Return a share as a number of a hundred, rounded up to one decimal."""
    return f"{min(100.0, math.ceil(round(share * 1000, 6)) / 10):g}"

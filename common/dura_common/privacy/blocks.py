"""A study's blocks: what an approval sets aside of each patient's budget, in parts that are spent or come back whole.

Training is one block, its spare draws are another, each evaluation is one, and its spare draws one more. A draw is
one vector of a site: with shared noise one step, otherwise all steps of one round. A block is charged as a whole once
one of its draws has begun, since when to stop is the coordinator's choice and the price of steps does not add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dura_common.privacy.events import Gaussian, SampledGaussian
from dura_common.privacy.plan import PrivacyPlan, alone, plan_of
from dura_common.study import SharedNoise, Study

BlockName = Literal["train", "spare", "evaluate", "evaluate-spare"]
Purpose = Literal["train", "evaluate"]
AnyEvent = SampledGaussian | Gaussian


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a study."""

    name: BlockName
    round: int
    """Which evaluation; 0 for training and its spare draws."""
    draws: int
    """Vectors that a site may send of it."""
    event: AnyEvent | None
    """What all draws together do to a patient in the world's eyes; None without noise."""
    alone: AnyEvent | None
    """The same to somebody who broke the aggregation and sees this site's vectors by themselves."""

    @property
    def purpose(self) -> Purpose:
        """Whom it is about: patients who train, or patients who are held out."""
        return "train" if self.name in {"train", "spare"} else "evaluate"


def steps_of_draw(study: Study) -> int:
    """Return how many steps of training one vector of a site holds."""
    return 1 if isinstance(study.privacy, SharedNoise) else study.training.steps_per_round


def blocks_of(study: Study) -> tuple[Block, ...]:
    """Return the blocks of a study; site and coordinator derive the same."""
    plan = plan_of(study)
    each = steps_of_draw(study)
    blocks = [_steps("train", study.training.steps // each, each, plan)]
    if study.aggregation.spare_steps >= each:
        blocks.append(_steps("spare", study.aggregation.spare_steps // each, each, plan))
    for number in study.evaluation.rounds(study.training.rounds):
        blocks.append(_sums("evaluate", number, 1, plan))
        if study.evaluation.spare_draws:
            blocks.append(_sums("evaluate-spare", number, study.evaluation.spare_draws, plan))
    return tuple(blocks)


def _steps(name: BlockName, draws: int, each: int, plan: PrivacyPlan) -> Block:
    whole = plan.training_event
    event = None if whole is None else whole.model_copy(update={"steps": draws * each})
    return Block(name, 0, draws, event, None if event is None else alone(event, plan.honest_sites))


def _sums(name: BlockName, number: int, draws: int, plan: PrivacyPlan) -> Block:
    one = plan.evaluation_events.get(number)
    event = None if one is None else one.model_copy(update={"count": draws})
    return Block(name, number, draws, event, None if event is None else alone(event, plan.honest_sites))

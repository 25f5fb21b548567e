"""A study's blocks: the parts of the budget that an approval sets aside. A block is spent or returned as a whole.

Training is one block, and its spare draws are another. Each evaluation is one block, and its spare draws are another.
A draw gives one vector of a site: one step with shared noise, otherwise all steps of one round. As soon as one draw of
a block has begun, the whole block is charged. The coordinator decides when to stop, and the prices of steps do not add
up.
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
    """The round of the evaluation; 0 for training and its spare draws."""
    draws: int
    """Number of vectors of this block that a site may send."""
    event: AnyEvent | None
    """What all draws together reveal about a patient to everybody outside; None without noise."""
    alone: AnyEvent | None
    """What all draws together reveal to somebody who broke the aggregation and sees this site's vectors separately."""

    @property
    def purpose(self) -> Purpose:
        """The patients that the block concerns: training patients or held-out patients."""
        return "train" if self.name in {"train", "spare"} else "evaluate"


def steps_of_draw(study: Study) -> int:
    """Return how many steps of training one vector of a site contains."""
    return 1 if isinstance(study.privacy, SharedNoise) else study.training.steps_per_round


def blocks_of(study: Study) -> tuple[Block, ...]:
    """Return the blocks of a study; site and coordinator compute the same blocks."""
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

"""What a study measures on held-out patients, and what of it is released."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dura_common.study.validation import Frozen


class Evaluation(Frozen):
    """Held-out accuracy, released as noisy sums. Held-out patients never train."""

    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Probability that the keyed hash of a patient (or recording) puts it on the held-out side."""
    split: Literal["patients", "recordings"] = "patients"
    every: Annotated[int, Field(ge=1)] = 2
    """Rounds between two points of the learning curve; the last round is always evaluated."""
    epsilon: Annotated[float, Field(gt=0, le=100)] | None = None
    """Of all evaluations together, spent by held-out patients. Absent exactly if ``noise = "none"``."""
    outputs: Annotated[tuple[Literal["accuracy", "confusion", "auc"], ...], Field(min_length=1, max_length=3)] = (
        "accuracy",
    )
    """What the final evaluation releases; the outputs share its budget. The curve has the accuracy alone."""
    bins: Annotated[int, Field(ge=2, le=200)] = 20
    """Of the score histograms from which the area under the curve is computed."""
    score_scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Difference of logits that counts as one unit of score; linear models of unit vectors have small ones."""
    smallest_cell: Annotated[int, Field(ge=1, le=1000)] = 5
    """Fewest patients that a cell of a confusion matrix may show."""
    minimum_held_out: Annotated[int, Field(ge=2, le=100_000)] = 2
    """Fewest held-out patients that a site is expected to have, by its declared number: live counts are never used."""
    spare_draws: Annotated[int, Field(ge=0, le=100)] = 0
    """How often each evaluation may be made again after a loss; the noise is sized as if every one of them was made.
    None by default: every patient enters every evaluation, so that a second one costs as much as the first."""
    duplicates: bool = False
    """After the last round, count recordings that more than one site holds; only with ``noise = "none"``."""

    @model_validator(mode="after")
    def _outputs(self) -> Self:
        if "accuracy" not in self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise ValueError('outputs must hold "accuracy", and nothing twice')
        return self

    def rounds(self, total: int) -> tuple[int, ...]:
        """Return the rounds (1-based) after which the model is evaluated; the last one is the final point."""
        curve = range(self.every, total, self.every)
        return (*curve, total)

"""What a study measures on held-out patients, and which of these figures are released."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dura_common.study.validation import Frozen


class Evaluation(Frozen):
    """Held-out accuracy, released as noisy sums. Held-out patients never train."""

    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Probability that a patient (or a recording) is held out; a keyed hash decides."""
    split: Literal["patients", "recordings"] = "patients"
    every: Annotated[int, Field(ge=1)] = 2
    """Rounds between two points of the learning curve; the last round is always evaluated."""
    epsilon: Annotated[float, Field(gt=0, le=100)] | None = None
    """Epsilon of all evaluations together; held-out patients spend it. Absent exactly if ``noise = "none"``."""
    outputs: Annotated[
        tuple[Literal["accuracy", "confusion", "auc", "error", "fit"], ...], Field(min_length=1, max_length=3)
    ] = ("accuracy",)
    """What the final evaluation releases; the outputs share its budget. With target = "class": accuracy, confusion,
    auc. With target = "value": error (the mean absolute error) and fit (the share of explained variance). The learning
    curve has the accuracy alone, or the error alone."""
    bins: Annotated[int, Field(ge=2, le=200)] = 20
    """Number of bins of the score histograms from which the area under the ROC curve is computed."""
    score_scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Difference of logits that counts as one unit of score. Linear models of unit vectors need a small value."""
    smallest_cell: Annotated[int, Field(ge=1, le=1000)] = 5
    """Smallest number of patients that a cell of a confusion matrix may show."""
    minimum_held_out: Annotated[int, Field(ge=2, le=100_000)] = 2
    """Smallest expected number of held-out patients per site, computed from the declared number of patients."""
    spare_draws: Annotated[int, Field(ge=0, le=100)] = 0
    """How often each evaluation may be repeated after a loss. Their cost is counted in advance. None by default: every
    held-out patient enters every evaluation, so a second one costs as much as the first."""
    duplicates: bool = False
    """Count, after the last round, the recordings that more than one site holds. Only with ``noise = "none"``."""

    @model_validator(mode="after")
    def _outputs(self) -> Self:
        kinds = [{"accuracy", "confusion", "auc"}, {"error", "fit"}]
        mixed = not any(set(self.outputs) <= kind for kind in kinds)
        if mixed or not {"accuracy", "error"} & set(self.outputs) or len(set(self.outputs)) != len(self.outputs):
            raise ValueError(
                'outputs must contain "accuracy", with "confusion" and "auc" if they are wanted, and no output twice; '
                'for a value, "error" and perhaps "fit"'
            )
        return self

    @property
    def curve(self) -> tuple[Literal["accuracy", "error"]]:
        """The one output of every point of the learning curve."""
        return ("error",) if "error" in self.outputs else ("accuracy",)

    def rounds(self, total: int) -> tuple[int, ...]:
        """Return the rounds (1-based) after which the model is evaluated; the last one is the final point."""
        curve = range(self.every, total, self.every)
        return (*curve, total)

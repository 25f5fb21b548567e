"""How a study may train: one schema per engine; the key ``engine`` selects it.

Every engine trains by federated averaging: in each round, each site makes ``steps_per_round`` steps from the common
model. With one step per round, the average over sites is one step over the patients of all sites.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from dura_common.study.validation import Frozen, by_key

Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""Seed of the first parameters only. Sampling and noise come from the operating system and have no seed."""


class DpSgdTraining(Frozen):
    """DP-SGD that samples patients (Abadi et al. 2016; McMahan et al. 2018): any model, many steps."""

    engine: Literal["dp-sgd"] = "dp-sgd"
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    steps_per_round: Annotated[int, Field(ge=1, le=100_000)]
    optimiser: Literal["sgd", "adam"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=100)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Seed = 1

    @property
    def steps(self) -> int:
        """Number of steps of the whole study at one site."""
        return self.rounds * self.steps_per_round


class OneSumTraining(Frozen):
    """One noisy sum: the difference of class means of the patients' unit vectors. Nothing to tune.

    The mechanism is the first step of residual descent from zero. At epsilon 1 it was better than every iterative
    engine.
    """

    engine: Literal["one-sum"]
    rounds: Literal[1] = 1
    steps_per_round: Literal[1] = 1
    seed: Seed = 1

    @property
    def steps(self) -> int:
        """Number of steps of the whole study at one site."""
        return 1


class ResidualDescentTraining(Frozen):
    """A few steps of gradient descent on the squared loss over all patients, each residual clipped to length one."""

    engine: Literal["residual-descent"]
    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    steps_per_round: Annotated[int, Field(ge=1, le=100)] = 1
    step_size: Annotated[float, Field(gt=0, le=100)] = 5.0
    """Factor of the mean over declared patients. Training diverges above 2 divided by the largest eigenvalue of the
    second-moment matrix of the patients' vectors."""
    average: bool = False
    """Return the mean of a round's iterates instead of the last iterate: it has less noise and a weaker fit."""
    seed: Seed = 1

    @property
    def steps(self) -> int:
        """Number of steps of the whole study at one site."""
        return self.rounds * self.steps_per_round


Training = Annotated[
    Annotated[DpSgdTraining, Tag("=dp-sgd")]
    | Annotated[OneSumTraining, Tag("=one-sum")]
    | Annotated[ResidualDescentTraining, Tag("=residual-descent")],
    by_key("engine", "dp-sgd", "one-sum", "residual-descent"),
]

"""The optimiser's steps that every site and the coordinator make alike from the same opened sums.

With shared noise, a sum is opened at every step, and each party makes the step separately. The results must agree in
every bit, on any processor; otherwise, the model hashes would differ. A step is therefore computed element by element
in float64, only with additions, multiplications, divisions and square roots, which IEEE 754 rounds exactly. No sum
depends on an order that a processor could choose, and no subnormal number is kept. An auditor can repeat a training
from its opened sums alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dura_common.errors import InputError
from dura_common.models.vector import load_vector, to_vector
from dura_common.models.zoo import project_constraints
from dura_common.study.training import DpSgdTraining, OneSumTraining, ResidualDescentTraining

FIRST_DECAY = 0.9
SECOND_DECAY = 0.999
STABILISER = 1e-8
"""Adam's constants as published (Kingma and Ba 2015, algorithm 1)."""

SMALLEST = float(np.finfo(np.float32).smallest_normal)
Vector = NDArray[np.float32]
AnyTraining = DpSgdTraining | OneSumTraining | ResidualDescentTraining


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything on which the next step depends. It is public, and the same at every site."""

    parameters: Vector
    """float32 (parameters,)."""
    moments: tuple[Vector, ...]
    """Adam: first and second; SGD with momentum: the velocity; plain SGD: none. Each float32 (parameters,)."""
    steps: int
    """Steps made since the training began."""

    def to_vector(self) -> Vector:
        """Return parameters and moments as one vector, the form in which a state travels."""
        return np.concatenate([self.parameters, *self.moments])

    def digest(self) -> str:
        """Return the SHA-256 of the state: 64 hex digits that tell whether two parties are at the same point."""
        content = self.steps.to_bytes(8, "big") + self.to_vector().astype("<f4").tobytes()
        return hashlib.sha256(content).hexdigest()


@dataclass(frozen=True, slots=True)
class StepRule:
    """The rule by which a gradient becomes a step."""

    adam: bool
    learning_rate: float
    momentum: float = 0.0

    @property
    def moments(self) -> int:
        """Number of vectors that the state holds in addition to the parameters."""
        return 2 if self.adam else 1 if self.momentum else 0


def rule_of(training: AnyTraining) -> StepRule:
    """Return the rule of a study's engine."""
    if isinstance(training, OneSumTraining):
        return StepRule(adam=False, learning_rate=1.0)
    if isinstance(training, ResidualDescentTraining):
        return StepRule(adam=False, learning_rate=training.step_size)
    return StepRule(training.optimiser == "adam", training.learning_rate, training.momentum)


def first_state(network: nn.Module, rule: StepRule) -> TrainingState:
    """Return the state before the first step of a training."""
    parameters = to_vector(network)
    return TrainingState(parameters, tuple(np.zeros_like(parameters) for _ in range(rule.moments)), 0)


def state_from_vector(vector: Vector, rule: StepRule, *, length: int, steps: int) -> TrainingState:
    """Read a state from a message.

    Args:
        vector: float32 ((1 + moments) * length,).
        rule: of the approved study; it says how many moments there are.
        length: number of parameters of the study's model.
        steps: steps made before this state.

    Raises:
        InputError: the length or type is wrong, a value is not finite, or a second moment is negative.
    """
    parts = 1 + rule.moments
    if vector.shape != (parts * length,) or vector.dtype != np.float32:
        raise InputError(
            f"a training state of {parts} times {length} float32 is expected, got {vector.dtype} of {vector.shape}"
        )
    if not np.isfinite(vector).all():
        raise InputError("the training state holds a value that is not a finite number")
    parameters, *moments = np.split(vector, parts)
    if rule.adam and (moments[1] < 0).any():
        raise InputError("the training state holds a negative mean of squares")
    return TrainingState(parameters, tuple(moments), steps)


def advance(
    network: nn.Module, state: TrainingState, total: NDArray[np.int64], rule: StepRule, *, scale: float
) -> TrainingState:
    """Make one step with an opened sum and load the new parameters into ``network``.

    Args:
        network: the study's model; its constraints are projected after the step (post-processing, hence free).
        state: the state before the step.
        total: int64 (parameters,), the noised sum of clipped gradients in steps of the grid.
        rule: of the approved study.
        scale: turns the integers of ``total`` into the mean gradient: the grid divided by the public divisor.

    Raises:
        ValueError: ``total`` has another length or type.
    """
    if total.shape != state.parameters.shape or total.dtype != np.int64:
        raise ValueError(f"a sum of {state.parameters.size} int64 is expected, got {total.dtype} of {total.shape}")
    gradient = total.astype(np.float64) * scale
    update, moments = _adam(state, gradient) if rule.adam else _sgd(state, gradient, rule.momentum)
    stepped = state.parameters.astype(np.float64) - rule.learning_rate * update
    load_vector(network, _stored(stepped))
    project_constraints(network)
    return TrainingState(to_vector(network), moments, state.steps + 1)


def _adam(state: TrainingState, gradient: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[Vector, ...]]:
    first, second = (moment.astype(np.float64) for moment in state.moments)
    first = FIRST_DECAY * first + (1 - FIRST_DECAY) * gradient
    second = SECOND_DECAY * second + (1 - SECOND_DECAY) * (gradient * gradient)
    step = state.steps + 1
    root = np.sqrt(second / (1 - _power(SECOND_DECAY, step))) + STABILISER
    update = first / (1 - _power(FIRST_DECAY, step)) / root
    return update, (_stored(first), _stored(second))


def _sgd(
    state: TrainingState, gradient: NDArray[np.float64], momentum: float
) -> tuple[NDArray[np.float64], tuple[Vector, ...]]:
    if not momentum:
        return gradient, ()
    velocity = momentum * state.moments[0].astype(np.float64) + gradient
    return velocity, (_stored(velocity),)


def _stored(values: NDArray[np.float64]) -> Vector:
    """Round to float32, and what is below its normal numbers to zero.

    Whether a processor keeps subnormal numbers is a setting of each process. A site's runner does not, since they are
    slow (:mod:`dura_client.training.subnormals`); so nobody does.
    """
    stored: Vector = np.where(np.abs(values) < SMALLEST, 0.0, values).astype(np.float32)
    return stored


def _power(base: float, exponent: int) -> float:
    """Return a power by squaring: a library's own ``pow`` may differ in the last bit from machine to machine."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result

"""Models that are ready for patient-level privacy, and their parameters as one flat vector."""

from dura_common.models.eegnet import EEGNet
from dura_common.models.steps import StepRule, TrainingState, advance, first_state, rule_of, state_from_vector
from dura_common.models.vector import load_vector, parameter_total, to_vector
from dura_common.models.zoo import build, build_model, project_constraints

__all__ = [
    "EEGNet",
    "StepRule",
    "TrainingState",
    "advance",
    "build",
    "build_model",
    "first_state",
    "load_vector",
    "parameter_total",
    "project_constraints",
    "rule_of",
    "state_from_vector",
    "to_vector",
]

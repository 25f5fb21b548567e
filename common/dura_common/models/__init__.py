"""Models that are ready for patient-level privacy, and their parameters as one flat vector."""

from dura_common.models.eegnet import EEGNet, parameter_count
from dura_common.models.steps import TrainingState, advance, first_state, state_from_vector
from dura_common.models.vector import load_vector, to_vector
from dura_common.models.zoo import build, project_constraints

__all__ = [
    "EEGNet",
    "TrainingState",
    "advance",
    "build",
    "first_state",
    "load_vector",
    "parameter_count",
    "project_constraints",
    "state_from_vector",
    "to_vector",
]

"""Privacy costs as data: immutable events, one accountant, always "add or remove one patient"."""

from dura_common.privacy.accounting import calibrate_evaluation, calibrate_training, epsilon_of, steps_that_fit
from dura_common.privacy.events import Event, Gaussian, SampledGaussian, event_from_json, event_to_json

__all__ = [
    "Event",
    "Gaussian",
    "SampledGaussian",
    "calibrate_evaluation",
    "calibrate_training",
    "epsilon_of",
    "event_from_json",
    "event_to_json",
    "steps_that_fit",
]

"""Privacy events: they record what was done to a patient's data, never an estimate of its cost.

Rules: events are immutable, and they are validated when they are made. A kind of event never changes its meaning and is
never removed, because ledgers keep events for years. An unknown kind is refused, not ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dura_common.errors import InputError
from dura_common.study import Frozen


class SampledGaussian(Frozen):
    """Steps of DP-SGD: Poisson sampling of patients, then a Gaussian sum of sensitivity one."""

    kind: Literal["sampled-gaussian"] = "sampled-gaussian"
    participation: Annotated[float, Field(gt=0, le=1)]
    noise_multiplier: Annotated[float, Field(gt=0)]
    """Standard deviation of the noise over the L2 sensitivity to one patient."""
    steps: Annotated[int, Field(ge=1)]


class Gaussian(Frozen):
    """Sums over all patients of a cohort with Gaussian noise, sensitivity one."""

    kind: Literal["gaussian"] = "gaussian"
    noise_multiplier: Annotated[float, Field(gt=0)]
    count: Annotated[int, Field(ge=1)] = 1


Event = Annotated[SampledGaussian | Gaussian, Field(discriminator="kind")]
_EVENT: TypeAdapter[SampledGaussian | Gaussian] = TypeAdapter(Event)


def event_to_json(event: SampledGaussian | Gaussian) -> str:
    """Return an event in the form for the ledger."""
    return event.model_dump_json()


def event_from_json(text: str) -> SampledGaussian | Gaussian:
    """Read an event from a ledger.

    Raises:
        InputError: the kind is unknown or the values are impossible. A ledger with such a line must not be trusted.
    """
    try:
        return _EVENT.validate_json(text)
    except ValidationError as error:
        raise InputError("the ledger holds a privacy event of an unknown form") from error

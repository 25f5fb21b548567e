"""What a preparation step may depend on, declared where the step is written and checked before anything is released.

A released sum has bounded sensitivity only if a patient's part of it depends on that patient, on constants, or on
something paid for already. A site's mean, a scaler or a feature selected on the site's data is none of these,
although it never leaves the site: subtracting a mean lets one patient change the row of every other.

    @declares(PrivacyClass.PER_PATIENT)
    def euclidean_alignment(windows): ...

A step that declares nothing, and one that uses an unpaid statistic over patients, is refused by the engine. The
declaration is a promise by who writes the step; `tests/client/data/preparing/test_privacy_class.py` has the check that
keeps it: other patients' data must not change a patient's output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from dura_common.errors import PolicyError
from dura_common.privacy import Gaussian, SampledGaussian

_ATTRIBUTE = "privacy_class"
Function = TypeVar("Function", bound=Callable[..., Any])


class PrivacyClass(StrEnum):
    """What a step's output for one patient depends on besides constants."""

    CONSTANT = "constant"
    """Nothing: the same operator for every patient of every site."""
    PER_PATIENT = "per-patient"
    """That patient's own recordings."""
    PAID = "paid"
    """A statistic over patients that was released with noise and stands in the ledger."""
    CROSS_PATIENT = "cross-patient"
    """A statistic over patients that nobody paid for. Good for the site's own eyes only."""


@dataclass(frozen=True, slots=True)
class Step:
    """One preparation step as the engine sees it."""

    name: str
    privacy: PrivacyClass
    payment: SampledGaussian | Gaussian | None = None
    """The event that bought the statistic of a paid step."""


def declares(privacy: PrivacyClass) -> Callable[[Function], Function]:
    """Declare the privacy class of a preparation function; the function itself stays as it is."""

    def mark(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, privacy)
        return function

    return mark


def step_of(function: Callable[..., Any], payment: SampledGaussian | Gaussian | None = None) -> Step:
    """Return the step that a function is.

    Raises:
        PolicyError: it declares nothing; what nobody vouched for is not released.
    """
    name = getattr(function, "__name__", type(function).__name__)
    privacy = getattr(function, _ATTRIBUTE, None)
    if not isinstance(privacy, PrivacyClass):
        raise PolicyError(
            f"the preparation step {name} declares no privacy class",
            hint="Mark it with @declares(PrivacyClass...), see dura_client.data.privacy_class.",
        )
    return Step(name, privacy, payment)


def refuse_unpaid(steps: Iterable[Step], paid: Collection[SampledGaussian | Gaussian] = ()) -> None:
    """Check that nothing computed from prepared patients carries a statistic over patients that nobody paid for.

    Args:
        steps: everything that the patients' data went through.
        paid: events that the ledger holds for statistics of this study.

    Raises:
        PolicyError: a step uses an unpaid statistic over patients, or its payment is not in the ledger.
    """
    for step in steps:
        unpaid = step.privacy is PrivacyClass.PAID and step.payment not in paid
        if unpaid or step.privacy is PrivacyClass.CROSS_PATIENT:
            raise PolicyError(
                f"the preparation step {step.name} uses a statistic over patients that nobody paid for; "
                "nothing computed from it may be released",
                hint="Use a statistic of each patient alone, a constant, or one released with noise.",
            )

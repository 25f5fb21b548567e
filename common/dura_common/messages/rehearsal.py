"""The jobs of a rehearsal for its simulated sites, sent over Flower's simulation engine and never over a network.

The coordinator's package must not import the site's package, but a rehearsal needs the site's simulator, preparation
and training engine. The site's package therefore offers a ClientApp under the entry-point group :data:`GROUP`, and both
packages agree on these messages. A job names no data set. It can only reach patients that a :class:`Simulate` job made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dura_common.errors import DuraError, HostError, InputError
from dura_common.study import AnyContract, Frozen, SiteName, Study

GROUP = "dura.rehearsal"
POINT = "site"
"""Name of the entry point in the group."""


class Simulate(Frozen):
    """Simulate some patients of one site and prepare them for the contract; existing patients stay."""

    kind: Literal["simulate"] = "simulate"
    folder: str
    """The folder for simulated patients on this machine."""
    contract: AnyContract
    site: SiteName
    index: Annotated[int, Field(ge=0)]
    """Position of the site in the study. It makes the sites different, as hospitals are."""
    first: Annotated[int, Field(ge=1)]
    patients: Annotated[int, Field(ge=1)]
    trials: Annotated[int, Field(ge=2, le=1000)]
    seed: Annotated[int, Field(ge=0)]


class Train(Frozen):
    """Make one round's steps from the parameters in the vector, with the study's noise; return the new parameters."""

    kind: Literal["train"] = "train"
    folder: str
    study: Study
    sites: tuple[SiteName, ...]
    """The sites whose patients enter: one site with local noise, or all sites if every step is a sum over sites."""
    noise_factor: Annotated[float, Field(gt=0)] = 1.0
    """The noise in a sum if all sites add their shares, as a multiple of the plan's noise multiplier."""
    split: Annotated[int, Field(ge=0)]
    """Seed for the choice of held-out patients."""


class Score(Frozen):
    """Score the parameters in the vector on the sites' held-out patients; return one exact score for each patient."""

    kind: Literal["score"] = "score"
    folder: str
    study: Study
    sites: tuple[SiteName, ...]
    split: Annotated[int, Field(ge=0)]


class Done(Frozen):
    """The job is done. The vector holds the answer, if there is one."""

    kind: Literal["done"] = "done"


class Fault(Frozen):
    """The job failed. Simulated patients have no secrets, so the answer contains the whole error."""

    kind: Literal["fault"] = "fault"
    code: str
    message: str
    hint: str = ""


Job = Annotated[Simulate | Train | Score, Field(discriminator="kind")]
Answer = Annotated[Done | Fault, Field(discriminator="kind")]
_JOB: TypeAdapter[Simulate | Train | Score] = TypeAdapter(Job)
_ANSWER: TypeAdapter[Done | Fault] = TypeAdapter(Answer)


def decode_job(body: bytes) -> Simulate | Train | Score:
    """Parse a job.

    Raises:
        InputError: the body is not a job.
    """
    try:
        return _JOB.validate_json(body)
    except ValidationError as error:
        raise InputError("a rehearsal's job does not have the expected form") from error


def check_answer(body: bytes) -> None:
    """Raise the error of a simulated site, in the error's own family; return if the answer has no error."""
    try:
        answer = _ANSWER.validate_json(body)
    except ValidationError as error:
        raise HostError("a simulated site gave an answer of another form") from error
    if isinstance(answer, Fault):
        families = {family.code: family for family in DuraError.__subclasses__()}
        raise families.get(answer.code, HostError)(answer.message, hint=answer.hint)

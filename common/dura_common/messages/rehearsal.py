"""What a rehearsal asks of its simulated sites: jobs over Flower's simulation engine, never over a network.

The coordinator's side must not import the site's, and yet a rehearsal needs the site's simulator, preparation and
training engine. So the site's package offers a ClientApp under the entry-point group :data:`GROUP`, and the two
agree on these messages. A job names no data set: the only patients it can reach are those that a
:class:`Simulate` job made.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dura_common.errors import DuraError, HostError, InputError
from dura_common.study import DataContract, Frozen, SiteName, Study

GROUP = "dura.rehearsal"
POINT = "site"
"""Name of the entry point in the group."""


class Simulate(Frozen):
    """Simulate some patients of one site and prepare them for the contract; those that are there already stay."""

    kind: Literal["simulate"] = "simulate"
    folder: str
    """Where simulated patients are kept, on this machine."""
    contract: DataContract
    site: SiteName
    index: Annotated[int, Field(ge=0)]
    """Position of the site in the study; sites differ by it as hospitals do."""
    first: Annotated[int, Field(ge=1)]
    patients: Annotated[int, Field(ge=1)]
    trials: Annotated[int, Field(ge=2, le=1000)]
    seed: Annotated[int, Field(ge=0)]


class Train(Frozen):
    """Make one round's steps from the parameters in the vector, with the study's noise; parameters come back."""

    kind: Literal["train"] = "train"
    folder: str
    study: Study
    sites: tuple[SiteName, ...]
    """Whose patients enter: one site with local noise, all of them where every step is a sum over sites."""
    noise_factor: Annotated[float, Field(gt=0)] = 1.0
    """Times the plan's noise multiplier: what the sum holds if all sites add their share."""
    split: Annotated[int, Field(ge=0)]
    """Seed of who is held out."""


class Score(Frozen):
    """Score the parameters in the vector on the sites' held-out patients; exact scores come back, one a patient."""

    kind: Literal["score"] = "score"
    folder: str
    study: Study
    sites: tuple[SiteName, ...]
    split: Annotated[int, Field(ge=0)]


class Done(Frozen):
    """It is done; the vector holds the answer, if there is one."""

    kind: Literal["done"] = "done"


class Fault(Frozen):
    """It could not be done. Simulated patients have no secret, so the error travels whole."""

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
        InputError: not a job.
    """
    try:
        return _JOB.validate_json(body)
    except ValidationError as error:
        raise InputError("a rehearsal's job has not the expected form") from error


def check_answer(body: bytes) -> None:
    """Raise the error that a simulated site met, in its own family; an answer without one is fine."""
    try:
        answer = _ANSWER.validate_json(body)
    except ValidationError as error:
        raise HostError("a simulated site gave an answer of another form") from error
    if isinstance(answer, Fault):
        families = {family.code: family for family in DuraError.__subclasses__()}
        raise families.get(answer.code, HostError)(answer.message, hint=answer.hint)

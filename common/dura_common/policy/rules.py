"""The privacy officer's rules: the schema of policy.toml. Absent means refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from dura_common.errors import InputError
from dura_common.study import Frozen, explain_validation, parse_toml


class Policy(Frozen):
    """What a site allows. Every limit is required: a rule that was forgotten must not become a permission."""

    epsilon_per_study: Annotated[float, Field(gt=0)]
    """Most that one study may cost a patient (add/remove one patient)."""
    epsilon_total: Annotated[float, Field(gt=0)]
    """Most that all studies together may cost a patient, composed tightly."""
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    """The delta at which both caps hold; a study must not ask for a larger one."""
    minimum_patients: Annotated[int, Field(ge=1)]
    minimum_sites: Annotated[int, Field(ge=2)]
    public_data_without_noise: bool
    """Whether data sets registered as public may enter studies with ``noise = "none"``."""
    noise: Annotated[tuple[Literal["local", "shared"], ...], Field(min_length=1)] = ("local",)
    """Who may add the noise of a private study: this site alone, or all honest sites together."""
    epsilon_if_broken: Annotated[float, Field(gt=0)] | None = None
    """With shared noise: most that a study may cost a patient if the coordinator breaks the aggregation and sees
    this site's vectors alone. Absent means that shared noise is refused, whatever ``noise`` says."""
    confirmed_sites: Annotated[int, Field(ge=0, le=500)] | None = None
    """Fewest other sites of a study whose fingerprints people here have compared. Absent means all of them but the
    colluders that the study tolerates."""
    own_countersignature: bool = False
    """Whether this site follows only rosters that it has countersigned itself, whatever the others say."""


def parse_policy(content: bytes) -> Policy:
    """Validate the content of a policy.toml.

    Raises:
        InputError: not TOML, a rule missing or unknown, or a value out of range.
    """
    data = parse_toml(content, what="the policy")
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the policy") from error
    if policy.epsilon_per_study > policy.epsilon_total:
        raise InputError("the policy: epsilon_per_study is larger than epsilon_total")
    return policy

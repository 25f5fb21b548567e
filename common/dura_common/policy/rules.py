"""The privacy officer's rules: the schema of policy.toml. A limit that is absent permits nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from dura_common.errors import InputError
from dura_common.study import Frozen, explain_validation, parse_toml


class Policy(Frozen):
    """The rules of a site. Every limit is required, because a forgotten rule must not become a permission."""

    epsilon_per_study: Annotated[float, Field(gt=0)]
    """Largest epsilon that one study may cost a patient (add/remove one patient)."""
    epsilon_total: Annotated[float, Field(gt=0)]
    """Largest epsilon that all studies together may cost a patient."""
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    """Delta at which both limits hold. A study must not have a larger delta."""
    minimum_patients: Annotated[int, Field(ge=1)]
    minimum_sites: Annotated[int, Field(ge=2)]
    public_data_without_noise: bool
    """Whether data sets registered as public may enter studies with ``noise = "none"``."""
    noise: Annotated[tuple[Literal["local", "shared"], ...], Field(min_length=1)] = ("local",)
    """Who may add the noise of a private study: this site alone, or all honest sites together."""
    epsilon_if_broken: Annotated[float, Field(gt=0)] | None = None
    """With shared noise: largest epsilon that a study may cost a patient if the coordinator breaks the aggregation and
    sees the vectors of this site. If it is absent, shared noise is refused, whatever ``noise`` says."""
    epsilon_if_broken_total: Annotated[float, Field(gt=0)] | None = None
    """The same for all studies together. If it is absent, the larger of ``epsilon_total`` and ``epsilon_if_broken``
    counts."""
    confirmed_sites: Annotated[int, Field(ge=0, le=500)] | None = None
    """Smallest number of a study's other sites whose fingerprints people at this site must have compared. If absent:
    all other sites, except as many as the study tolerates as colluders."""
    own_countersignature: bool = False
    """Whether this site follows only rosters that it has countersigned itself, even if a quorum of the others has."""
    hide_timing: bool = False
    """Whether no time tells who was drawn: each step computes as many patients as could be drawn, with dummies in the
    place of those who are missing, and a vector leaves only at a tick of this site's own clock. Training then takes two
    to three times as long."""

    @property
    def total_if_broken(self) -> float:
        """Largest epsilon that all studies together may cost a patient if the aggregation is broken."""
        return self.epsilon_if_broken_total or max(self.epsilon_total, self.epsilon_if_broken or 0.0)


def parse_policy(content: bytes) -> Policy:
    """Validate the content of a policy.toml.

    Raises:
        InputError: not TOML, a missing or unknown rule, or a value out of range.
    """
    data = parse_toml(content, what="the policy")
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the policy") from error
    if policy.epsilon_per_study > policy.epsilon_total:
        raise InputError("the policy: epsilon_per_study must not exceed epsilon_total")
    return policy

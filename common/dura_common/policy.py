"""The privacy officer's rules: a schema, and one check per rule. Absent means refused.

The file is TOML. :func:`judge` compares a study with a policy and answers with one line per rule, so that a
person sees every reason at once; a study passes only if every line passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, ValidationError

from dura_common.errors import InputError
from dura_common.study import Frozen, LocalNoise, Study, explain_validation, parse_toml


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
    unsafe_plain_updates: bool
    """Whether the coordinator may see this site's (noised) updates one by one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule of the policy against one study."""

    rule: str
    passed: bool
    sentence: str


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


def judge(policy: Policy, study: Study, *, site: str, public_data: bool) -> tuple[Finding, ...]:
    """Return one finding per rule; the ledger's balance is judged separately, where the ledger is."""
    private = isinstance(study.privacy, LocalNoise)
    findings = [
        Finding("site-listed", site in study.sites, f"the study lists this site ({site})"),
        Finding(
            "minimum-patients",
            study.data.minimum_patients >= policy.minimum_patients,
            f"at least {policy.minimum_patients} patients a site; the study demands {study.data.minimum_patients}",
        ),
        Finding(
            "minimum-sites",
            study.aggregation.minimum_sites >= policy.minimum_sites,
            f"at least {policy.minimum_sites} sites; the study demands {study.aggregation.minimum_sites}",
        ),
        Finding(
            # Until secure aggregation exists, every update travels by itself: a study that does not say so
            # promises what nobody keeps, and is refused like one that says so at a site that forbids it.
            "unsafe-plain-updates",
            study.aggregation.unsafe_plain_updates and policy.unsafe_plain_updates,
            "updates that the coordinator sees one by one are "
            + ("allowed" if policy.unsafe_plain_updates else "not allowed")
            + ("; the study says so" if study.aggregation.unsafe_plain_updates else "; the study does not admit them"),
        ),
    ]
    if private:
        findings += _judge_privacy(policy, study)
    else:
        findings.append(
            Finding(
                "no-noise",
                public_data and policy.public_data_without_noise,
                "no noise is allowed on data registered as public only; this data set is "
                + ("public" if public_data else "not public")
                + ", and the policy "
                + ("allows it" if policy.public_data_without_noise else "does not allow it"),
            )
        )
    return tuple(findings)


def _judge_privacy(policy: Policy, study: Study) -> list[Finding]:
    privacy = study.privacy
    if not isinstance(privacy, LocalNoise):
        raise TypeError("only a study with noise has a price")
    # Training and held-out patients are disjoint, so a patient pays the larger of both, never the sum.
    price = max(privacy.epsilon, study.evaluation.epsilon or 0.0)
    return [
        Finding(
            "epsilon-per-study",
            price <= policy.epsilon_per_study,
            f"at most epsilon {policy.epsilon_per_study:g} a study; this one costs a patient up to {price:g}",
        ),
        Finding(
            "delta",
            privacy.delta <= policy.delta,
            f"delta at most {policy.delta:g}; the study asks for {privacy.delta:g}",
        ),
    ]

"""Check a study against a policy: one finding per rule, so that a person sees every reason at once.

A study passes only if every finding passes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from dura_common.policy.rules import Policy
from dura_common.study import LocalNoise, PatientNoise, SharedNoise, Study


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one rule of the policy for one study."""

    rule: str
    passed: bool
    sentence: str


def judge(
    policy: Policy, study: Study, *, site: str, public_data: bool, epsilon_if_broken: float = math.inf
) -> tuple[Finding, ...]:
    """Return one finding per rule. Another part of dura checks the budget in the ledger.

    Args:
        policy: the site's rules.
        study: the study to check.
        site: the site's name on the roster.
        public_data: whether the data set is registered as public.
        epsilon_if_broken: the epsilon if the aggregation is broken, from the study's plan. It matters only with shared
        noise. An unknown value counts as infinite.
    """
    private = isinstance(study.privacy, PatientNoise)
    findings = [
        Finding("site-listed", site in study.sites, f"the study lists this site ({site})"),
        Finding(
            "minimum-patients",
            study.data.minimum_patients >= policy.minimum_patients,
            f"at least {policy.minimum_patients} patients per site; the study requires {study.data.minimum_patients}",
        ),
        Finding(
            "minimum-sites",
            study.aggregation.minimum_sites >= policy.minimum_sites,
            f"at least {policy.minimum_sites} sites; the study requires {study.aggregation.minimum_sites}",
        ),
    ]
    if private:
        findings += _judge_privacy(policy, study, epsilon_if_broken)
    else:
        findings.append(
            Finding(
                "no-noise",
                public_data and policy.public_data_without_noise,
                "only data registered as public may be used without noise; this data set is "
                + ("public" if public_data else "not public")
                + ", and the policy "
                + ("allows it" if policy.public_data_without_noise else "does not allow it"),
            )
        )
    return tuple(findings)


def judge_members(policy: Policy, study: Study, *, site: str, confirmed: Collection[str]) -> Finding:
    """Return the finding on how many of a study's other sites were confirmed at this site.

    Args:
        policy: the site's rules.
        study: the study to check.
        site: the site's own name.
        confirmed: members whose fingerprints people at this site have compared, and whom they trust.
    """
    others = sorted(study.sites.keys() - {site})
    known = [name for name in others if name in confirmed]
    needed = policy.confirmed_sites
    if needed is None:
        needed = max(len(others) - study.aggregation.tolerated_colluders, 0)
    missing = ", ".join(name for name in others if name not in confirmed)
    return Finding(
        "confirmed-sites",
        len(known) >= min(needed, len(others)),
        f"at least {needed} of the study's {len(others)} other sites are confirmed by telephone; {len(known)} are"
        + (f" (not yet: {missing})" if missing else ""),
    )


def _judge_privacy(policy: Policy, study: Study, epsilon_if_broken: float) -> list[Finding]:
    privacy = study.privacy
    if not isinstance(privacy, LocalNoise | SharedNoise):
        raise TypeError("only a study with noise has a price")
    # No patient is both in training and held out, so a patient pays the larger of both prices, never their sum.
    price = max(privacy.epsilon, study.evaluation.epsilon or 0.0)
    findings = [
        Finding(
            "noise",
            privacy.noise in policy.noise,
            f"noise must be {' or '.join(policy.noise)}; the study has {privacy.noise} noise",
        ),
        Finding(
            "epsilon-per-study",
            price <= policy.epsilon_per_study,
            f"at most epsilon {policy.epsilon_per_study:g} per study; this study costs a patient up to {price:g}",
        ),
        Finding(
            "delta",
            privacy.delta <= policy.delta,
            f"at most delta {policy.delta:g}; the study has {privacy.delta:g}",
        ),
    ]
    if isinstance(privacy, SharedNoise):
        findings.append(_judge_broken_aggregation(policy, epsilon_if_broken))
    return findings


def _judge_broken_aggregation(policy: Policy, epsilon: float) -> Finding:
    limit = policy.epsilon_if_broken
    allowed = "shared noise is not allowed, because the policy has no epsilon_if_broken"
    if limit is not None:
        allowed = f"at most epsilon {limit:g} if the aggregation is broken"
    return Finding(
        "epsilon-if-broken", limit is not None and epsilon <= limit, f"{allowed}; this study has {epsilon:.3g}"
    )

"""The site's policy file: its path, its template, and its explanation in sentences."""

from __future__ import annotations

import json

from dura_client.site.home import SiteHome
from dura_common.errors import PolicyError
from dura_common.policy import Policy, parse_policy
from dura_common.runtime.files import read_limited, write_atomic

TEMPLATE = """\
# What this hospital allows. What is absent is refused; every rule must be here.

# The most that one study may cost a patient (epsilon, add/remove one patient).
epsilon_per_study = {epsilon_per_study}
# The most that all studies together may cost a patient.
epsilon_total = {epsilon_total}
# The delta at which both caps hold; keep it well below 1 / number of patients.
delta = {delta}
# A study must demand at least this many patients of every site, and this many sites.
minimum_patients = {minimum_patients}
minimum_sites = {minimum_sites}
# Whether data sets registered as public may be used without noise.
public_data_without_noise = {public_data_without_noise}
# Who may add the noise: "local" (this hospital alone), "shared" (all honest hospitals together).
noise = {noise}
# With shared noise: the most that a study may cost a patient if the coordinator breaks the aggregation and sees this
# hospital's vectors separately. Without this line, shared noise is refused.
{epsilon_if_broken}
# Smallest number of a study's other sites whose fingerprints were compared by telephone (`dura site confirm`). Without
# this line: all other sites, except as many as the study tolerates as colluders.
{confirmed_sites}
# Whether this site follows only rosters that it has countersigned itself, even if a quorum of the others has.
own_countersignature = {own_countersignature}
# Whether no time tells who was drawn. Training then takes two to three times as long.
hide_timing = {hide_timing}
"""


def write_policy(home: SiteHome, policy: Policy, *, replace: bool = False) -> None:
    """Write a policy with its explanations.

    Raises:
        StateError: there is already a policy, and ``replace`` is false.
    """
    values = {key: json.dumps(value) for key, value in policy.model_dump(mode="json").items()}
    limit = policy.epsilon_if_broken
    values["epsilon_if_broken"] = "# epsilon_if_broken = 10.0" if limit is None else f"epsilon_if_broken = {limit}"
    known = policy.confirmed_sites
    values["confirmed_sites"] = "# confirmed_sites = 2" if known is None else f"confirmed_sites = {known}"
    write_atomic(home.policy, TEMPLATE.format(**values).encode(), replace=replace)


def load_policy(home: SiteHome) -> Policy:
    """Read the policy. A site without a policy releases nothing.

    Raises:
        PolicyError: there is no policy.
        InputError: the policy is not valid.
    """
    if not home.policy.exists():
        raise PolicyError(
            "this site has no policy, so nothing may leave it",
            hint="The privacy officer writes one with `dura site policy init`.",
        )
    return parse_policy(read_limited(home.policy, what="the policy"))


def explain(policy: Policy) -> tuple[str, ...]:
    """Return the policy as sentences."""

    def permission(allowed: bool) -> str:  # one yes or no
        return "may" if allowed else "must not"

    shared = "Noise shared with other sites is refused."
    if "shared" in policy.noise and policy.epsilon_if_broken is not None:
        shared = (
            "Noise may be shared with other sites if a study costs a patient at most "
            f"epsilon {policy.epsilon_if_broken:g} even when the coordinator breaks the aggregation."
        )
    return (
        f"One study may cost a patient at most epsilon {policy.epsilon_per_study:g} at delta {policy.delta:g}.",
        f"All studies together may cost a patient at most epsilon {policy.epsilon_total:g} at delta {policy.delta:g}.",
        _at_the_cap(policy),
        f"A study must demand at least {policy.minimum_patients} patients of every site.",
        f"A study must have at least {policy.minimum_sites} sites.",
        f"Data registered as public {permission(policy.public_data_without_noise)} be used without noise.",
        f"Noise that this site adds by itself {permission('local' in policy.noise)} protect a study.",
        shared,
        "Of the other sites of a study, "
        + (
            "all but the tolerated colluders"
            if policy.confirmed_sites is None
            else f"at least {policy.confirmed_sites}"
        )
        + " must be confirmed by telephone.",
        "The time of a step must not tell which patients were drawn; training takes two to three times as long."
        if policy.hide_timing
        else "The time of a step may tell how many patients were drawn.",
    )


def _at_the_cap(policy: Policy) -> str:
    """Return what the cap over all studies means to a patient (:mod:`dura_common.privacy.risk`)."""
    from dura_common.privacy.gdp import mu_of_epsilon  # noqa: PLC0415  # a node reads a policy and explains nothing
    from dura_common.privacy.risk import of_hundred, risk_of_mu  # noqa: PLC0415  # idem

    risk = risk_of_mu(mu_of_epsilon(policy.epsilon_total, policy.delta), policy.delta)
    return (
        "At this limit, somebody who knows everything about all other patients and sees everything that all studies "
        f"release recognises at most {of_hundred(risk.hits)} in 100 of the patients who took part, with 1 false alarm "
        "in 100 of the others."
    )

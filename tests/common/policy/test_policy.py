"""The policy: absent means refused, and every rule can refuse by itself."""

from __future__ import annotations

from typing import Any

import pytest
import tomli_w
from tests.support.policies import RULES

from dura_common.errors import InputError
from dura_common.policy import Policy, judge, parse_policy
from dura_common.policy.profiles import PROFILES, Profile
from dura_common.study import Study


def failed(policy: Policy, study: Study, *, site: str = "north", public: bool = False) -> list[str]:
    """Return the names of the rules that do not hold."""
    return [f.rule for f in judge(policy, study, site=site, public_data=public) if not f.passed]


def test_a_study_within_every_rule_passes(study_data: dict[str, Any]) -> None:
    """A study that keeps all limits has no failing rule."""
    assert failed(Policy(**RULES), Study.model_validate(study_data)) == []


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_missing_rule_makes_the_policy_invalid(rule: str) -> None:
    """Forgetting a rule never becomes a permission."""
    rules = {key: value for key, value in RULES.items() if key != rule}
    with pytest.raises(InputError, match=rule):
        parse_policy(tomli_w.dumps(rules).encode())


@pytest.mark.parametrize(
    ("rule", "value", "finding"),
    [
        ("epsilon_per_study", 7.9, "epsilon-per-study"),
        ("delta", 9e-4, "delta"),
        ("minimum_patients", 11, "minimum-patients"),
        ("minimum_sites", 4, "minimum-sites"),
    ],
)
def test_each_limit_refuses_by_itself(study_data: dict[str, Any], rule: str, value: float, finding: str) -> None:
    """Tightening one rule below what the study asks makes exactly that rule fail."""
    assert failed(Policy(**{**RULES, rule: value}), Study.model_validate(study_data)) == [finding]


def test_the_price_of_a_study_is_the_dearer_of_training_and_evaluation(study_data: dict[str, Any]) -> None:
    """An evaluation dearer than the cap is refused although training fits."""
    study_data["evaluation"]["epsilon"] = 8.5
    assert failed(Policy(**RULES), Study.model_validate(study_data)) == ["epsilon-per-study"]


@pytest.mark.parametrize(("allowed", "public"), [(False, False), (False, True), (True, False)])
def test_no_noise_needs_public_data_and_permission(study_data: dict[str, Any], *, allowed: bool, public: bool) -> None:
    """A study without noise fails unless the data are public and the policy allows it."""
    study_data["privacy"] = {"noise": "none"}
    del study_data["evaluation"]["epsilon"]
    study = Study.model_validate(study_data)
    policy = Policy(**{**RULES, "public_data_without_noise": allowed})
    assert failed(policy, study, public=public) == ["no-noise"]
    assert failed(Policy(**{**RULES, "public_data_without_noise": True}), study, public=True) == []


def test_a_site_that_is_not_listed_is_refused(study_data: dict[str, Any]) -> None:
    """A site takes part only in studies that name it."""
    assert failed(Policy(**RULES), Study.model_validate(study_data), site="west") == ["site-listed"]


def test_a_cap_per_study_above_the_total_is_a_mistake() -> None:
    """A policy that contradicts itself is refused."""
    with pytest.raises(InputError, match="epsilon_per_study"):
        parse_policy(tomli_w.dumps({**RULES, "epsilon_per_study": 11.0}).encode())


def test_the_strict_profile_is_nowhere_looser() -> None:
    """Every limit of the strict profile is at least as strict, and it alone hides the time of a step."""
    standard, strict = PROFILES[Profile.STANDARD], PROFILES[Profile.STRICT]
    assert set(PROFILES) == set(Profile)
    for name in ("epsilon_per_study", "epsilon_total", "delta"):
        assert getattr(strict, name) < getattr(standard, name)
    for name in ("minimum_patients", "minimum_sites"):
        assert getattr(strict, name) > getattr(standard, name)
    assert set(strict.noise) <= set(standard.noise)
    assert not strict.public_data_without_noise
    assert strict.own_countersignature
    assert (strict.hide_timing, standard.hide_timing) == (True, False)
    for policy in PROFILES.values():
        assert parse_policy(tomli_w.dumps(policy.model_dump(mode="json", exclude_none=True)).encode()) == policy

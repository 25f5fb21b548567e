"""Noise shared between sites: what a study may declare, what each site adds, and what both adversaries see."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError
from tests.support.policies import RULES
from tests.support.studies import Only, small_data
from tests.support.studies import study as build

from dura_common.policy import Policy, judge
from dura_common.privacy import Gaussian, SampledGaussian, epsilon_of
from dura_common.privacy.plan import plan_of
from dura_common.study import Study
from dura_common.study.warnings import warnings_of

DELTA = 1e-4


def study(sites: int = 5, *, noise: str = "shared", epsilon: float = 3.0, **aggregation: Any) -> Study:
    """Return a study of reference section 4: q 0.1, 300 steps."""
    return build(
        name="shared",
        question="?",
        expires="2099-01-01",
        sites={f"site-{number}": 200 for number in range(sites)},
        data=small_data(),
        privacy=Only(noise=noise, epsilon=epsilon, delta=DELTA, participation=0.1, windows_per_patient=4),
        training={"rounds": 30, "steps_per_round": 10, "learning_rate": 0.1},
        evaluation={"epsilon": 3.0, "every": 30},
        aggregation={"minimum_sites": sites, **aggregation},
    )


# Sites and the epsilon of one share at world epsilon 3 and 8: measured with dp_accounting PLD when the design was made.
BROKEN = [(3, 6.6, 23.7), (5, 10.2, 43.7), (10, 20.8, 107.0), (20, 47.7, 261.0)]


@pytest.mark.parametrize(("sites", "at_three", "at_eight"), BROKEN)
def test_a_single_share_costs_what_was_measured_before(sites: int, at_three: float, at_eight: float) -> None:
    """The epsilon against a broken aggregation equals the table's, the one against the world stays as declared."""
    for epsilon, expected in ((3.0, at_three), (8.0, at_eight)):
        plan = plan_of(study(sites, epsilon=epsilon))
        assert plan.training_epsilon_if_broken == pytest.approx(expected, rel=0.02)
        assert 0.98 * epsilon < plan.training_epsilon <= epsilon


@pytest.mark.parametrize(("dropouts", "colluders"), [(0, 0), (1, 0), (0, 2), (1, 1)])
def test_honest_shares_alone_make_up_the_noise(dropouts: int, colluders: int) -> None:
    """Without the dropouts' and the colluders' shares the variances add up to exactly that of the promise."""
    plan = plan_of(study(tolerated_dropouts=dropouts, tolerated_colluders=colluders))
    honest = 5 - dropouts - colluders
    assert plan.honest_sites == honest
    assert honest * plan.share_multiplier**2 == pytest.approx(plan.noise_multiplier**2)


def test_both_epsilons_are_those_of_their_events() -> None:
    """Against a broken aggregation every event has one share's noise, in training and in evaluation."""
    plan = plan_of(study(tolerated_colluders=1))
    assert plan.training_event is not None
    share = SampledGaussian(participation=0.1, noise_multiplier=plan.noise_multiplier / 2, steps=300)
    assert plan.training_epsilon_if_broken == epsilon_of([share], DELTA)
    (event,) = plan.evaluation_events.values()
    score = Gaussian(noise_multiplier=event.noise_multiplier / 2)
    assert plan.evaluation_epsilon_if_broken == epsilon_of([score], DELTA)
    assert plan.epsilon_if_broken > plan.epsilon


def test_local_noise_does_not_depend_on_the_aggregation() -> None:
    """With noise of its own a site adds everything, and breaking the aggregation gains nothing."""
    local, shared = plan_of(study(noise="local")), plan_of(study())
    assert local.share_multiplier == local.noise_multiplier == shared.noise_multiplier
    assert local.epsilon_if_broken == local.epsilon == shared.epsilon


def test_a_share_too_thin_to_account_promises_nothing() -> None:
    """Noise below what can be accounted for is an infinite epsilon, at once, and no exhausted memory."""
    assert math.isinf(epsilon_of([SampledGaussian(participation=0.5, noise_multiplier=0.01, steps=1000)], DELTA))


@pytest.mark.parametrize(
    ("sites", "rules", "message"),
    [
        (3, {"tolerated_colluders": 1}, "leave 2 honest"),
        (5, {"tolerated_dropouts": 3}, "leave 2 honest"),
        (2, {}, "leave 2 honest"),
        (5, {"minimum_sites": 4}, "too little noise"),
        (5, {"tolerated_dropouts": -1}, "greater than or equal"),
    ],
)
def test_sums_that_would_lack_noise_cannot_be_declared(sites: int, rules: dict[str, Any], message: str) -> None:
    """Too few honest sites, sums of fewer sites than sized for, and plain updates are refused."""
    with pytest.raises(ValidationError, match=message):
        study(sites, **rules)
    assert study(5, minimum_sites=4, tolerated_dropouts=1).honest_sites == 4


def test_delta_counts_the_patients_of_all_sites() -> None:
    """With shared noise the sums are over all patients together, so delta must be below 1 / all of them."""
    study(49)
    with pytest.raises(ValidationError, match="delta"):
        study(50)
    study(50, noise="local")


def test_a_curious_participant_is_warned_of() -> None:
    """Nobody declared as colluding: a site that knows its own share is said to see more than the world."""
    assert any("tolerated_colluders" in sentence for sentence in warnings_of(study()))
    assert warnings_of(study(tolerated_colluders=1)) == ()


def failed(policy: Policy, asked: Study) -> list[str]:
    """Return the rules that do not hold, as the gate asks them."""
    left = plan_of(asked).epsilon_if_broken
    return [
        finding.rule
        for finding in judge(policy, asked, site="site-1", public_data=False, epsilon_if_broken=left)
        if not finding.passed
    ]


def test_shared_noise_needs_the_mode_and_the_floor() -> None:
    """A policy allows shared noise only by naming it and by a limit that holds even if the aggregation is broken."""
    asked = study(tolerated_colluders=1)
    left = plan_of(asked).epsilon_if_broken
    both = {"noise": ("local", "shared"), "epsilon_if_broken": left}
    assert failed(Policy(**RULES, **both), asked) == []
    assert failed(Policy(**RULES), asked) == ["noise", "epsilon-if-broken"]
    assert failed(Policy(**RULES, **{**both, "noise": ("local",)}), asked) == ["noise"]
    assert failed(Policy(**RULES, noise=("local", "shared")), asked) == ["epsilon-if-broken"]
    tight = {**both, "epsilon_if_broken": math.nextafter(left, 0)}
    assert failed(Policy(**RULES, **tight), asked) == ["epsilon-if-broken"]


def test_an_unknown_cost_of_a_broken_aggregation_is_refused() -> None:
    """A caller that forgets to say what a broken aggregation costs gets no."""
    policy = Policy(**{**RULES, "noise": ("shared",), "epsilon_if_broken": 1e6})
    rules = [f.rule for f in judge(policy, study(), site="site-1", public_data=False) if not f.passed]
    assert rules == ["epsilon-if-broken"]

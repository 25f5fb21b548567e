"""The plan: what coordinator and site derive from the study alone, and must agree on."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.support.studies import WITHOUT_NOISE, Only, merged, small_data, study_data

from dura_common.errors import InputError
from dura_common.privacy import epsilon_of
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.plan import _check_grid, plan_of
from dura_common.study import Study

DELTA = 1e-3


def study(**changes: dict[str, Any]) -> Study:
    """Return a private study of five rounds, with sections changed."""
    sections = study_data(
        name="plan",
        question="?",
        expires="2099-01-01",
        data=small_data(),
        privacy=Only(noise="local", epsilon=6.0, delta=DELTA, participation=0.4, windows_per_patient=4),
        training={"steps_per_round": 4, "learning_rate": 0.1},
        evaluation={"epsilon": 3.0, "every": 2},
    )
    return Study.model_validate(merged(sections, changes))


def test_the_rounds_of_the_ledger_add_up_to_the_plan() -> None:
    """The steps of all rounds, one after the other, compose to the planned epsilon, which is within the study's."""
    plan = plan_of(study())
    assert plan.training_event is not None
    round_event = plan.training_event.model_copy(update={"steps": 4})
    assert epsilon_of([round_event] * 5, DELTA) == plan.training_epsilon
    assert 0.98 * 6.0 < plan.training_epsilon <= 6.0
    assert set(plan.evaluation_events) == {2, 4, 5}
    assert epsilon_of(plan.evaluation_events.values(), DELTA) == plan.evaluation_epsilon
    assert 0.98 * 3.0 < plan.evaluation_epsilon <= 3.0


def test_the_final_evaluation_is_the_most_exact() -> None:
    """The figure that is reported gets more of the budget than a point of the curve."""
    events = plan_of(study()).evaluation_events
    assert events[5].noise_multiplier < events[2].noise_multiplier == events[4].noise_multiplier


def test_a_single_evaluation_gets_the_whole_budget() -> None:
    """With one point there is no curve to share with."""
    plan = plan_of(study(evaluation={"every": 5}))
    assert set(plan.evaluation_events) == {5}
    assert 0.98 * 3.0 < plan.evaluation_epsilon <= 3.0


def test_without_noise_nothing_is_promised() -> None:
    """A study without noise has no events and an infinite epsilon, never a small one."""
    plan = plan_of(study(privacy=WITHOUT_NOISE, evaluation={"epsilon": None}))
    assert plan.noise_multiplier == 0
    assert plan.training_event is None
    assert not plan.evaluation_events
    assert math.isinf(plan.training_epsilon)
    assert math.isinf(plan.evaluation_epsilon)


def test_the_plan_depends_on_the_study_alone_and_cannot_be_changed() -> None:
    """Equal studies give equal plans, and nobody can put another noise into the shared one."""
    assert plan_of(study()) == plan_of(study())
    with pytest.raises(TypeError, match="does not support item assignment"):
        plan_of(study()).evaluation_events[2] = None  # type: ignore[index]


def test_shares_of_noise_are_far_wider_than_the_grid() -> None:
    """What the tails of the noise carry is thousands of steps of the grid; less is refused, and far less twice over."""
    sites = {f"site-{number:04}": 40 for number in range(500)}
    extreme = study(
        sites=sites,
        privacy={"noise": "shared", "epsilon": 100.0, "delta": 1e-5, "participation": 1.0, "windows_per_patient": 1},
        training={"rounds": 1, "steps_per_round": 1},
        evaluation={"epsilon": 100.0, "every": 1},
        aggregation={"minimum_sites": 500},
    )
    with pytest.raises(InputError, match="of what one patient adds"):
        plan_of(extreme)
    mild = study(
        sites=dict(list(sites.items())[:20]),
        privacy={**dict(extreme.privacy), "epsilon": 2.0},
        aggregation={"minimum_sites": 20},
    )
    plan = plan_of(mild)
    assert plan.share_multiplier * WHOLE > 5000
    with pytest.raises(InputError, match="steps of the grid"):
        _check_grid(plan.noise_multiplier / 100_000, plan.honest_sites, epsilon=100.0, delta=1e-5)

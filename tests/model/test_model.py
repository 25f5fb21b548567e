"""The model of draws and attempts holds, and misses each rule that is taken out."""

from __future__ import annotations

import pytest
from tests.model.check import INSTANCES, MUTANTS, explore, tools

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not tools(), reason="the model is not checked: no spin and gcc (Debian packages)"),
]


def test_every_state_of_the_small_instance_keeps_the_promises() -> None:
    """Three sites, one step, one spare draw, two attempts: no assertion fails in any state that can be reached."""
    verdict = explore(INSTANCES[0])
    assert verdict.broken is None
    assert verdict.states > 100_000  # it did look: a model that stops at once holds, too


@pytest.mark.parametrize("rule", MUTANTS)
def test_the_model_breaks_without_a_rule(rule: str) -> None:
    """Each rule is needed: without it an assertion fails, so the model can see what the rule prevents."""
    assert explore(MUTANTS[rule], without=rule).broken is not None

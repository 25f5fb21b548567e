"""Every rule of whole studies is needed, and the machine sees it: without the rule it finds a broken promise.

Each test takes minutes, since whole studies are led until the rule is missed (``make test-full``).
"""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from hypothesis.errors import FlakyFailure
from tests.attacks.draws.whole import promises
from tests.attacks.draws.whole.machine import WholeStudies
from tests.attacks.draws.whole.mutant import Mutant, mutated
from tests.attacks.draws.whole.mutants import MUTANTS
from tests.attacks.draws.whole.run import lead, tell
from tests.attacks.draws.whole.template import Template, make_template

EXAMPLES, STEPS = 40, 14


def broken(error: BaseException) -> bool:
    """Tell whether a promise is broken, and not the test; threads come in any order, so a second run may differ."""
    if isinstance(error, BaseExceptionGroup):
        return any(broken(one) for one in error.exceptions)
    frames = traceback.extract_tb(error.__traceback__)
    words = {frame.name for frame in frames if frame.filename == promises.__file__}
    return bool(words) or WholeStudies.no_answer_depends_on_one_patient.__name__ in {frame.name for frame in frames}


def search(template: Template, folder: Path, mutant: Mutant) -> None:
    """Lead whole studies: the actions that are known to miss the rule first, then any."""
    tell(template, folder, mutant.story)
    lead(template, folder, examples=EXAMPLES, steps=STEPS)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_the_machine_misses_a_rule(template: Template, tmp_path: Path, mutant: Mutant) -> None:
    """Without the rule, one of the promises does not hold after some action."""
    with mutated(mutant), pytest.raises((AssertionError, FlakyFailure), check=broken):
        search(make_template(tmp_path) if mutant.approved else template, tmp_path, mutant)


@pytest.mark.full
@pytest.mark.parametrize("mutant", [one for one in MUTANTS if one.story], ids=lambda mutant: mutant.rule)
def test_with_the_rule_nothing_is_missed(template: Template, tmp_path: Path, mutant: Mutant) -> None:
    """The actions that show a rule break no promise of the product as it is."""
    tell(template, tmp_path, mutant.story)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_the_rule_stands_where_it_is_taken_out(mutant: Mutant) -> None:
    """Each edit fits the product as it is now, changes living functions, and leaves nothing behind."""
    for _ in range(2):
        with mutated(mutant):
            pass

"""Runs the machine of whole studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.attacks.draws.whole.eyes import open_eyes
from tests.attacks.draws.whole.machine import WholeStudies
from tests.attacks.draws.whole.template import Template, approved_in


def tell(template: Template, folder: Path, story: Sequence[Sequence[Any]]) -> None:
    """Lead one pair of worlds through given actions, each a name and what it is given, and look after each."""
    WholeStudies.template, WholeStudies.folder = template, folder
    WholeStudies.approved = approved_in(template)
    if not story:
        return
    with open_eyes():
        machine = WholeStudies()
        try:
            for name, *given in story:
                getattr(machine, name)(*given)
                machine.promises_hold()
                machine.no_answer_depends_on_one_patient()
        finally:
            machine.teardown()


def lead(template: Template, folder: Path, *, examples: int, steps: int) -> None:
    """Lead so many pairs of worlds through so many actions each; they are the same in every run."""
    WholeStudies.template, WholeStudies.folder = template, folder
    WholeStudies.approved = approved_in(template)
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate],
    )
    with open_eyes():
        run_state_machine_as_test(WholeStudies, settings=how)

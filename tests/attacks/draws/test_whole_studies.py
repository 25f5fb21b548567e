"""Whole studies under a coordinator that lies: real gates, ledgers, cohorts and secure sums of three hospitals.

Two worlds are led through the same actions (:mod:`tests.attacks.draws.whole.machine`). They differ in the data of one
patient: in the second world somebody withdraws and the recordings are lost, recordings are replaced by other ones, or
the store of prepared recordings is emptied, between two requests or in the middle of one. In both worlds people decide
(decline, forbid by policy, distrust, withdraw a patient), processes restart, newcomers come, a backup is restored.
After every action (:mod:`tests.attacks.draws.whole.promises`):

- every opened sum holds as many sites as its study demands, is the exact sum of vectors that left, and no vector is in
  two of them, so that any combination of sums depends on all sites of at least one of them;
- every vector that left has a begun draw of its own, no more of them than were declared, and what everybody was charged
  covers them at the study's delta and at the policy's;
- two hospitals that collude with the coordinator subtract their own vectors from every sum: what is left of the third
  one is never the same vector twice, and is paid for each time;
- both worlds have answered the same;
- whoever enters a draw was approved and has not withdrawn: the test looks at the windows themselves;
- after its last evaluation, or a decision of people here, a hospital sends nothing for a study;
- the numbers of requests that a hospital takes up only grow, and a hospital that went back meets nobody who knows it;
- whoever is a member of an opened sum has the keys that this hospital's people made, and every roster that a hospital
  follows was countersigned by a quorum of the sites before it.

What the machine would miss if it were blind is in ``whole/test_mutants.py``: the product without one of its rules.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.attacks.draws.whole.run import lead
from tests.attacks.draws.whole.template import Template


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(3, 6), pytest.param(20, 14, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
    ids=["short", "long"],
)
def test_a_lying_coordinator_breaks_no_promise(template: Template, tmp_path: Path, examples: int, steps: int) -> None:
    """Attempts, silent openings, losses, restarts, newcomers, decisions, backups and refusals over two studies."""
    lead(template, tmp_path, examples=examples, steps=steps)

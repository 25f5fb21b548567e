"""Whatever befalls one process or host at any stage of a study: the study finishes, and costs no more than declared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.federation.hospitals import DELTA, POLICY, SITES, Hospitals, charged, running_hospitals
from tests.federation.hosts.strikes import STAGES, STRIKES, VICTIMS, Cell, play

from dura_server.studies.store import StoredStudy

pytestmark = [pytest.mark.federation, pytest.mark.timeout(1500)]

SOME = (
    Cell("serverapp", "step sum", "kill"),
    Cell("superlink", "evaluation", "kill"),
    Cell("superexec", "round sum", "kill"),
    Cell("aggregator", "step sum", "full disk"),
    Cell("gateway", "between rounds", "kill"),
    Cell("supervisor", "step sum", "kill"),
    Cell("study run", "between rounds", "kill"),
    Cell("supernode", "round sum", "kill"),
    Cell("runner", "evaluation", "freeze"),
    Cell("site", "before", "reboot"),
    Cell("coordinator", "stopping", "reboot"),
)
"""Every victim, every stage and every strike, at least once: the checks run these, `make matrix` the others too."""
ALL = tuple(
    cell
    for victim in VICTIMS
    for stage in STAGES
    for strike in STRIKES
    if (cell := Cell(victim, stage, strike)).possible
)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    """Return four running hospitals and their coordinator; no process is left of them afterwards."""
    # The same patients pay for a study in every cell.
    with running_hospitals(tmp_path_factory.mktemp("m"), POLICY.model_copy(update={"epsilon_total": 1e6})) as made:
        yield made


def check(hospitals: Hospitals, stored: StoredStudy) -> None:
    """Check that a study has finished and that nobody paid more than was declared."""
    study, digest = stored.study, stored.digest
    state = stored.read_state()
    assert (state.phase, state.round) == ("finished", study.training.rounds)
    assert np.isfinite(stored.read_model()).all()
    for name in SITES:
        ledger = hospitals.ledger(name)
        ledger.verify()
        steps, evaluations = charged(ledger.entries(), digest)
        assert steps <= study.paid_steps, name
        assert evaluations <= study.training.rounds, name
        assert ledger.spent(DELTA, digest) <= study.privacy.epsilon * (1 + 1e-6), name
        left = [(line["purpose"], line["vector"]) for line in hospitals.journal(name, digest, "masked")]
        assert len(left) == len(set(left)), f"{name} has sent a vector twice"
        assert len(left) <= steps + evaluations, f"{name} has sent what it had not paid for"


def test_some_cells_cover_every_row_and_column() -> None:
    """What the checks run of the matrix leaves out no victim, no stage and no strike."""
    for axis, names in (("victim", VICTIMS), ("stage", STAGES), ("strike", STRIKES)):
        assert {getattr(cell, axis) for cell in SOME} == set(names)
    assert set(SOME) <= set(ALL)


@pytest.mark.long
@pytest.mark.parametrize("cell", SOME, ids=lambda cell: cell.name)
def test_a_study_survives(hospitals: Hospitals, cell: Cell) -> None:
    """A few cells of the matrix."""
    check(hospitals, play(hospitals, cell))


@pytest.mark.matrix
@pytest.mark.parametrize("cell", [cell for cell in ALL if cell not in SOME], ids=lambda cell: cell.name)
def test_a_study_survives_everything(hospitals: Hospitals, cell: Cell) -> None:
    """All other cells: `make matrix`."""
    check(hospitals, play(hospitals, cell))

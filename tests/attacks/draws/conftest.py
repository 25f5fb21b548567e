"""A hospital whose recordings every test may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.draws.hospital import DELTA, NOW, PATIENTS, Hospital, key_with, make_hospital
from tests.attacks.draws.meeting import CAP, SITES, studies
from tests.support.consortium import Consortium
from tests.support.policies import approve_study, policy
from tests.support.running import TASK

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_common.consortium.roster import Roster
from dura_common.study import Study


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return recordings of 17 patients, simulated once."""
    folder = tmp_path_factory.mktemp("simulated") / "bids"
    simulate(folder, "north", patients=PATIENTS, trials=2, seed=3)
    return folder


@pytest.fixture
def new_hospital(simulated: Path, tmp_path: Path) -> Callable[..., Hospital]:
    """Return a function that makes a hospital with recordings of its own."""

    def make(*names: str, number: int = 0, **rules: float) -> Hospital:
        root = tmp_path / f"world-{number}"
        recordings = Path(shutil.copytree(simulated, root / "bids"))
        return make_hospital(root, recordings, names or ("east", "north"), **rules)

    return make


@pytest.fixture
def hospital(new_hospital: Callable[..., Hospital]) -> Hospital:
    """Return a hospital of a consortium of two."""
    return new_hospital()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Study], Roster]:
    """Return a folder with three hospitals that have approved both studies."""
    root = tmp_path_factory.mktemp("template")
    simulate(root / "bids", "north", patients=PATIENTS, trials=2, seed=3)
    consortium = Consortium(root, SITES)
    consortium.make_all(NOW)
    digests: dict[str, Study] = {}
    for name in SITES:
        home = consortium.site(name)
        key = key_with(lambda out: 4 <= len(out) <= 5 and not out & {1, 2})
        (home.keys / "pseudonym.key").write_bytes(key)
        register(home, DataSet(name="motor", root=str(root / "bids"), task=TASK, simulated=True))
        rules: dict[str, Any] = {"epsilon_per_study": 10, "epsilon_total": CAP, "minimum_sites": 2}
        write_policy(
            home, policy(noise=("local", "shared"), epsilon_if_broken=60.0, minimum_patients=5, delta=DELTA, **rules)
        )
    for asked in studies():
        offer, reference = consortium.offer(asked)
        digests[reference] = asked
        for name in SITES:
            receive_offer(consortium.site(name), offer, NOW)
            approve_study(consortium.site(name), reference, "motor", NOW)
    return root, digests, consortium.roster()[0]

"""A hospital whose recordings every test may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.draws.hospital import PATIENTS, Hospital, make_hospital
from tests.attacks.draws.whole.template import Template, make_template

from dura_client.data.simulated.simulate import simulate


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
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return a folder with three hospitals that have approved both studies."""
    return make_template(tmp_path_factory.mktemp("template"))

"""A running aggregation service that is checked again after all attacks of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.attacks.plane.intruders import serves
from tests.support.plane.service import Plane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Return a running service of three hospitals; after all attacks its log holds no secret and it still serves."""
    made = Plane(tmp_path_factory.mktemp("p"))
    made.make_all()
    made.start()
    try:
        yield made
        serves(made, 9_999)
        assert "Traceback" not in made.log
        assert "PRIVATE KEY" not in made.log
    finally:
        made.stop()

"""A running aggregation service for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.plane.service import Plane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Return a running service of three hospitals."""
    made = Plane(tmp_path_factory.mktemp("s"))
    made.make_all()
    made.start()
    try:
        yield made
    finally:
        made.stop()

"""One running consortium for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.federation.commanded import SITES, Commanded


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    """Return a running consortium of two sites; every process is gone afterwards."""
    made = Commanded(tmp_path_factory.mktemp("consortium"))
    made.make_all()
    for name in SITES:
        made.prepare(name)
    try:
        made.start()
        yield made
    finally:
        made.stop()

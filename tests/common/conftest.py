"""A valid study to vary."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.studies import study_data as build


@pytest.fixture
def study_data() -> dict[str, Any]:
    """Return the smallest sensible private study as plain data; tests change single values."""
    return build(
        expires="2099-01-01",
        sites={"north": 40, "east": 40, "south": 40},
        data={"minimum_patients": 10},
        aggregation={"minimum_sites": 3},
    )

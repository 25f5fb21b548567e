"""The consortium that attacks on who is a member begin with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.attacks.membership.members import NAMES
from tests.support.consortium import Consortium


@pytest.fixture
def made(tmp_path: Path) -> Consortium:
    """Four hospitals and a researcher; everybody has joined."""
    consortium = Consortium(tmp_path, NAMES)
    consortium.make_all()
    return consortium

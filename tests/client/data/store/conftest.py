"""The store that tests prepare small hospitals into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.data.store.helpers import KEY, Registered

from dura_client.data.prepare import PreparedData, prepare
from dura_common.study import SignalContract


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return where the store lies."""
    return tmp_path / "cache"


@pytest.fixture
def make(cache: Path, contract: SignalContract, registered: Registered) -> Callable[..., PreparedData]:
    """Return a function that prepares a folder into the store."""

    def made(root: Path, **changes: object) -> PreparedData:
        options = {name: changes.pop(name) for name in ("seal", "workers") if name in changes}
        return prepare(registered(root, **changes), contract, cache=cache, pseudonym_key=KEY, **options)  # type: ignore[arg-type]  # of two known kinds

    return made

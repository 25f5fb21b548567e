"""Who looks at a run folder never stands in the way of who starts, and names no process that is not there."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dura_common.errors import StateError
from dura_common.runtime.running import Lock, holder, status, stop


def test_a_status_never_makes_a_start_fail(tmp_path: Path) -> None:
    """Two threads ask without a pause while a service starts and stops two hundred times."""
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            status(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(2)]
    with Lock(tmp_path):
        pass
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            with Lock(tmp_path):
                assert holder(tmp_path) == os.getpid()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert holder(tmp_path) is None


def test_an_older_number_in_the_file_names_nobody(tmp_path: Path) -> None:
    """A process that was killed left its number; until the next one has written its own, nobody is asked to stop."""
    with Lock(tmp_path):
        (tmp_path / "lock").write_text("1")  # a live process that has nothing to do with the folder
        assert holder(tmp_path) is None
        assert not stop(tmp_path)
        (tmp_path / "lock").write_text("")
        assert holder(tmp_path) is None


def test_a_second_start_is_refused(tmp_path: Path) -> None:
    """As long as the first one lives, and no longer."""
    with Lock(tmp_path), pytest.raises(StateError, match="running already"), Lock(tmp_path):
        pass
    with Lock(tmp_path):
        assert holder(tmp_path) == os.getpid()

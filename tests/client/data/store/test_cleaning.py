"""Cleaning up by itself: whatever happens in whatever order, nothing that somebody uses goes, and the limits hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.client.data.store.helpers import DAY
from tests.client.data.store.test_prepare_cli import data, home

from dura_client.data.store.claim import cleaning, preparing
from dura_client.data.store.clean import KEPT_ANYWAY_SECONDS, clean, stored
from dura_client.data.store.entry import ABOUT, digest_of, open_entry, write_entry
from dura_client.patients import frozen
from dura_client.site.home import SiteHome
from dura_common.errors import StateError, TrustError

__all__ = ["home"]
RECIPE = "a" * 32
PATIENTS = st.integers(0, 3)


def arrays(number: int, version: int) -> dict[str, Any]:
    """Return what a patient was prepared to; a later version is larger."""
    return {
        "windows": np.full((1 + version, 2, 50), number, dtype=np.float32),
        "labels": np.zeros(1 + version, dtype=np.int64),
        "recordings": np.zeros(1 + version, dtype=np.int64),
        "fingerprints": np.full((1, 32), number, dtype=np.uint8),
        "contents": np.zeros((0, 32), dtype=np.uint8),
        "broken": np.zeros(1, dtype=np.uint8),
    }


class Store(RuleBasedStateMachine):
    """A store that several studies use over months, beside a plain list of what must be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Path(tempfile.mkdtemp())
        self.now = 1.7e9
        self.used: dict[Path, float] = {}
        self.approved: dict[Path, tuple[str, str, str]] = {}

    def teardown(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.cache)

    @rule(number=PATIENTS, version=st.integers(0, 2))
    def prepare(self, number: int, version: int) -> None:
        """Write or open an entry."""
        target = self.cache / RECIPE / f"{number:064x}" / f"{version:032x}"
        target.parent.parent.mkdir(exist_ok=True)
        if not target.exists():
            write_entry(target, lambda _work: arrays(number, version), None)
        open_entry(target)
        os.utime(target / ABOUT, (self.now, self.now))
        self.used[target] = self.now

    @rule(number=PATIENTS)
    def approve(self, number: int) -> None:
        """Let a study fix what a patient was prepared to last."""
        own = [path for path in self.used if path.parent.name == f"{number:064x}"]
        if own:
            latest = max(own, key=lambda path: self.used[path])
            self.approved[latest] = RECIPE, latest.parent.name, digest_of(open_entry(latest))
            os.utime(latest / ABOUT, (self.used[latest],) * 2)

    @rule(number=PATIENTS)
    def finish(self, number: int) -> None:
        """End the studies of a patient."""
        self.approved = {path: name for path, name in self.approved.items() if path.parent.name != f"{number:064x}"}

    @rule(days=st.sampled_from([0.3, 2.0, 40.0]))
    def wait(self, days: float) -> None:
        """Let time pass."""
        self.now += days * DAY

    @rule(days=st.sampled_from([1.0, 30.0, 90.0]), most=st.sampled_from([0.0, 6000.0, 1e12]))
    def clean_up(self, days: float, most: float) -> None:
        """Clean up, and hold what is left against the rules."""
        sizes = {item.path: item.size for item in stored(self.cache)}
        done = clean(self.cache, self.approved.values(), days=days, most_bytes=most, now=self.now)
        left = {item.path for item in stored(self.cache)}
        kept_anyway = {
            path for path, used in self.used.items() if path in self.approved or self.now - used <= KEPT_ANYWAY_SECONDS
        }
        assert kept_anyway <= left
        assert all(path in kept_anyway or self.now - self.used[path] <= days * DAY for path in left)
        assert sum(sizes[path] for path in left) <= most or left == kept_anyway
        gone = self.used.keys() - left
        young = [path for path in gone if self.now - self.used[path] <= days * DAY]
        older = {path for path in left - kept_anyway if any(self.used[path] < self.used[one] for one in young)}
        assert not older, "a younger entry went before an older one"
        assert not young or sum(sizes[path] for path in left | set(young)) > most
        assert (done.removed, done.freed) == (len(gone), sum(sizes[path] for path in gone))
        self.used = {path: used for path, used in self.used.items() if path in left}

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was not cleaned up is there, whole."""
        assert {item.path for item in stored(self.cache)} == set(self.used)


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_nobody_cleans_while_somebody_prepares(tmp_path: Path) -> None:
    """Several may prepare at once; a cleaning waits for none of them, and gives up at once."""
    with preparing(tmp_path), preparing(tmp_path), cleaning(tmp_path) as alone:
        assert not alone
    with cleaning(tmp_path) as alone:
        assert alone
        with cleaning(tmp_path) as second:
            assert not second


CHILD = """
import sys, time
from pathlib import Path
from dura_client.data.store.claim import preparing
with preparing(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(600)
"""


def test_a_process_that_dies_holds_nothing(tmp_path: Path) -> None:
    """While another process prepares, nobody cleans; once it was killed, somebody can."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "in"
    with cleaning(tmp_path) as alone:
        assert not alone
    child.kill()
    child.wait()
    child.stdout.close()
    with cleaning(tmp_path) as alone:
        assert alone


@pytest.fixture
def prepare(home: SiteHome, tmp_path: Path) -> Callable[..., dict[str, Any]]:  # a fixture is asked for by its name
    """Return a function that runs `dura site data prepare`, after everybody was prepared long ago."""
    words = ("prepare", "motor", "--study", tmp_path / "study.toml", "--home", home.path)
    data(*words)
    for number, item in enumerate(sorted(stored(home.cache), key=lambda item: item.key)):
        recipe = home.cache / ("b" * 32)
        recipe.mkdir(exist_ok=True)
        old = Path(shutil.copytree(item.path, recipe / item.key / item.path.name))
        os.utime(old / ABOUT, (time.time() - (75 + 10 * number) * DAY,) * 2)
    return lambda *more, code=0: data(*words, *more, code=code)


def old_entries(site: SiteHome) -> int:
    """Return how many of the old entries are left."""
    return sum(item.recipe == "b" * 32 for item in stored(site.cache))


def test_preparing_cleans_up_by_the_sites_own_limits(
    home: SiteHome,  # idem
    prepare: Callable[..., dict[str, Any]],
) -> None:
    """Without being asked, what is older than the limit goes, then what is too much; what was just used stays."""
    assert old_entries(home) == 3
    prepare()
    assert old_entries(home) == 2
    settings_file = home.settings.read_text()
    home.settings.write_text(settings_file + "prepared_days = 80\n")
    prepare()
    assert old_entries(home) == 1
    home.settings.write_text(settings_file + "prepared_gib = 0.000001\n")
    assert prepare()["prepared"]["made"] == 0
    assert old_entries(home) == 0
    assert len(list(stored(home.cache))) == 3


def test_a_cleaning_that_cannot_be_done_spoils_no_preparing(
    home: SiteHome,  # idem
    prepare: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If nobody knows what studies use, nothing is removed; who asks for it while others prepare is told so."""

    def unknown(_home: SiteHome) -> frozenset[tuple[str, str, str]]:
        raise TrustError("the ledger cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(frozen, "in_use", unknown)
        assert prepare()["prepared"]["patients"] == 3
    assert old_entries(home) == 3
    with preparing(home.cache):
        assert prepare()["prepared"]["patients"] == 3
        error = data("prepare", "--clean", "--home", home.path, code=StateError.exit_code)["error"]
    assert "another process prepares" in error["message"]
    assert old_entries(home) == 3

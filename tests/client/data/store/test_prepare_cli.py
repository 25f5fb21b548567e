"""`dura site data prepare` before any offer, as a data manager and a script use it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests.client.data.store.helpers import DAY
from tests.support.commands import answer, shown
from tests.support.studies import study

from dura_client.data.store.clean import stored
from dura_client.data.store.entry import ABOUT
from dura_client.data.store.seal import MAGIC
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.errors import InputError


@pytest.fixture
def home(tmp_path: Path, own_copy: Any) -> SiteHome:
    """Return a site with a registered data set and a study file beside it."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\nprepare_processes = 1\n')
    SiteKeys(site).create()
    data("add", "motor", own_copy("north"), "--task", "motorimagery", "--home", site.path)
    values = study(data={"minimum_patients": 2}).model_dump(mode="json", exclude_none=True)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(values))
    return site


def data(*words: object, code: int = 0) -> Any:
    """Run `dura site data ...` here; return its object, also that of a failure with the expected code."""
    return answer("site", "data", *words, code=code, here=True)


def test_prepare_goes_on_and_cleans_up(home: SiteHome, tmp_path: Path) -> None:
    """The first run prepares everybody, the second nobody, one after damage mends; cleaning spares recent copies."""
    words = ("prepare", "motor", "--study", tmp_path / "study.toml", "--home", home.path)
    first = data(*words)["prepared"]
    assert (first["patients"], first["made"], first["mended"]) == (3, 3, 0)
    assert data(*words)["prepared"] == {**first, "made": 0}
    damaged = next(stored(home.cache)).path / "windows.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = data(*words)
    assert again["prepared"] == {**first, "made": 1, "mended": 1}
    assert "damaged" in again["warnings"][0]
    cleaned = data("prepare", "--clean", "--home", home.path)["cleaned"]
    assert (cleaned["removed"], cleaned["kept"]) == (0, 3)
    for item in stored(home.cache):
        os.utime(item.path / ABOUT, (time.time() - 91 * DAY,) * 2)
    cleaned = data("prepare", "--clean", "--home", home.path)["cleaned"]
    assert (cleaned["removed"], cleaned["kept"]) == (3, 0)
    assert "3 of them were prepared now" in shown("site", "data", *words).replace("\n", " ")


def test_prepare_wants_both_or_neither(home: SiteHome, tmp_path: Path) -> None:
    """A name without a study, a study without a name, or nothing at all: one clear error, and nothing is written."""
    for words in (("motor",), ("--study", tmp_path / "study.toml"), ()):
        error = data("prepare", *words, "--home", home.path, code=InputError.exit_code)["error"]
        assert "--study FILE" in error["hint"]
    assert not home.cache.exists()


def test_encryption_by_the_sites_own_setting(home: SiteHome, tmp_path: Path) -> None:
    """With the setting, every array is encrypted, and the key lies among the site's keys, closed to others."""
    home.settings.write_text('name = "north"\nencrypt_prepared = true\nprepare_processes = 1\n')
    words = ("prepare", "motor", "--study", tmp_path / "study.toml", "--home", home.path)
    assert data(*words)["prepared"]["made"] == 3
    files = [file for item in stored(home.cache) for file in item.path.glob("*.npy")]
    assert len(files) == 18
    assert all(file.read_bytes().startswith(MAGIC) for file in files)
    assert (home.keys / "store.pem").stat().st_mode & 0o077 == 0
    assert data(*words)["prepared"]["made"] == 0

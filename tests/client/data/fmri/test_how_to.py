"""Volumes as a data manager registers them: the commands of the how-to as they stand, and what `update` changes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.client.data.fmri.scans import ATLAS, labels, save, voxels, write
from tests.support.commands import answer, shown

from dura_client.data.registry import load_dataset
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.errors import InputError

PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "data" / "connectomes.md"
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteHome:
    """Return a site; commands run in the folder above it."""
    site = SiteHome(tmp_path / "home")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\nprepare_processes = 1\n')
    SiteKeys(site).create()
    monkeypatch.chdir(tmp_path)
    return site


def data(*words: object, code: int = 0) -> Any:
    """Run `dura site data ...` here."""
    return answer("site", "data", *words, code=code, here=True)


def test_the_how_to_works_as_it_stands(home: SiteHome, tmp_path: Path) -> None:
    """Simulated volumes are registered, fit the page's study, are prepared, and are shown with their atlas."""
    series, volumes = PAGE.read_text(encoding="utf-8").split("\n## Volumes with an atlas\n")
    study = next(text for kind, text in BLOCK.findall(series) if kind == "toml")
    (tmp_path / "connectomes.toml").write_text(study)
    lines = [shlex.split(line) for kind, text in BLOCK.findall(volumes) if kind == "sh" for line in text.splitlines()]
    simulate, add, check = (line[3:] for line in lines)
    assert data(*simulate)["options"] == add[3:]
    data(*add, "--home", home.path)
    checked = data(*check, "--home", home.path)["check"]
    assert not checked["stops"]
    assert {item["code"] for item in checked["findings"]} == {"ROI-CONF"}
    assert sum(sum(classes.values()) for classes in checked["windows"].values()) == 30
    done = data("prepare", "volumes", "--study", "connectomes.toml", "--home", home.path)["prepared"]
    assert (done["patients"], done["made"], done["windows"]) == (30, 30, 30)
    assert "Demo30" in shown("site", "data", "show", "volumes", "--home", home.path)


def test_an_atlas_and_a_mapping_replace_each_other(home: SiteHome, tmp_path: Path) -> None:
    """`update` takes the atlas's digest anew, and a data set holds either volumes or series."""
    root = tmp_path / "bids"
    write(root, {"01": voxels(1)})
    save(tmp_path / "elsewhere.nii.gz", labels())
    data("add", "scans", root, "--source", "fmri", "--task", "rest", "--atlas", f"Four={ATLAS}", "--home", home.path)
    first = load_dataset(home, "scans").atlas
    data("update", "scans", "--series", "series.tsv", "--home", home.path)
    assert (load_dataset(home, "scans").atlas, load_dataset(home, "scans").series) == (None, "series.tsv")
    data("update", "scans", "--atlas", "Four=elsewhere.nii.gz", "--home", home.path)
    moved = load_dataset(home, "scans")
    assert first is not None
    assert moved.atlas is not None
    assert (moved.series, moved.atlas.digest) == ("", first.digest)
    assert moved.atlas.file == str(tmp_path / "elsewhere.nii.gz")
    save(root / ATLAS, labels()[::-1].copy())
    data("update", "scans", "--atlas", f"Four={root / ATLAS}", "--home", home.path)
    changed = load_dataset(home, "scans").atlas
    assert changed is not None
    assert changed.file == ATLAS
    assert changed.digest != first.digest


@pytest.mark.parametrize("option", ["Four", "=atlas.nii.gz", "Four=participants.tsv", "Four=absent.nii.gz"])
def test_what_names_no_atlas_registers_nothing(home: SiteHome, tmp_path: Path, option: str) -> None:
    """A wrong form, a table and an absent file are one clear error each."""
    root = tmp_path / "bids"
    write(root, {"01": voxels(1)})
    words = ("add", "scans", root, "--source", "fmri", "--task", "rest", "--atlas", option, "--home", home.path)
    assert "atlas" in data(*words, code=InputError.exit_code)["error"]["message"]
    with pytest.raises(InputError, match="no data set called"):
        load_dataset(home, "scans")

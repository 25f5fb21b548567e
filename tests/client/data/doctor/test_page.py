"""The check as a page: complete, well formed, loading nothing, readable by its owner alone."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.data.corpus.tree import Tree, write_tree
from tests.support.commands import answer
from tests.support.pages import Page

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.doctor.page import render
from dura_client.site.home import SiteHome


@pytest.fixture
def damaged(tmp_path: Path) -> Tree:
    """Return a data set with a gap, an odd name and a channel that is flat."""
    from tests.client.data.corpus.defects.headers import clocked, gap

    tree = write_tree(tmp_path / "tree", "edf")
    clocked(gap(30))(tree)
    tree.text("_events.tsv", lambda old: old.replace("left_hand", "<b>left</b>"))
    return tree


def test_the_page_says_everything_and_loads_nothing(damaged: Tree, registered: Callable[..., DataSet]) -> None:
    """Findings with their remedies and five drawings stand there; names from files are text, and nothing is fetched."""
    found = diagnose(registered(damaged.root, task="mi"))
    text = render("motor", found)
    page = Page(text)
    assert (page.faults, page.open) == ([], [])
    assert not {"script", "link", "iframe", "img", "object", "embed", "b"} & {tag for tag, _ in page.tags}
    assert sum(tag == "figure" for tag, _ in page.tags) == 5
    for item in found.findings:
        assert item.code in page.text
        assert item.cause in page.text
    assert "default-src 'none'" in text
    assert not re.search(r'(href|src)="(?!#)', text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "2 pieces" not in page.text
    assert "<b>left</b>" not in text


def test_the_command_writes_it_for_its_owner_alone(damaged: Tree, tmp_path: Path) -> None:
    """The file names patients, so nobody else may read it; the exit code tells what it says."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    answer("site", "data", "add", "hands", damaged.root, "--task", "mi", "--home", site, here=True)
    page = tmp_path / "page.html"
    check = answer("site", "data", "check", "hands", "--html", page, "--home", site, here=True)["check"]
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert "GAP-FOUND" in {item["code"] for item in check["findings"]}
    assert "GAP-FOUND" in page.read_text()

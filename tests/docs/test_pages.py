"""What the pages name is there: every page in the navigation, every link's target, every command and option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any, cast

import click
import markdown
import pytest
import yaml
from docs.tools.reference import root_command

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*sorted(ROOT.glob("*.md")), *PAGES]
"""Pages of the site, and what stands beside the code."""
CONFIG = yaml.safe_load((ROOT / ".mkdocs.yml").read_text(encoding="utf-8"))
ELSEWHERE = ("https://", "http://", "mailto:")
UNIVERSAL = {"--help", "-h"}
COMMAND = re.compile(
    r"(?:^|; |\bdo |&& |\s(?=\S+/dura ))"  # where a command may begin
    r"(?:[A-Z_]+=\S+ )*(?:\S*/)?dura ([a-z-][^;&|()#]*)"
)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _leaves(part: Any) -> Iterator[str]:
    """Yield the pages of a navigation."""
    if isinstance(part, str):
        yield part
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _leaves(child)


@cache
def _html(path: Path) -> str:
    """Return a page as the site shows it, as far as links and anchors go."""
    return markdown.markdown(path.read_text(encoding="utf-8"), extensions=CONFIG["markdown_extensions"])


def test_every_page_is_in_the_navigation_once() -> None:
    """A page that nobody can reach is as good as none. That an entry has a page, MkDocs checks."""
    listed = list(_leaves(CONFIG["nav"]))
    assert sorted(set(listed)) == sorted(listed)
    assert [name for page in PAGES if (name := page.relative_to(DOCS).as_posix()) not in listed] == []


@pytest.mark.parametrize("page", TEXTS, ids=_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links have a file, and anchors a heading."""
    for link in map(unescape, re.findall(r'(?:href|src)="([^"]*)"', _html(page))):
        if link.startswith(ELSEWHERE):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{link}: no such file"
        if page.is_relative_to(DOCS):
            assert file.is_relative_to(DOCS), f"{link}: not on the site"
        if anchor:
            assert f'id="{anchor}"' in _html(file), f"{link}: no such heading"


def _code(text: str) -> Iterator[str]:
    """Yield what a page shows as code: lines of blocks with their continuations joined, and code within lines."""
    text = re.sub(r"\\\n\s*", " ", text)
    blocks = re.compile(r"^```\w*\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
    for block in blocks.findall(text):
        yield from block.splitlines()
    text = blocks.sub("", text)
    for line in text.splitlines():
        if line.startswith("    "):
            yield line
        else:
            yield from re.findall(r"`([^`\n]+)`", line)


def _documented(page: Path) -> list[str]:
    """Return the dura commands of a page, without the word dura; those within ``$(...)`` stand for themselves."""
    found = []
    for line in _code(page.read_text(encoding="utf-8")):
        bare = line.split("  #")[0].strip().removeprefix("$ ")
        within = re.compile(r"\$\(([^()]*)\)")
        for part in (within.sub("VALUE", bare), *within.findall(bare)):
            found += [words.strip() for words in COMMAND.findall(part)]
    return found


@cache
def _root() -> click.Group:
    return root_command()


@pytest.mark.parametrize("page", TEXTS, ids=_name)
def test_every_command_exists(page: Path) -> None:
    """Every command and option that a page names is one that the program has."""
    for line in _documented(page):
        words, command = line.split(), cast("click.Command", _root())
        while words and (below := getattr(command, "commands", {})) and not words[0].startswith("-"):
            assert words[0] in below, f"dura {line}"
            command = below[words.pop(0)]
        known = UNIVERSAL | {option for item in command.params for option in (*item.opts, *item.secondary_opts)}
        unknown = {word.split("=")[0] for word in words if word.startswith("-")} - known
        assert not unknown, f"dura {line}: {unknown}"


def test_commands_are_found_at_all() -> None:
    """The search above sees the main commands on the pages that matter, so that it cannot pass by finding nothing."""
    seen = {" ".join(line.split()[:2]) for page in TEXTS for line in _documented(page)}
    assert {"coordinator init", "authority admit", "site join", "site approve", "study sign", "study run"} <= seen
    for name in ("README.md", "docs/tutorial/first-study.md", "docs/how-to/two-hosts.md", "docs/reference/files.md"):
        assert _documented(ROOT / name), name
    tutorial = _documented(DOCS / "tutorial" / "first-study.md")
    assert "site fingerprint --home north" in tutorial
    assert any("--aggregation-port" in line for line in tutorial)

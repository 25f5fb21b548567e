"""The table of adversaries is true: every test that it cites exists, and every attack among the tests is in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "adversaries.md").read_text(encoding="utf-8")
CITED = re.compile(r"`((?:[a-z_]+/)*test_[a-z_]+\.py)(?:::([a-z_]+))?`")
TESTS = ROOT / "tests"


def names_in(path: Path) -> set[str]:
    """Return the names of a module's tests, without their first word."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name.removeprefix("test_")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def place(name: str) -> Path:
    """Return the module that a cited path means: below tests/attacks, or below tests."""
    attack = TESTS / "attacks" / name
    return attack if attack.exists() else TESTS / name


def test_every_cited_test_exists() -> None:
    """A citation names a module, or one of its tests."""
    cited = CITED.findall(PAGE)
    assert len(cited) > 60
    for name, test in cited:
        path = place(name)
        assert path.exists(), name
        if test:
            assert test in names_in(path), f"{name}::{test}"


def test_every_attack_is_in_the_table() -> None:
    """Whoever adds an attack adds its line; attacks on frames have a table of their own."""
    cited = CITED.findall(PAGE)
    whole = {name for name, test in cited if not test}
    single = {f"{name}::{test}" for name, test in cited if test}
    missing = []
    for path in sorted((TESTS / "attacks").rglob("test_*.py")):
        name = path.relative_to(TESTS / "attacks").as_posix()
        if not name.startswith("secagg/") and name not in whole:
            missing += [f"{name}::{test}" for test in sorted(names_in(path)) if f"{name}::{test}" not in single]
    assert missing == []

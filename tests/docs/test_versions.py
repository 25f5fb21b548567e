"""The version that the program, the package and the changelog tell is one."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

from typer.testing import CliRunner

from dura_common import __version__
from dura_common.runtime.cli import root

ROOT = Path(__file__).parents[2]
HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<day>\S+))?$", re.MULTILINE)
GROUPS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
"""What Keep a Changelog 1.1 allows below a version."""


def _changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text()


def _sections() -> list[tuple[str, str | None]]:
    return [(found["name"], found["day"]) for found in HEADING.finditer(_changelog())]


def test_program_package_and_changelog_tell_the_same_version() -> None:
    """`dura --version`, pyproject.toml and the newest released section of the changelog agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    released = next(name for name, _ in _sections() if name != "Unreleased")
    answer = CliRunner().invoke(root, ["--version"])
    assert answer.exit_code == 0
    assert answer.output.strip() == f"dura {project['version']}"
    assert __version__ == project["version"] == released


def test_every_released_section_has_a_date_and_the_newest_stands_first() -> None:
    """Unreleased changes stand on top without a date; below, each version has one, newest first."""
    (first, undated), *released = _sections()
    assert (first, undated) == ("Unreleased", None)
    days = [date.fromisoformat(day or "") for _, day in released]
    assert days == sorted(days, reverse=True)


def test_changes_are_grouped_by_kind() -> None:
    """Every third-level heading of the changelog is one of the six kinds."""
    assert set(re.findall(r"^### (.+)$", _changelog(), re.MULTILINE)) <= GROUPS

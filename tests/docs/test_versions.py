"""The version that the program, the package and the changelog tell is one; what is installed is what was tested."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from dura_common import __version__
from dura_common.runtime.cli import root

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy" / "requirements.txt"
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


def test_the_locked_versions_are_ones_that_the_package_allows() -> None:
    """Every dependency and extra of pyproject.toml is locked at a version that fits, for both versions of Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        Requirement(text) for text in (*project["dependencies"], *(one for name in extras for one in extras[name]))
    ]
    locked = [Requirement(line.removesuffix("\\")) for line in LOCK.read_text().splitlines() if line[:1].isalnum()]
    assert all(f"{item.specifier}".startswith("==") for item in locked)
    for python in ("3.11", "3.12"):
        place = {"python_full_version": f"{python}.7", "python_version": python, "sys_platform": "linux"}
        here = {
            canonicalize_name(item.name): str(item.specifier).removeprefix("==")
            for item in locked
            if item.marker is None or item.marker.evaluate(place)
        }
        for one in wanted:
            name = canonicalize_name(one.name)
            if name not in {"torch", "dura", "grpcio-tools"}:  # by version alone; itself; `make proto`
                assert one.specifier.contains(here[name]), f"{one}, locked {here[name]}"


def test_every_locked_file_has_a_hash() -> None:
    """A package without a hash, or from a named place, would be installed unchecked or from one registry only."""
    text = LOCK.read_text()
    packages = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(packages) > 100
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text

"""What dura says when a part is not installed: the extra of its own wheel file, never a package of an index."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from click.testing import CliRunner

from dura_common.runtime.cli import GROUP, _missing

PYPROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [point.name for point in entry_points(group=GROUP)])
def test_a_missing_group_names_an_extra_that_exists(name: str) -> None:
    """The command of a group that is not installed names the wheel file with an extra of it, and ends with 14."""
    (point,) = (point for point in entry_points(group=GROUP) if point.name == name)
    done = CliRunner().invoke(_missing(point, ImportError(name="absent")), ["status", "--json"])
    assert done.exit_code == 14
    extra = done.output.rsplit("[", 1)[1].split("]")[0]
    assert extra in PYPROJECT["project"]["optional-dependencies"]
    assert "pip install './dura-" in done.output
    assert "pip install 'dura" not in done.output

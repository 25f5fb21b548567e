"""The published JSON Schemas are those of the program, and tell valid files from others."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dura_common.runtime.schemas import main, schemas

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "docs" / "reference"
EXAMPLES = sorted((ROOT / "deploy" / "examples").iterdir())


@pytest.mark.parametrize("name", schemas())
def test_a_published_schema_is_current(name: str) -> None:
    """`make docs` after a change of the models brings it up to date."""
    assert (PUBLISHED / name).read_text() == schemas()[name]


def test_the_script_writes_exactly_the_published_files(tmp_path: Path) -> None:
    """Nothing else lies beside them."""
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PUBLISHED.glob("*.json")}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
@pytest.mark.parametrize("kind", ["study", "policy"])
def test_examples_are_valid_and_damaged_ones_are_not(folder: Path, kind: str) -> None:
    """A missing key, an unknown one and a value of another type are faults; explanations stand beside the keys."""
    schema = json.loads(schemas()[f"{kind}.schema.json"])
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good = _plain(folder / f"{kind}.toml")
    assert not list(validator.iter_errors(good))
    key = next(iter(schema["required"]))
    for bad in ({**good, "surprise": 1}, {k: v for k, v in good.items() if k != key}, {**good, key: []}):
        assert list(validator.iter_errors(bad))
    assert all(part.get("description") for part in schema.get("$defs", {}).values())


def _plain(path: Path) -> Any:
    """Return TOML as JSON would have it: dates are texts."""
    return json.loads(json.dumps(tomllib.loads(path.read_text()), default=str))

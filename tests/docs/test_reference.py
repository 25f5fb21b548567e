"""The generated reference is that of the program, and its schemas tell valid files from others."""

from __future__ import annotations

import json
import re
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import pytest
from docs.tools.reference import MARK, FileKind, commands, file_page, helps, kinds, main, pages, root_command, schema_of
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from dura_common.errors import DuraError

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
EXAMPLES = sorted((ROOT / "deploy" / "examples").iterdir())
PAGES = pages(REFERENCE)
COMMANDS = [(" ".join(path), command) for path, command in commands(root_command())]
SCHEMAS = {kind.name: schema_of(kind) for kind in kinds()}


@pytest.mark.parametrize("name", PAGES)
def test_a_published_page_is_current(name: str) -> None:
    """`make docs` after a change of commands or models brings it up to date."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name]


def test_the_tool_writes_exactly_these_files_and_keeps_the_head(tmp_path: Path) -> None:
    """What is written by hand above the mark stays, whatever lies below it."""
    (tmp_path / "commands.md").write_text(f"# By hand\n\n{MARK}\nold\n")
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(PAGES)
    assert {path.name for path in REFERENCE.glob("*.json")} == {name for name in PAGES if name.endswith(".json")}
    head, _, rest = (tmp_path / "commands.md").read_text().partition(MARK)
    assert head == "# By hand\n\n"
    assert rest == PAGES["commands.md"].partition(MARK)[2]


def test_a_page_without_its_mark_is_refused(tmp_path: Path) -> None:
    """A head that would be lost is an error, and the file stays as it is."""
    (tmp_path / "commands.md").write_text("# By hand\n")
    with pytest.raises(ValueError, match="the line that ends its head"):
        main(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["commands.md"]
    assert (tmp_path / "commands.md").read_text() == "# By hand\n"


@pytest.mark.parametrize(("title", "command"), COMMANDS, ids=[title for title, _ in COMMANDS])
def test_a_command_explains_itself(title: str, command: click.Command) -> None:
    """Each command and group says what it does, each of its parameters what it means, and each prints JSON."""
    said = helps(command)
    silent = [item.name for item in command.params if not said[item.name or ""] and title != "dura"]
    assert command.help, title
    assert silent == [], title
    if not isinstance(command, click.Group) or command.invoke_without_command:
        assert "--json" in {option for item in command.params for option in item.opts}


def test_exit_codes_are_those_of_the_errors() -> None:
    """The table in the head has every family of errors with its code, and no other."""
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", PAGES["commands.md"], flags=re.MULTILINE)
    assert dict(rows) == {str(family.exit_code): family.code for family in DuraError.__subclasses__()}


def test_environment_is_what_the_options_read() -> None:
    """Every variable that stands for an option is in the head."""
    head = PAGES["commands.md"].partition(MARK)[0]
    read = {str(item.envvar) for _, command in COMMANDS for item in command.params if item.envvar}
    assert read
    assert [name for name in read if f"`{name}`" not in head] == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_of_a_file_is_on_its_page(name: str) -> None:
    """No table and no key of the schema is lost on the way to the page."""
    page = PAGES[f"{name}-file.md"]
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    for table in (schema, *schema.get("$defs", {}).values()):
        assert table["description"]
        for key in table["properties"]:
            assert f"| `{key}` |" in page, key


class _Colour(StrEnum):
    RED = "red"


class _Inner(BaseModel):
    """Inside."""

    colour: _Colour = _Colour.RED


class _Outer(BaseModel):
    """Outside."""

    inner: _Inner
    many: list[_Inner] = []


class _File(BaseModel):
    """A file that no side has yet."""

    outer: _Outer


def test_tables_within_tables_have_their_sections() -> None:
    """A table below another, a list of tables and a named choice come out as they are written in the file."""
    page = file_page(FileKind("deep", _File, "Lead."))
    assert re.findall(r"^## (.*)$", page, flags=re.MULTILINE) == ["[outer]", "[outer.inner]", "[[outer.many]]"]
    assert "| `inner` | see [below](#outerinner) | required |  |" in page
    assert page.count('| `colour` | `"red"` | `"red"` |  |') == 2


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
@pytest.mark.parametrize("kind", ["study", "policy"])
def test_examples_are_valid_and_damaged_ones_are_not(folder: Path, kind: str) -> None:
    """A missing key, an unknown one and a value of another type are faults."""
    schema = SCHEMAS[kind]
    validator = Draft202012Validator(schema)
    good = _plain(folder / f"{kind}.toml")
    assert not list(validator.iter_errors(good))
    key = next(iter(schema["required"]))
    for bad in ({**good, "surprise": 1}, {k: v for k, v in good.items() if k != key}, {**good, key: []}):
        assert list(validator.iter_errors(bad))


def _plain(path: Path) -> Any:
    """Return TOML as JSON would have it: dates are texts."""
    return json.loads(json.dumps(tomllib.loads(path.read_text()), default=str))

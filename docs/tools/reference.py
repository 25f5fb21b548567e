"""``python docs/tools/reference.py FOLDER`` writes the reference from the program itself.

- ``commands.md``: every command with its arguments and options, walked in click's own objects, so that no terminal has
  a say in it. What stands above :data:`MARK` is written by hand and kept.
- ``NAME.schema.json`` and ``NAME-file.md`` for each kind of file: what it may hold, as JSON Schema for editors and as
  tables for people. Rules between two values (a band below half the sampling rate, say) have no form in either;
  ``dura study check`` and the site's policy commands know them.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from typer.utils import get_params_from_function

from dura_client.site.settings import SiteSettings
from dura_common.policy import Policy
from dura_common.study import Study
from dura_server.settings import CoordinatorSettings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MARK = "<!-- Below this line: written by docs/tools/reference.py from the program itself. -->"
WRITTEN = "<!-- Written by docs/tools/reference.py from the program itself. -->"
EVERYWHERE = ("--json", "--help")
"""Options that the head of ``commands.md`` explains once for all commands."""
PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$": "one word of letters, digits and `_.-`",
    r"^[a-z][a-z0-9-]{1,30}$": "a name of lower-case letters, digits and hyphens",
}
"""What people read instead of a regular expression."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of file that people write or edit."""

    name: str
    """File name without ending."""
    model: type[BaseModel]
    lead: str
    """First paragraph of its page."""


def kinds() -> tuple[FileKind, ...]:
    """Return every kind of file, in the order in which a study meets them."""
    return (
        FileKind(
            "study",
            Study,
            "What a researcher writes and signs. `dura study new` writes a complete one with comments, "
            "`dura study check` validates it.",
        ),
        FileKind(
            "policy",
            Policy,
            "What a hospital allows. It lies in the site's folder; `dura site policy init` writes it, "
            "`dura site policy explain` says it in sentences.",
        ),
        FileKind(
            "site",
            SiteSettings,
            "A hospital's own settings, in the site's folder; no message changes them. `dura site init` writes the "
            "file, `dura site start` reads it.",
        ),
        FileKind(
            "coordinator",
            CoordinatorSettings,
            "The coordinator's own settings, in the coordinator's folder. `dura coordinator init` writes the file, "
            "`dura coordinator start` reads it.",
        ),
    )


# The command line


def root_command() -> click.Group:
    """Return the ``dura`` command as it is installed."""
    (script,) = metadata.entry_points(group="console_scripts", name="dura")
    root = importlib.import_module(script.module).build()
    if not isinstance(root, click.Group):
        raise TypeError("the root command must be a group")
    return root


def commands(
    command: click.Command, path: tuple[str, ...] = ("dura",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and everything below it, each with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


def helps(command: click.Command) -> dict[str, str]:
    """Return what each parameter of a command says of itself, by the parameter's name.

    Typer keeps it with the function. What click shows of an argument depends on click's version: 8.5 forgets it.
    """
    said = {item.name or "": getattr(item, "help", None) or "" for item in command.params}
    if command.callback is not None:
        for name, info in get_params_from_function(command.callback).items():
            said[name] = getattr(info.default, "help", None) or said.get(name, "")
    return said


def _commands_page(head: str) -> str:
    lines = [head.rstrip(), "", MARK]
    for path, command in commands(root_command()):
        if len(path) == 1:
            continue
        title, text = " ".join(path), _plain(command.help or "")
        if isinstance(command, click.Group) and command.commands:
            lines += ["", f"## {title}", "", text, "", "| command | what it does |", "| --- | --- |"]
            for name, child in command.commands.items():
                summary = _plain(child.help or "").split("\n\n")[0]
                lines.append(f"| [`{title} {name}`](#{_anchor(f'{title} {name}')}) | {summary} |")
            continue
        lines += ["", f"{'##' if len(path) == 2 else '###'} {title}", "", text, ""]  # noqa: PLR2004  # dura demo
        lines += ["```text", _usage(title, command), "```"]
        rows = [_parameter(item, helps(command)[item.name or ""]) for item in _own(command)]
        if rows:
            lines += ["", "| | meaning | default |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + "\n"


def _own(command: click.Command) -> list[click.Parameter]:
    """Return a command's parameters without those that every command has: arguments first."""
    found = [item for item in command.params if not set(item.opts) & set(EVERYWHERE)]
    return sorted(found, key=lambda item: isinstance(item, click.Option))


def _usage(title: str, command: click.Command) -> str:
    words = [title]
    for item in _own(command):
        if isinstance(item, click.Argument):
            name = _placeholder(item) + ("..." if item.nargs == -1 else "")
            words.append(name if item.required else f"[{name}]")
        elif item.required:
            words.append(f"{item.opts[0]} {_placeholder(item)}")
    return " ".join([*words, "[OPTIONS]"])


def _placeholder(item: click.Parameter) -> str:
    if item.metavar:
        return item.metavar
    if isinstance(item, click.Argument):
        return (item.name or "").upper()
    if isinstance(item.type, click.Choice):
        return "|".join(map(str, item.type.choices))
    kind = item.type.name.upper().removesuffix(" RANGE")
    return {"INTEGER": "NUMBER", "FLOAT": "NUMBER"}.get(kind, kind)


def _parameter(item: click.Parameter, said: str) -> str:
    if isinstance(item, click.Argument):
        name = f"`{_placeholder(item)}`"
    else:
        flag = bool(getattr(item, "is_flag", False))
        name = ", ".join(f"`{option}`" for option in item.opts) + ("" if flag else f" `{_placeholder(item)}`")
    more = [_limits_of(item.type)] if isinstance(item.type, click.IntRange | click.FloatRange) else []
    more += ["may be repeated"] if getattr(item, "multiple", False) else []
    more += [f"environment: `{item.envvar}`"] if item.envvar else []
    text = _plain(said) + (f" ({'; '.join(more)})" if more else "")
    default = item.default
    shown = "required" if item.required else "" if default is None or default is False else f"`{default}`"
    return f"| {_cell(name)} | {_cell(text.strip())} | {_cell(shown)} |"


def _limits_of(kind: click.IntRange | click.FloatRange) -> str:
    if kind.min is not None and kind.max is not None:
        return f"{kind.min:g} to {kind.max:g}"
    return f"at least {kind.min:g}" if kind.min is not None else f"at most {kind.max:g}"


# Files


def schema_of(kind: FileKind) -> dict[str, Any]:
    """Return the JSON Schema of one kind of file."""
    return {"$schema": DIALECT, **kind.model.model_json_schema(), "title": f"{kind.name}.toml"}


def file_page(kind: FileKind) -> str:
    """Return the page of one kind of file."""
    schema = schema_of(kind)
    lines = [f"# {kind.name}.toml", "", WRITTEN, "", kind.lead, ""]
    file = f"{kind.name}.schema.json"
    lines += [f"All keys are listed here; others are refused. For editors: [{file}]({file})."]
    return "\n".join([*lines, *_section(_inlined(schema, schema.get("$defs", {})), "")]) + "\n"


def _inlined(part: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a part of a schema with its references filled in; what a table says of itself stands under ``about``."""
    if isinstance(part, list):
        return [_inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    own = {key: _inlined(value, definitions) for key, value in part.items() if key not in {"$ref", "$defs"}}
    if "$ref" not in part:
        return own
    there = _inlined(definitions[part["$ref"].rsplit("/", 1)[1]], definitions)
    about = there.pop("description", "")
    return {**there, "about": about, **own}


def _section(table: Mapping[str, Any], path: str) -> list[str]:
    """Return a table of keys, and the tables below it."""
    lines = ["", "| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    lines += [_key(name, part, table, path) for name, part in table["properties"].items()]
    for name, part in table["properties"].items():
        for below in _tables_of(part):
            lines += ["", f"## {_heading(path, name, part, below)}", "", _plain(below.get("about", ""))]
            lines += _section(below, f"{path}{name}.")
    return lines


def _key(name: str, part: Mapping[str, Any], table: Mapping[str, Any], path: str) -> str:
    below = _tables_of(part)
    value = _value(part) if not below else f"see [below](#{_anchor(_heading(path, name, part, below[0]))})"
    default = part.get("default")
    shown = "" if default is None or below else f"`{json.dumps(default, ensure_ascii=False)}`"
    shown = "required" if name in table.get("required", ()) else shown
    return f"| `{name}` | {_cell(value)} | {_cell(shown)} | {_cell(_plain(part.get('description', '')))} |"


def _tables_of(part: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the tables that may stand for a key: none for a plain value, several where one key tells them apart."""
    if "properties" in part:
        return [part]
    if part.get("type") == "array" and "items" in part:
        return _tables_of(part["items"])
    return [table for choice in part.get("anyOf", part.get("oneOf", ())) for table in _tables_of(choice)]


def _heading(path: str, name: str, part: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return how a table is written in the file, and what tells it from others that may stand there."""
    bare = f"[[{path}{name}]]" if part.get("type") == "array" else f"[{path}{name}]"
    if len(_tables_of(part)) == 1:
        return bare
    fixed = {key: item["const"] for key, item in table["properties"].items() if isinstance(item.get("const"), str)}
    rivals = [other["properties"] for other in _tables_of(part) if other is not table]
    for key, word in fixed.items():
        if all(word != other.get(key, {}).get("const", word) for other in rivals):
            return f'{bare} with {key} = "{word}"'
    raise ValueError(f"nothing tells the tables of {bare} apart")


def _value(part: Mapping[str, Any]) -> str:
    """Say in words what a value may be."""
    if "const" in part:
        return f"`{json.dumps(part['const'], ensure_ascii=False)}`"
    if "enum" in part:
        return " or ".join(f"`{json.dumps(item, ensure_ascii=False)}`" for item in part["enum"])
    if "anyOf" in part:
        return " or ".join(_value(item) for item in part["anyOf"] if item.get("type") != "null")
    if part["type"] in {"array", "object"}:
        return _several(part)
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[part["type"]]
    words = "date" if part.get("format") == "date" else words
    if "pattern" in part:
        return PATTERNS.get(part["pattern"], f"text that matches `{part['pattern']}`")
    return words + _limits(part)


def _several(part: Mapping[str, Any]) -> str:
    if "patternProperties" in part:
        ((names, values),) = part["patternProperties"].items()
        return f"table: {PATTERNS.get(names, f'`{names}`')} = {_value(values)}{_limits(part)}"
    if "prefixItems" in part:
        return f"list of {len(part['prefixItems'])}: {'; '.join(_value(item) for item in part['prefixItems'])}"
    return f"list of {_value(part['items'])}{_limits(part)}"


def _limits(part: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
        "minLength": "at least {} characters",
        "maxLength": "at most {} characters",
        "minItems": "at least {} items",
        "maxItems": "at most {} items",
        "minProperties": "at least {} entries",
        "maxProperties": "at most {} entries",
    }
    found = (text.format(_figure(part[key])) for key, text in words.items() if key in part)
    return re.sub(r"at least 1 (items|characters)", "not empty", "".join(f", {text}" for text in found))


def _figure(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value == int(value) else f"{value:g}"


# Texts


def _plain(text: str) -> str:
    """Return a docstring as Markdown: paragraphs on one line each, roles and double backticks as plain code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text.strip()))


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _anchor(heading: str) -> str:
    """Return the anchor that MkDocs gives to a heading."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def pages(folder: Path) -> dict[str, str]:
    """Return file names with their content; the head of the page of commands is the one in ``folder``."""
    head, mark, _ = (folder / "commands.md").read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"commands.md has lost the line that ends its head: {MARK}")
    found = {"commands.md": _commands_page(head)}
    for kind in kinds():
        found[f"{kind.name}.schema.json"] = json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"
        found[f"{kind.name}-file.md"] = file_page(kind)
    return found


def main(folder: Path) -> None:
    """Write the files."""
    for name, text in pages(folder).items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

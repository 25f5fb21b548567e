"""The house stays one that a newcomer can read: few entries in a folder, short modules, a sentence at each door."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_ENTRIES = 12
MOST_LINES = 350
UNCOUNTED = {"__init__.py", "__main__.py", "py.typed"}
SERIES = {"docs/decisions", "."}
"""A numbered series, and the top level, which holds dot files that tools demand."""
SAY_IT_ALL = {"TimeoutError", "Crash", "(Exception, pytest.fail.Exception)"}
"""Errors that only one thing raises where they are expected."""


def tracked() -> list[Path]:
    """Return every file of the repository, relative to its root."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("the house is not looked over: this is no git checkout")
    return [Path(line) for line in done.stdout.splitlines() if (ROOT / line).exists()]


def test_no_folder_holds_more_than_a_reader_takes_in() -> None:
    """A thirteenth entry asks for a folder of its own."""
    entries: dict[str, set[str]] = {}
    for path in tracked():
        for inner, outer in zip([path, *path.parents], path.parents, strict=False):
            entries.setdefault(str(outer), set()).add(inner.name)
    crowded = {name: len(found - UNCOUNTED) for name, found in entries.items() if name not in SERIES}
    assert len(crowded) > 50
    assert {name: count for name, count in crowded.items() if count > MOST_ENTRIES} == {}


def test_no_module_is_longer_than_a_sitting() -> None:
    """Generated code apart, a module holds one idea in at most 350 lines."""
    modules = [path for path in tracked() if path.suffix == ".py" and "_pb2" not in path.name]
    assert len(modules) > 200
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in modules}
    assert {path: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_every_folder_says_what_belongs_there() -> None:
    """The docstring of a package begins with one sentence about its contents."""
    for package in ("common/dura_common", "client/dura_client", "server/dura_server"):
        folders = {path.parent for path in tracked() if path.suffix == ".py" and path.is_relative_to(package)}
        assert len(folders) > 5
        for folder in folders:
            docstring = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text()))
            assert docstring is not None, folder
            first = docstring.splitlines()[0]
            assert first.endswith("."), folder
            assert re.search(r"[.!?] ", first) is None, f"{folder}: one sentence, then an empty line"


def test_numbered_steps_of_a_header_are_marked_in_the_code() -> None:
    """A module whose header numbers its steps or rules names each number where it is done, and no other number."""
    seen = 0
    for path in tracked():
        if path.suffix == ".py" and path.parts[0] in {"common", "client", "server"}:
            text = (ROOT / path).read_text()
            header = ast.get_docstring(ast.parse(text)) or ""
            steps = {int(number) for number in re.findall(r"^(\d+)\. ", header, re.MULTILINE)}
            if len(steps) > 1:
                seen += 1
                assert marked(text) == steps == set(range(1, len(steps) + 1)), path
    assert seen > 10


def marked(text: str) -> set[int]:
    """Return the steps that the text below a module's header names: ``# 2``, ``step 2``, ``rules 2 and 3``."""
    body = text.split('"""', 2)[2]
    found = {int(number) for number in re.findall(r"  # (\d+)(?=$|[:;,]| )", body, re.MULTILINE)}
    for words in re.findall(r"\b(?:steps?|rules?) (\d+(?: (?:and|to) \d+)?)", body):
        first, *last = (int(number) for number in re.findall(r"\d+", words))
        found |= set(range(first, (last or [first])[0] + 1))
    return found


def test_expected_failures_are_told_from_others() -> None:
    """Every `pytest.raises` names the message or checks the error: any other failure of the same family would pass."""
    found: list[str] = []
    calls = 0
    for path in tracked():
        if path.suffix == ".py" and path.parts[0] == "tests":
            for node in ast.walk(ast.parse((ROOT / path).read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises":
                    calls += 1
                    kinds = {ast.unparse(kind) for kind in node.args}
                    if not {word.arg for word in node.keywords} & {"match", "check"} and not kinds <= SAY_IT_ALL:
                        found.append(f"{path}:{node.lineno}")
    assert calls > 200
    assert found == []

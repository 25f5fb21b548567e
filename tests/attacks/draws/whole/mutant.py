"""The product without one of its rules: a text is replaced in a module, and living functions get the new code.

Nothing is imported again, so classes and everything that was made before stay what they are.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any


@dataclass(frozen=True)
class Edit:
    """One replacement; ``old`` stands in the module exactly once."""

    module: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One rule taken out, in every place that holds it."""

    rule: str
    edits: tuple[Edit, ...]
    approved: bool = False
    """Whether the hospitals approve the studies without the rule, too."""
    story: tuple[tuple[object, ...], ...] = ()
    """Actions of the machine, each with what it is given, after which the rule is missed; empty: any actions."""


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Run the product without a rule during a block.

    Raises:
        AssertionError: an edit does not fit its module, or changes no function.
    """
    before: list[tuple[FunctionType, CodeType]] = []
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        module = importlib.import_module(edit.module)
        text = texts.get(edit.module) or Path(str(module.__file__)).read_text()
        assert text.count(edit.old) == 1, f"{edit.module} has {text.count(edit.old)} places like {edit.old!r}"
        texts[edit.module] = text.replace(edit.old, edit.new)
    try:
        for name, text in texts.items():
            before += _swapped(importlib.import_module(name), text)
        assert before
        yield
    finally:
        for function, code in before:
            function.__code__ = code
        for name in texts:
            _forget(importlib.import_module(name))


def _swapped(module: ModuleType, text: str) -> list[tuple[FunctionType, CodeType]]:
    codes = dict(_codes(compile(text, str(module.__file__), "exec")))
    changed = []
    for function in _functions(module):
        new = codes.get(function.__qualname__)
        if new is not None and new != function.__code__:
            changed.append((function, function.__code__))
            function.__code__ = new
    _forget(module)
    return changed


def _codes(code: CodeType) -> Iterator[tuple[str, CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield inner.co_qualname, inner
            yield from _codes(inner)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for item in vars(module).values():
        if getattr(item, "__module__", None) == module.__name__:
            yield from filter(None, [_plain(item)])
            if isinstance(item, type):
                yield from filter(None, map(_plain, vars(item).values()))


def _plain(item: Any) -> Any:
    """Return the function behind a method, a property, or what decorates a function."""
    inner = item.fget if isinstance(item, property) else getattr(item, "__wrapped__", getattr(item, "__func__", item))
    return inner if isinstance(inner, FunctionType) else None


def _forget(module: ModuleType) -> None:
    """Empty the caches of a module's functions."""
    for item in vars(module).values():
        if hasattr(item, "cache_clear") and getattr(item, "__module__", None) == module.__name__:
            item.cache_clear()

"""One check taken out of the site side of secure sums, and what is imported afresh to run attacks against it."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

import dura_common.secagg

PACKAGE = "dura_common.secagg"
SOURCES = Path(dura_common.secagg.__file__).parent
HELPERS = ("tests.support.secagg.sim", "tests.support.secagg.sites", "tests.attacks.secagg.hostile")
FOLDER = Path(__file__).parents[1]
"""Where the attacks are."""


@dataclass(frozen=True)
class Mutant:
    """One check taken out."""

    check: str
    module: str
    old: str
    new: str
    attack: str
    """Name of the test that must fail, without ``test_``."""


def of(module: str, *rows: tuple[str, str, str, str]) -> list[Mutant]:
    """Return the mutants of a module: check, what is replaced, by what, and the attack."""
    return [Mutant(check, module, old, new, attack) for check, old, new, attack in rows]


@cache
def attacks() -> dict[str, str]:
    """Return every attack of the folder above: its name without ``test_``, and the module that holds it."""
    return {
        node.name.removeprefix("test_"): f"tests.attacks.secagg.{path.stem}"
        for path in sorted(FOLDER.glob("test_*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@cache
def compiled(source: str, path: str) -> CodeType:
    """Return the code of a module; most modules are the same for most mutants."""
    return compile(source, path, "exec")


def _hang(name: str, module: ModuleType | None) -> None:
    """Set or remove the attribute of the package above that importing a module sets."""
    package, _, leaf = name.rpartition(".")
    above = sys.modules.get(package)
    if above is None:
        return
    if module is not None:
        setattr(above, leaf, module)
    elif hasattr(above, leaf):
        delattr(above, leaf)


def _ours() -> list[str]:
    """Return what is imported now and must be imported afresh."""
    fresh = {PACKAGE, *HELPERS, *attacks().values()}
    return [name for name in sys.modules if name in fresh or name.startswith(PACKAGE + ".")]


@contextmanager
def mutated(mutant: Mutant | None) -> Iterator[Callable[[str], Callable[[], None]]]:
    """Yield how to import an attack on the package with a mutant in it; afterwards everything is as before."""

    class Loader(importlib.machinery.SourceFileLoader):
        """Reads the mutant's source and no compiled file."""

        def get_code(self, fullname: str) -> CodeType:
            source = Path(self.path).read_text()
            if mutant is not None and fullname == f"{PACKAGE}.{mutant.module}":
                assert source.count(mutant.old) == 1, f"the source no longer holds once: {mutant.old}"
                source = source.replace(mutant.old, mutant.new)
            return compiled(source, self.path)

    class Finder(importlib.abc.MetaPathFinder):
        """Finds the package's modules with the loader above."""

        def find_spec(
            self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
        ) -> importlib.machinery.ModuleSpec | None:
            del path, target
            if fullname == PACKAGE:
                file = SOURCES / "__init__.py"
                return importlib.util.spec_from_file_location(
                    fullname, file, loader=Loader(fullname, str(file)), submodule_search_locations=[str(SOURCES)]
                )
            if not fullname.startswith(PACKAGE + "."):
                return None
            place = SOURCES.joinpath(*fullname.removeprefix(PACKAGE + ".").split("."))
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            inside = [str(place)] if place.is_dir() else None
            return importlib.util.spec_from_file_location(
                fullname, file, loader=Loader(fullname, str(file)), submodule_search_locations=inside
            )

    def attack(name: str) -> Callable[[], None]:
        found: Callable[[], None] = getattr(importlib.import_module(attacks()[name]), f"test_{name}")
        return found

    finder = Finder()
    before = {name: sys.modules.pop(name) for name in _ours()}
    for name in before:
        _hang(name, None)
    sys.meta_path.insert(0, finder)
    try:
        yield attack
    finally:
        sys.meta_path.remove(finder)
        for name in _ours():
            del sys.modules[name]
            _hang(name, None)
        sys.modules.update(before)
        for name, module in before.items():
            _hang(name, module)

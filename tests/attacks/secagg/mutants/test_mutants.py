"""Every check of a site is needed: each is taken out in turn, and an attack that it stops must then get through.

A mutant is one replacement in one module of ``dura_common.secagg``; the whole package is imported afresh with it, and
so is the module of the named attack, which must then fail. The tables beside this module list the mutants; the ids of
the tests are readable as a list of the checks. :func:`test_every_refusal_has_a_mutant` walks over the sources and finds
every ``raise`` and every call of a checking function that no mutant touches; :data:`UNTOUCHED` says why those few need
none.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.attacks.secagg.mutants.checks_of_parts import KEYS, PARAMS, RING, WIRE
from tests.attacks.secagg.mutants.checks_of_sites import ROUND, SITE, STEP
from tests.attacks.secagg.mutants.mutant import SOURCES, Mutant, attacks, mutated
from tests.support.processes import REPOSITORY

MUTANTS = [*SITE, *STEP, *ROUND, *KEYS, *WIRE, *RING, *PARAMS]

CHECKING = frozenset({"keys.check", "self._enough", "self._expect"})
"""Functions that refuse by themselves: each call is a check."""

UNTOUCHED = {
    ("step_site", "the session is over"): "narrows a type for the checker; an ended session is refused before",
    ("round_site", "the session is over"): "narrows a type for the checker; an ended session is refused before",
    ("round_site", "the keys of this session are gone"): "narrows a type; the order of frames keeps the keys",
    ("round_site", "the secrets of this session are gone"): "narrows a type; the order of frames keeps the secrets",
    ("site", "a note has"): "wrong use by a programmer; tests/common/secagg/test_secrets.py",
    ("ring", "the norm must be positive"): "wrong use by a programmer; tests/common/secagg/parts/test_numbers.py",
    ("ring", "does not fit a ring"): "wrong use by a programmer; tests/common/secagg/parts/test_numbers.py",
}
"""Refusals without a mutant: module and part of the message, and why."""


def test_attacks_fail_against_the_real_sites() -> None:
    """Imported in the same way, without a mutant, every attack named here is stopped."""
    with mutated(None) as attack:
        for name in sorted({mutant.attack for mutant in MUTANTS}):
            attack(name)()


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.module}: {mutant.check}")
def test_an_attack_gets_through(mutant: Mutant) -> None:
    """Without the check the named attack succeeds or ends otherwise than by the right refusal."""
    with mutated(mutant) as attack:
        run = attack(mutant.attack)
        with pytest.raises((Exception, pytest.fail.Exception)) as noticed:
            run()
    broken = NameError | SyntaxError | ImportError | AttributeError
    assert not isinstance(noticed.value, broken), "the mutant itself is broken"


def touched(module: str) -> set[int]:
    """Return the numbers of the lines that mutants of a module replace."""
    source = (SOURCES / f"{module}.py").read_text()
    lines: set[int] = set()
    for mutant in MUTANTS:
        if mutant.module == module:
            first = source[: source.index(mutant.old)].count("\n") + 1
            lines.update(range(first, first + mutant.old.rstrip("\n").count("\n") + 1))
    return lines


def refusals(module: str) -> Iterator[tuple[str, range]]:
    """Yield each refusal of a module, as its text and the lines of the narrowest statement that decides it."""
    source = (SOURCES / f"{module}.py").read_text()

    def walk(node: ast.AST, deciding: range) -> Iterator[tuple[str, range]]:
        for child in ast.iter_child_nodes(node):
            lines = range(getattr(child, "lineno", 0), (getattr(child, "end_lineno", 0) or 0) + 1)
            if isinstance(child, ast.Raise) and child.exc is not None:
                yield ast.unparse(child), range(min(deciding.start, lines.start), lines.stop)
            elif isinstance(child, ast.Call) and ast.unparse(child.func) in CHECKING:
                yield ast.unparse(child), lines
            inner = lines if isinstance(child, ast.If | ast.Try | ast.For) else deciding
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = range(child.end_lineno or 0, 0)
            yield from walk(child, inner)

    yield from walk(ast.parse(source), range(10**6, 0))


def test_every_attack_stands_in_the_reference() -> None:
    """The page lists the attacks of this folder, each with the number of checks that it needs, and no other."""
    page = (REPOSITORY / "docs" / "reference" / "attacks.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", page, re.MULTILINE)
    counted = Counter(mutant.attack for mutant in MUTANTS)
    assert sorted(listed) == sorted((name, str(counted[name])) for name in attacks())


@pytest.mark.parametrize("module", ["site", "step_site", "round_site", "keys", "wire", "ring", "params"])
def test_every_refusal_has_a_mutant(module: str) -> None:
    """Whoever adds a check to a site adds a mutant, or says in UNTOUCHED why there is none."""
    lines = touched(module)
    missing = [
        text
        for text, deciding in refusals(module)
        if not lines & set(deciding) and not any(where == module and part in text for where, part in UNTOUCHED)
    ]
    assert missing == []

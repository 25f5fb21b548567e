"""Every check of a site is needed: each is taken out in turn, and an attack that it stops must then get through.

A mutant is one replacement in one module of ``dura_common.secagg``; the whole package is imported afresh with it, and
so is the module of attacks, whose named attack must then fail. :data:`MUTANTS` lists them; its ids are readable as a
list of the checks. :func:`test_every_refusal_has_a_mutant` walks over the sources and finds every ``raise`` and every
call of a checking function that no mutant touches; :data:`UNTOUCHED` says why those few need none.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

import pytest

import dura_common.secagg

PACKAGE = "dura_common.secagg"
SOURCES = Path(dura_common.secagg.__file__).parent
ATTACKS = "tests.attacks.test_secagg_coordinator"
FRESH = (PACKAGE, "tests.support.secagg_sim", "tests.common.secagg.world", ATTACKS)
"""What is imported afresh for each mutant."""


@dataclass(frozen=True)
class Mutant:
    """One check taken out."""

    check: str
    module: str
    old: str
    new: str
    attack: str
    """Name of the test that must fail, without ``test_``."""


def _of(module: str, *rows: tuple[str, str, str, str]) -> list[Mutant]:
    return [Mutant(check, module, old, new, attack) for check, old, new, attack in rows]


SITE = _of(
    "site",
    (
        "the identity is the pinned one",
        "if identity.public_key().public_bytes_raw() != params.members[self.index].identity:",
        "if False:",
        "a_site_opens_only_its_own_kind_and_identity",
    ),
    (
        "a vector has the study's length and type",
        "if values.shape != (self.params.length,) or values.dtype not in (np.int32, np.int64):",
        "if False:",
        "vectors_that_do_not_fit",
    ),
    (
        "a session is not copied",
        'raise TypeError("a session holds secrets and cannot be copied or pickled")',
        "return object.__reduce__(self)",
        "nothing_is_left_at_the_end",
    ),
    ("an ended session is over", "if self._ended:\n", "if False:\n", "nothing_continues_after_an_abort"),
    (
        "an abort ends the session",
        "except BaseException as error:\n            self._finish()",
        "except BaseException as error:",
        "nothing_continues_after_an_abort",
    ),
    ("frames of errors are cleared", "_forget_frames(error)\n", "pass\n", "nothing_continues_after_an_abort"),
    (
        "the end erases",
        "        self._erase()\n        self._ended",
        "        self._ended",
        "nothing_is_left_at_the_end",
    ),
    (
        "a frame is of this session",
        "if frame.session != self.params.session_id:",
        "if False:",
        "frames_of_an_older_session",
    ),
    ("an abort frame is an abort", "if frame.type is Type.ABORT:", "if False:", "the_coordinator_ends_the_session"),
    (
        "a frame is of the expected type",
        "if (frame.type, frame.step) != (kind, step):",
        "if frame.step != step:",
        "frames_out_of_order",
    ),
    (
        "a frame is of the present step",
        "if (frame.type, frame.step) != (kind, step):",
        "if frame.type != kind:",
        "a_sum_of_another_step",
    ),
    ("enough sites are left", "if count < self.params.needed:", "if False:", "too_few_sites_in_the_list_of_keys"),
)

STEP = _of(
    "step_site",
    (
        "a step site is of a step session",
        "if params.kind is not Kind.STEP:",
        "if False:",
        "a_site_opens_only_its_own_kind_and_identity",
    ),
    (
        "keys are advertised once",
        "if self._key is None or self._awaits is not None or self._pairs:",
        "if self._key is None:",
        "keys_are_advertised_once",
    ),
    (
        "a list of keys has its place",
        "            self._expect(frame, Type.KEYS, 0)\n",
        "",
        "frames_out_of_order",
    ),
    (
        "a sum has its place and step",
        "            self._expect(frame, Type.OPENED, self._step)\n",
        "",
        "a_sum_of_another_step",
    ),
    (
        "nothing is read while nothing is awaited",
        'raise Abort(Reason.OUT_OF_TURN, f"{frame.type.name} came while nothing was awaited")',
        "return Reaction(ready=True)",
        "frames_before_the_first",
    ),
    ("everybody is in the list of keys", "        self._enough(len(found))\n", "", "too_few_sites_in_the_list_of_keys"),
    (
        "the own key is in the list",
        "if self._key is None or publics.get(self.index) != keys.public_bytes(self._key):",
        "if self._key is None:",
        "own_key_replaced_by_an_earlier_one",
    ),
    ("no key twice", "if len(set(publics.values())) != len(publics):", "if False:", "reflected_own_key"),
    (
        "keys are signed",
        "keys.check(self.params, KEY_USE, {index: (publics[index], ",
        "dict({index: (publics[index], ",
        "replaced_keys",
    ),
    (
        "the session's key goes when it was used",
        "        self._key = self._identity = None  # not needed any more, so not kept\n",
        "",
        "nothing_is_left_at_the_end",
    ),
    (
        "a vector has its place",
        "if self._awaits is not None or not self._pairs:",
        "if self._awaits is not None:",
        "a_second_vector_for_the_same_masks",
    ),
    (
        "one vector a step",
        "if self._awaits is not None or not self._pairs:",
        "if not self._pairs:",
        "a_second_vector_for_the_same_masks",
    ),
    (
        "masks bind the sums before",
        'context = (self._step.to_bytes(4, "big"), self._chain)',
        'context = (self._step.to_bytes(4, "big"), FIRST)',
        "different_sums_told_in_a_step_session",
    ),
    (
        "the chain takes in every sum",
        "        chain.update(frame.body)\n",
        "",
        "different_sums_told_in_a_step_session",
    ),
    (
        "a sum has the study's length",
        "if len(frame.body) != (self.params.length + wire.CHECK_WORDS) * kind.itemsize:",
        "if False:",
        "sums_that_are_damaged_or_of_another_length",
    ),
    ("a step is over when its sum is told", "        self._step += 1\n", "", "more_steps_than_the_study_has"),
    ("the last step ends the session", "if self._step > self._last:", "if False:", "more_steps_than_the_study_has"),
    (
        "erasing takes the pairs' keys",
        "identity = None\n        self._pairs = {}\n",
        "identity = None\n",
        "nothing_is_left_at_the_end",
    ),
)

ROUND = _of(
    "round_site",
    (
        "a round site is of a round session",
        "if params.kind is not Kind.ROUND:",
        "if False:",
        "a_site_opens_only_its_own_kind_and_identity",
    ),
    (
        "keys are advertised once",
        "if self._awaits is not None or self._publics:",
        "if False:",
        "keys_are_advertised_once",
    ),
    (
        "nothing is read while nothing is awaited",
        'raise Abort(Reason.OUT_OF_TURN, f"{frame.type.name} came while nothing was awaited")',
        "return Reaction(ready=True)",
        "frames_before_the_first",
    ),
    ("a frame has its place", "        self._expect(frame, self._awaits, 0)\n", "", "frames_out_of_order"),
    (
        "enough sites gave keys",
        "        self._enough(len(found))\n        own = ",
        "        own = ",
        "too_few_sites_in_the_list_of_keys",
    ),
    (
        "the own keys are in the list",
        "if publics.get(self.index) != own:",
        "if False:",
        "own_key_replaced_by_an_earlier_one",
    ),
    (
        "no key twice",
        "if len({key for pair in publics.values() for key in pair}) != 2 * len(publics):",
        "if False:",
        "reflected_own_key",
    ),
    (
        "keys are signed",
        "        keys.check(self.params, KEY_USE, signed)\n",
        "",
        "replaced_keys",
    ),
    (
        "shares come from others only",
        "if self.index in found or not found.keys() <= self._publics.keys():",
        "if not found.keys() <= self._publics.keys():",
        "shares_from_nowhere",
    ),
    (
        "shares come from sites with keys",
        "if self.index in found or not found.keys() <= self._publics.keys():",
        "if self.index in found:",
        "shares_from_nowhere",
    ),
    ("enough sites shared", "        self._enough(len(found) + 1)\n", "", "shares_from_nowhere"),
    (
        "seals bind the list of keys",
        "return self.params.session_id + self._key_list + ",
        "return self.params.session_id + ",
        "sites_that_were_told_different_keys",
    ),
    (
        "a vector has its place",
        "if self._awaits is not None or self._masked or not self._second:",
        "if self._awaits is not None:",
        "a_second_vector_for_the_same_masks",
    ),
    (
        "the seed goes with the vector",
        "        self._seed = self._masking = None  # only the shares that others hold can give them back\n",
        "",
        "nothing_is_left_at_the_end",
    ),
    (
        "the sealing key goes with the last share",
        "        self._sealing, self._sealed_with = None, {}\n",
        "",
        "nothing_is_left_at_the_end",
    ),
    (
        "the site itself survives",
        "if self.index not in survivors or not survivors <= self._second:",
        "if not survivors <= self._second:",
        "survivors_that_cannot_be",
    ),
    (
        "survivors have shared",
        "if self.index not in survivors or not survivors <= self._second:",
        "if self.index not in survivors:",
        "survivors_that_cannot_be",
    ),
    ("enough sites survive", "        self._enough(len(survivors))\n", "", "survivors_that_cannot_be"),
    (
        "confirmations come from survivors",
        "if not found.keys() <= self._survivors:",
        "if False:",
        "confirmations_that_do_not_hold",
    ),
    (
        "enough sites confirmed",
        "        self._enough(len(found))\n        confirmed",
        "        confirmed",
        "confirmations_that_do_not_hold",
    ),
    (
        "confirmations are signed",
        "keys.check(self.params, CONFIRM_USE, {",
        "dict({",
        "two_survivor_lists",
    ),
    (
        "confirmations are of the same survivors",
        "parts = (key_list, wire.encode_set(second), wire.encode_set(survivors))",
        "parts = (key_list, wire.encode_set(second))",
        "two_survivor_lists",
    ),
    (
        "confirmations are of the same shares",
        "parts = (key_list, wire.encode_set(second), wire.encode_set(survivors))",
        "parts = (key_list, wire.encode_set(survivors))",
        "confirmations_that_do_not_hold",
    ),
    (
        "confirmations are of the same keys",
        "parts = (key_list, wire.encode_set(second), wire.encode_set(survivors))",
        "parts = (wire.encode_set(second), wire.encode_set(survivors))",
        "confirmations_that_do_not_hold",
    ),
    (
        "of survivors the seed's share only",
        "{index: shares[0] for index, shares in self._held.items() if index in self._survivors}",
        "{index: shares[0] for index, shares in self._held.items()}",
        "both_shares_of_one_site",
    ),
    (
        "of the lost the key's share only",
        "{index: shares[1] for index, shares in self._held.items() if index not in self._survivors}",
        "{index: shares[1] for index, shares in self._held.items()}",
        "both_shares_of_one_site",
    ),
    (
        "shares are given once",
        "        self._erase()\n        self._awaits = Type.OPENED\n",
        "        self._awaits = Type.SURVIVORS\n",
        "both_shares_of_one_site",
    ),
    (
        "survivors are named once",
        "        self._awaits = Type.CONFIRMS\n",
        "        self._awaits = Type.SURVIVORS\n",
        "survivors_are_named_once",
    ),
    (
        "a sum has the study's length",
        "if len(frame.body) != (self.params.length + wire.CHECK_WORDS) * kind.itemsize:",
        "if False:",
        "sums_that_are_damaged_or_of_another_length",
    ),
    ("erasing takes the shares", "        self._held, self._sealed_with = {}, {}\n", "", "nothing_is_left_at_the_end"),
    ("the sum ends the session", "        self._finish()\n", "", "the_same_frame_twice"),
)

KEYS = _of(
    "keys",
    (
        "signatures are verified",
        "key.verify(signature, signed_bytes(use, params, index, content))",
        "pass",
        "replaced_keys",
    ),
    (
        "signatures bind their use",
        'b"dura secure sum 1 " + use + b"\\0" + ',
        'b"dura secure sum 1 \\0" + ',
        "a_signature_of_another_index_or_use",
    ),
    (
        "signatures bind the session",
        ' + params.session_id + index.to_bytes(2, "big") + content',
        ' + index.to_bytes(2, "big") + content',
        "older_content_under_the_new_session",
    ),
    (
        "derived keys bind the session",
        "return derive(secret, params.session_id, info)",
        "return derive(secret, bytes(32), info)",
        "masks_bind_the_session",
    ),
    (
        "derived keys bind their use",
        'info = b"dura " + use + b"\\0" + first',
        'info = b"dura " + first',
        "masks_bind_the_session",
    ),
    (
        "derived keys bind who sends to whom",
        'first.to_bytes(2, "big") + second.to_bytes(2, "big")\n    return',
        "bytes(4)\n    return",
        "masks_bind_the_session",
    ),
    (
        "keys of small order are an abort",
        'raise Abort(Reason.NOT_AUTHENTIC, "a key of a member is not usable") from error',
        "secret = bytes(32)",
        "keys_of_small_order",
    ),
    (
        "seals are authenticated",
        'raise Abort(Reason.NOT_AUTHENTIC, f"the shares from {sender} were altered") from error',
        "return content[:-16]",
        "shares_altered_or_sealed_for_somebody_else",
    ),
)

WIRE = _of(
    "wire",
    (
        "a frame has a header",
        "if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "if view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "frames_of_no_known_form",
    ),
    (
        "a frame's type is known",
        "if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "if len(view) < HEADER or view[1:4] != _RESERVED:",
        "frames_of_no_known_form",
    ),
    (
        "a frame's reserved bytes are zero",
        "if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "if len(view) < HEADER or view[0] not in _TYPES:",
        "frames_of_no_known_form",
    ),
    (
        "a list has the announced length",
        "if len(body) != INDEX + count * width or count > members:",
        "if count > members:",
        "truncated_and_oversized_frames",
    ),
    (
        "items are of distinct members in order",
        "if not last < index < members:",
        "if not index < members:",
        "unknown_and_doubled_members_in_lists",
    ),
    (
        "items are of members",
        "if not last < index < members:",
        "if not last < index:",
        "unknown_and_doubled_members_in_lists",
    ),
    (
        "fixed bodies have their length",
        "if len(body) != sum(sizes):",
        "if len(body) < sum(sizes):",
        "the_coordinator_ends_the_session",
    ),
)

RING = _of(
    "ring",
    (
        "values cannot wrap upwards",
        "if values.size and (int(values.max()) > limit or int(values.min()) < -limit):",
        "if values.size and int(values.min()) < -limit:",
        "vectors_that_do_not_fit",
    ),
    (
        "values cannot wrap downwards",
        "if values.size and (int(values.max()) > limit or int(values.min()) < -limit):",
        "if values.size and int(values.max()) > limit:",
        "vectors_that_do_not_fit",
    ),
    (
        "check words hold",
        "if not np.array_equal(words[-CHECK_WORDS:], _checks(words[:-CHECK_WORDS])):",
        "if False:",
        "sums_that_are_damaged_or_of_another_length",
    ),
    (
        "values are numbers",
        "if not math.isfinite(total) and not np.isfinite(values).all():",
        "if False:",
        "vectors_that_do_not_fit",
    ),
)

_BOUND = "sites_that_were_told_different_studies"
_NUMBERS = "unsafe_numbers_make_no_session"
PARAMS = [
    *_of(
        "params",
        *[
            (
                f"the session binds {name}",
                "        for field in fields(self):\n",
                f"        for field in (field for field in fields(self) if field.name != {name!r}):\n",
                _BOUND,
            )
            for name in (
                *("study", "roster", "purpose", "round", "attempt", "first_step", "steps", "state", "context"),
                *("length", "ring_bits", "members", "threshold", "minimum", "colluders"),
            )
        ],
        ("digests are digests", "if _DIGEST.fullmatch(digest) is None:", "if False:", _NUMBERS),
        ("a purpose is a word", "if _WORD.fullmatch(self.purpose) is None:", "if False:", _NUMBERS),
        (
            "names are distinct and sorted",
            "if list(self.names) != sorted(set(self.names)):",
            "if False:",
            "one_hospital_under_two_names",
        ),
        (
            "identities are distinct",
            "if len(set(identities)) != len(identities) or ",
            "if ",
            "one_hospital_under_two_names",
        ),
        ("numbers have bounds", "if not low <= getattr(self, name) <= high:", "if False:", _NUMBERS),
        ("a ring has 32 or 64 bits", "if self.ring_bits not in {32, 64}:", "if False:", _NUMBERS),
        ("a sum has two members", "if not MIN_MEMBERS <= count <= MAX_MEMBERS:", "if False:", _NUMBERS),
        (
            "two do not collude",
            "not 0 <= self.colluders <= count - MIN_MEMBERS or ",
            "not 0 <= self.colluders < count or ",
            "minimum_and_colluders_count_too",
        ),
        (
            "the minimum is two",
            " or not MIN_MEMBERS <= self.minimum <= count:",
            ":",
            _NUMBERS,
        ),
        ("a step sum needs everybody", "if self.threshold != count:", "if False:", _NUMBERS),
        (
            "2 t > n + c",
            "elif not (2 * self.threshold > count + self.colluders and self.threshold <= count):",
            "elif not self.threshold <= count:",
            _NUMBERS,
        ),
        (
            "the threshold can be reached",
            "elif not (2 * self.threshold > count + self.colluders and self.threshold <= count):",
            "elif not 2 * self.threshold > count + self.colluders:",
            _NUMBERS,
        ),
        ("a round sum opens one sum", "elif self.steps != 1:", "elif False:", _NUMBERS),
        (
            "the minimum counts beside the threshold",
            "return max(self.threshold, self.minimum, self.colluders + MIN_MEMBERS)",
            "return max(self.threshold, self.colluders + MIN_MEMBERS)",
            "minimum_and_colluders_count_too",
        ),
        (
            "encodings have a heading",
            "if next(parts) != HEADING:",
            "if next(parts) is None:",
            "strange_encodings_of_parameters",
        ),
        ("encodings are canonical", "if params.encode() != content:", "if False:", "strange_encodings_of_parameters"),
        (
            "cut encodings are a ValueError",
            "except (StopIteration, UnicodeDecodeError) as error:",
            "except UnicodeDecodeError as error:",
            "strange_encodings_of_parameters",
        ),
        ("parts are whole", "if len(part) != size:", "if False:", "strange_encodings_of_parameters"),
        (
            "members are counted before they are read",
            "if count > MAX_MEMBERS:",
            "if False:",
            "strange_encodings_of_parameters",
        ),
    )
]

MUTANTS = [*SITE, *STEP, *ROUND, *KEYS, *WIRE, *RING, *PARAMS]

CHECKING = frozenset({"keys.check", "self._enough", "self._expect"})
"""Functions that refuse by themselves: each call is a check."""

UNTOUCHED = {
    ("step_site", "the session is over"): "narrows a type for the checker; an ended session is refused before",
    ("round_site", "the session is over"): "narrows a type for the checker; an ended session is refused before",
    ("round_site", "the keys of this session are gone"): "narrows a type; the order of frames keeps the keys",
    ("round_site", "the secrets of this session are gone"): "narrows a type; the order of frames keeps the secrets",
    ("ring", "the norm must be positive"): "wrong use by a programmer; tests/common/secagg/test_parts.py",
    ("ring", "does not fit a ring"): "wrong use by a programmer; tests/common/secagg/test_parts.py",
}
"""Refusals without a mutant: module and part of the message, and why."""


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


@contextmanager
def mutated(mutant: Mutant | None) -> Iterator[ModuleType]:
    """Import the package with a mutant, and the attacks on it; afterwards everything is as before."""

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

    def ours() -> list[str]:
        return [name for name in sys.modules if name in FRESH or name.startswith(PACKAGE + ".")]

    finder = Finder()
    before = {name: sys.modules.pop(name) for name in ours()}
    for name in before:
        _hang(name, None)
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module(ATTACKS)
    finally:
        sys.meta_path.remove(finder)
        for name in ours():
            del sys.modules[name]
            _hang(name, None)
        sys.modules.update(before)
        for name, module in before.items():
            _hang(name, module)


def test_attacks_fail_against_the_real_sites() -> None:
    """Imported in the same way, without a mutant, every attack named here is stopped."""
    with mutated(None) as attacks:
        for name in sorted({mutant.attack for mutant in MUTANTS}):
            getattr(attacks, f"test_{name}")()


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.module}: {mutant.check}")
def test_an_attack_gets_through(mutant: Mutant) -> None:
    """Without the check the named attack succeeds or ends otherwise than by the right refusal."""
    with mutated(mutant) as attacks:
        attack = getattr(attacks, f"test_{mutant.attack}")
        with pytest.raises((Exception, pytest.fail.Exception)) as noticed:
            attack()
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

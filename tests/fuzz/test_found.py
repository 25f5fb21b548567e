"""Inputs that once broke a parser are refused now, and honest bytes and their cut, doubled and altered forms always."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import targets

FOUND = sorted(path for path in (Path(__file__).parent / "found").rglob("*") if path.is_file())


def feed(name: str, content: bytes) -> None:
    """Let a target take or refuse; any other exception passes through."""
    target = targets()[name]
    with contextlib.suppress(target.refusals):
        target.parse(content)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_is_refused(path: Path) -> None:
    """The folder is the target, each file an input that fuzzing found."""
    feed(path.parent.name, path.read_bytes())


@pytest.mark.parametrize("name", targets())
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_altered_bytes_are_refused_or_taken(name: str, data: st.DataObject) -> None:
    """Whatever is cut out, doubled or changed in honest bytes, no exception but a refusal comes out."""
    seed = data.draw(st.sampled_from(targets()[name].seeds))
    begin = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(begin, len(seed)))
    middle = data.draw(st.one_of(st.binary(max_size=40), st.just(seed[begin:end] * 2)))
    feed(name, seed[:begin] + middle + seed[end:])

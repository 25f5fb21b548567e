"""How a study is named on a command line: one rule, and never another study than the one that was meant."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dura_common.errors import StateError
from dura_common.study.reference import FEWEST_DIGITS, find_study

HANDS, FACADE, OTHER = "c1" + "0" * 62, "facade" + "1" * 58, "c1" + "f" * 62
KNOWN = {HANDS: "hands", FACADE: "c1", OTHER: "facade"}


def find(reference: str, known: Mapping[str, str | None] = KNOWN) -> str:
    """Look a reference up among three studies."""
    return find_study(reference, known, where="submitted studies", lister="dura study list")


def test_an_exact_name_comes_before_too_few_digits() -> None:
    """A study called c1 is found by its name, though two others' digests begin so: two digits name nothing."""
    assert find("c1") == FACADE
    assert find("hands") == HANDS
    assert find("facade", {FACADE: "facade"}) == FACADE


def test_a_study_does_not_pose_as_another_one() -> None:
    """A study that is called like the first digits of another one's digest is not taken for it, nor that one for it."""
    for digits in (6, 12, 32):
        with pytest.raises(StateError, match="2 of the submitted studies have this name or begin with these digits"):
            find(FACADE[:digits], {FACADE: "hands", OTHER: FACADE[:digits]})


def test_a_whole_digest_comes_before_any_name() -> None:
    """No name can stand in the way of a digest that was copied as a whole."""
    assert find(HANDS, {HANDS: "hands", OTHER: HANDS}) == HANDS
    with pytest.raises(StateError, match="none of the submitted studies has the digest"):
        find("ab" * 32, {HANDS: "ab" * 32})


@pytest.mark.parametrize("digits", range(1, FEWEST_DIGITS))
def test_a_few_digits_are_refused(digits: int) -> None:
    """A beginning of fewer than six digits names nothing, even where only one digest begins so."""
    with pytest.raises(StateError, match="too short for a digest: give at least 6 digits"):
        find(HANDS[:digits], {HANDS: "hands"})


def test_what_fits_several_is_refused_with_their_digests() -> None:
    """Two studies of one name, or of one beginning, are told apart by more digits."""
    with pytest.raises(StateError, match=f"2 of the submitted studies are called 'twice': {HANDS[:12]}, {OTHER[:12]}"):
        find("twice", {HANDS: "twice", OTHER: "twice"})
    one, other = "abcdef" + "0" * 58, "abcdef" + "1" * 58
    with pytest.raises(StateError, match="2 of the submitted studies have a digest that begins with abcdef"):
        find("abcdef", {one: "a", other: "b"})
    assert find("abcdef1", {one: "a", other: "b"}) == other


@pytest.mark.parametrize("reference", ["", "..", "hand", "HANDS", "*", "c1" + "2" * 62, "facades"])
def test_what_fits_nothing_says_where_to_look(reference: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(StateError, match="none of the submitted studies") as caught:
        find(reference)
    assert "dura study list" in caught.value.hint


HEXADECIMAL = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(
    known=st.dictionaries(HEXADECIMAL, st.sampled_from(["a", "abcdef", "abcdef0", "hands", None])),
    reference=st.text("abcdef0hns", max_size=12),
)
def test_whatever_is_found_was_meant(known: dict[str, str | None], reference: str) -> None:
    """The study found is the only one with that name, or whose digest begins with six or more such digits."""
    meant = {digest for digest, name in known.items() if name == reference}
    if re.fullmatch(r"[0-9a-f]{6,}", reference):
        meant |= {digest for digest in known if digest.startswith(reference)}
    try:
        assert meant == {find(reference, known)}
    except StateError:
        assert len(meant) != 1

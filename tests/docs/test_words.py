"""Phrases that readers stumbled over do not come back: calques, riddles, and sentences without a noun."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        *(f"{side}/**/*.{kind}" for side in ("client", "common", "server") for kind in ("py", "html")),
    )
    for path in ROOT.glob(pattern)
)
READ_ALOUD = {
    "whoever such a recording is of": "the person in such a recording",
    "that it bears": "name the thing and what it allows",
    "asked again, it is another one": "say what the second request gets",
    "in which alone they leave": "vectors leave only as part of a secure sum",
    "the words say why": "the message gives the reason",
    "beside whom": "name both groups",
    "who is let in": "which sites may connect",
    "trust a member no more": "end trust in a member",
    "is trusted no more": "is no longer trusted",
    "this site's word": "this site's countersignature",
    "in the world's eyes": "against everybody outside",
    "against the world": "against everybody outside",
    "has not the expected form": "does not have the expected form",
    "is of no use": "cannot be used",
    "nobody called": "no member named",
    "out of reach for too long": "could not be reached for too long",
    "for reading aloud": "so that people can read it out",
    "at work already": "already running",
    "the roster before": "the previous roster",
    "the rosters that wait": "the waiting rosters",
    "the keys that wait": "the waiting keys",
    "is founded anew": "must be founded again",
    "the site's yes": "the site's approval",
    "before saying yes": "before the decision",
    "who has no room": "patients without enough budget",
    "takes off the masks": "removes the masks",
    "what lies where": "which file is where",
    "goes by the newest": "uses the newest",
    "strangers few of them": "strangers get few connections",
    "an older dura": "an older version of dura",
    "an earlier dura": "an earlier version of dura",
    "this dura reads": "this version of dura reads",
    "keep it closed": "keep it locked away",
    "at the own desk": "at the desk",
    "hold the data against": "compare the data with",
    "goes the way of": "is done as it is for",
    "is called like": "has the same name as",
    "of another flower": "another version of Flower",
    "under another passphrase": "encrypt with another passphrase",
    "how it stands": "its state",
    "is worth its start": "starting a thread is worth while from this size on",
    "loss without bound": "infinite loss",
    "is no bound any more": "is no longer a bound",
    "noised by no seed": "noise that has no seed",
    "somebody stands between": "an attacker is in between",
    "begin anew": "start again",
    "is no number": "is not a number",
    "are no numbers": "are not numbers",
    "no whole number": "not a whole number",
    "nobody thinks of": "that a reader may not know",
}
"""A phrase that was found in pages or messages, and a way to say it."""


def test_phrases_are_looked_for_where_they_could_stand() -> None:
    """The search sees pages, messages and docstrings, so that it cannot pass by reading nothing."""
    names = {path.relative_to(ROOT).as_posix() for path in TEXTS}
    assert {"README.md", "docs/explanation/glossary.md", "server/dura_server/report/report.html"} <= names
    assert {"client/dura_client/release/gate.py", "common/dura_common/errors.py"} <= names
    assert _found("It is\n    # OF NO\n    use.") == ["is of no use"]


def _found(text: str) -> list[str]:
    """Return the phrases in a text, whatever its line breaks, its letters' case and the marks of comments."""
    plain = " ".join(re.sub(r"^\s*(?:#:? |> |[-*] )", " ", text, flags=re.MULTILINE).split()).lower()
    return [phrase for phrase in READ_ALOUD if phrase in plain]


@pytest.mark.parametrize("phrase", READ_ALOUD)
def test_a_phrase_is_said_in_plain_words(phrase: str) -> None:
    """No page, help text, message or docstring contains the phrase."""
    places = [path.relative_to(ROOT).as_posix() for path in TEXTS if phrase in _FOUND[path]]
    assert places == [], f"say instead: {READ_ALOUD[phrase]}"


_FOUND = {path: _found(path.read_text(encoding="utf-8")) for path in TEXTS}

"""Every decision gives its date and status, the options, what was measured, the choice, and what follows from it."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
PAGES = sorted(FOLDER.glob("*.md"))
PARTS = ["Context", "Options considered", "Measured", "Decision", "Consequences"]
HEAD = re.compile(r"# (?P<number>\d{4}) .+\n\n- Date: (?P<day>\S+)\n- Status: (?P<status>.+)\n")
STATUS = re.compile(r"(accepted|rejected)\b|superseded by \[")


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_decision_has_every_part(page: Path) -> None:
    """Title with the file's number, date, status, then the five parts in their order, none of them empty."""
    text = page.read_text(encoding="utf-8")
    head = HEAD.match(text)
    assert head is not None
    assert head["number"] == page.stem[:4]
    assert date.fromisoformat(head["day"])
    assert STATUS.match(head["status"]), head["status"]
    _, *rest = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    assert rest[::2] == PARTS
    assert all(body.strip() for body in rest[1::2])


def test_numbers_are_given_once() -> None:
    """No two decisions have one number."""
    numbers = [page.stem[:4] for page in PAGES]
    assert len(numbers) > 30
    assert len(set(numbers)) == len(numbers)

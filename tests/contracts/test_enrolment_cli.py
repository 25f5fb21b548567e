"""Enrolment through the public commands only, as two operators would do it, each in an own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import answer
from tests.support.consortium import contents

TRUST, INPUT, STATE = 11, 10, 14


class People:
    """Runs commands as coordinator, hospital or researcher, all below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run a command with --json, expect its exit code and return its one JSON object."""
        return answer(*arguments, code=code, env={"HOME": str(self.root)})

    def coordinator(self, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `dura coordinator`."""
        return self.run("coordinator", command, *arguments, "--home", str(self.root / "coordinator"), code=code)

    def site(self, name: str, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `dura site` at one hospital."""
        return self.run("site", command, *arguments, "--home", str(self.root / name), code=code)


@pytest.fixture
def people(tmp_path: Path) -> People:
    """A coordinator that was initialised by command."""
    made = People(tmp_path)
    made.coordinator("init", "--consortium", "brains", "--host", "localhost")
    return made


def test_enrolment_from_end_to_end(people: People) -> None:
    """Cards go in, admissions come out, fingerprints are compared on both sides, the roster lists everybody."""
    north = people.site("north", "init", "--name", "north")
    ada = people.run("study", "identity", "--name", "ada", "--researcher", str(people.root / "ada"))
    post = people.root / "post"
    admitted = people.coordinator(
        *("admit", north["card"], ada["card"], "--out", str(post)),
        *("--fingerprint", north["fingerprint"], "--fingerprint", ada["fingerprint"].replace(" ", "").upper()),
    )
    assert [item["name"] for item in admitted["admitted"]] == ["north", "ada"]
    mark = people.coordinator("fingerprint")["fingerprint"]
    joined = people.site("north", "join", str(post / "north.admission.json"), "--fingerprint", mark)
    assert joined["changes"] == {"added": ["north"], "removed": [], "altered": []}
    assert people.site("north", "fingerprint")["fingerprint"] == north["fingerprint"]
    assert people.site("north", "card")["fingerprint"] == north["fingerprint"]
    roster = people.coordinator("roster")["roster"]
    assert [site["name"] for site in roster["sites"]] == ["north"]
    assert [item["name"] for item in roster["researchers"]] == ["ada"]
    assert people.coordinator("remove", "ada")["removed"] == "ada"
    assert people.coordinator("renew")["serial"] == 3


def test_nobody_compared_the_fingerprint(people: People) -> None:
    """Without a person, a fingerprint or --yes nothing is admitted or joined; --yes warns."""
    card = people.site("north", "init", "--name", "north")["card"]
    post = people.root / "post"
    before = contents(people.root)
    wrong = "0000 " * 10
    for extra in ((), ("--fingerprint", wrong)):
        refused = people.coordinator("admit", card, "--out", str(post), *extra, code=TRUST)
        assert refused["error"]["code"] == "trust"
    people.coordinator("admit", card, "--out", str(post), *("--fingerprint", wrong) * 2, code=INPUT)
    assert contents(people.root) == before
    assert "without comparison" in people.coordinator("admit", card, "--out", str(post), "--yes")["warnings"][0]
    before = contents(people.root)
    admission = str(post / "north.admission.json")
    people.site("north", "join", admission, code=TRUST)
    people.site("north", "join", admission, "--fingerprint", wrong, code=TRUST)
    assert contents(people.root) == before


def test_one_clear_error_each(people: People) -> None:
    """Missing, wrong and oversized files, bad names and second attempts each end in one error of their family."""
    people.site("north", "init", "--name", "north")
    big = people.root / "big.json"
    big.write_bytes(b" " * 5_000_000)
    before = contents(people.root)
    for code, command in (
        (STATE, ("init", "--consortium", "brains", "--host", "localhost")),
        (INPUT, ("admit", str(people.root / "none.json"), "--out", str(people.root / "post"), "--yes")),
        (INPUT, ("admit", str(people.root), "--out", str(people.root / "post"), "--yes")),
        (INPUT, ("admit", str(big), "--out", str(people.root / "post"), "--yes")),
        (INPUT, ("remove", "nobody")),
    ):
        assert people.coordinator(*command, code=code)["error"]["message"]
    for code, arguments in (
        (STATE, ("init", "--name", "north")),
        (INPUT, ("join", str(big), "--yes")),
        (INPUT, ("join", str(people.root / "north" / "north.card.json"), "--yes")),
    ):
        assert people.site("north", *arguments, code=code)["error"]["message"]
    assert contents(people.root) == before
    assert people.site("east", "init", "--name", "EAST", code=INPUT)["error"]["code"] == "input"
    assert people.site("east", "join", str(big), code=INPUT)["error"]["code"] == "input"
    assert people.site("east", "fingerprint", code=STATE)["error"]["hint"]
    other = ("init", "--consortium", "x", "--host", "no host", "--home", str(people.root / "other"))
    assert "host name" in people.run("coordinator", *other, code=INPUT)["error"]["message"]
    assert not (people.root / "other").exists()
    assert not (people.root / "east").exists()

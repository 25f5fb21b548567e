"""Enrolment through the public commands only, as two operators would do it, each in an own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import answer
from tests.support.consortium import contents

pytestmark = pytest.mark.long

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

    def authority(self, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `dura authority`."""
        return self.run("authority", command, *arguments, "--authority", str(self.root / "authority"), code=code)

    def site(self, name: str, command: str, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Run `dura site` at one hospital."""
        return self.run("site", command, *arguments, "--home", str(self.root / name), code=code)


@pytest.fixture
def people(tmp_path: Path) -> People:
    """A coordinator and an authority that were initialised by command."""
    made = People(tmp_path)
    made.coordinator("init", "--consortium", "brains", "--host", "localhost")
    made.authority("init", "--coordinator", str(tmp_path / "coordinator"))
    return made


def test_enrolment_from_end_to_end(people: People) -> None:
    """Cards go in, admissions come out, fingerprints are compared on both sides, the sites countersign a newcomer."""
    cards = [people.site(name, "init", "--name", name) for name in ("north", "east")]
    cards.append(people.run("study", "identity", "--name", "ada", "--researcher", str(people.root / "ada")))
    post = people.root / "post"
    told = [word for card in cards for word in ("--fingerprint", card["fingerprint"].replace(" ", "").upper())]
    admitted = people.authority("admit", *(card["card"] for card in cards), "--out", str(post), *told)
    assert [item["name"] for item in admitted["admitted"]] == ["north", "east", "ada"]
    mark = people.coordinator("fingerprint")["fingerprint"]
    assert mark == admitted["fingerprint"] == people.authority("fingerprint")["fingerprint"]
    for name in ("north", "east"):
        joined = people.site(name, "join", str(post / f"{name}.admission.json"), "--fingerprint", mark)
        assert joined["changes"]["added"] == ["ada", "east", "north"]
        assert joined["followed"]
        assert people.site(name, "roster")["fingerprint"] == mark
    desk = ("--researcher", str(people.root / "ada"))
    people.run("study", "join", str(post / "ada.admission.json"), *desk, code=TRUST)
    assert (
        people.run("study", "join", str(post / "ada.admission.json"), "--fingerprint", mark, *desk)["joined"] == "ada"
    )
    answers = {path.name for path in post.iterdir()}  # one for each member, and one for the coordinator's machine
    assert answers == {*(f"{name}.admission.json" for name in ("north", "east", "ada")), "rosters.json"}
    assert people.site("north", "fingerprint")["fingerprint"] == cards[0]["fingerprint"]
    assert people.site("north", "card")["fingerprint"] == cards[0]["fingerprint"]
    shown = {row["name"]: row for row in people.site("north", "roster")["members"]}
    assert shown["east"]["fingerprint"] == cards[1]["fingerprint"]
    assert all(row["confirmed"] for row in shown.values())
    _fifth(people)
    people.site("north", "distrust", "south", "--why", "a call")
    assert {row["name"] for row in people.site("north", "roster")["members"] if row["distrusted"]} == {"south"}
    people.site("north", "confirm", "south", code=TRUST)
    south = people.site("south", "fingerprint")["fingerprint"]
    people.site("north", "confirm", "south", "--fingerprint", south)
    assert not any(row["distrusted"] for row in people.site("north", "roster")["members"])


def _fifth(people: People) -> None:
    """Admit one more site: two countersignatures as files, and one file back."""
    card = people.site("south", "init", "--name", "south")
    post, chain = people.root / "post", str(people.root / "chain.json")
    people.authority("admit", card["card"], "--out", str(post), "--fingerprint", card["fingerprint"])
    people.coordinator("chain", chain)
    waiting = people.site("north", "roster", "--from", chain)["waiting"]
    assert [(row["added"], row["countersigned"], row["needed"]) for row in waiting] == [(["south"], [], 2)]
    people.site("north", "roster", "confirm", code=TRUST)
    files = []
    for name in ("north", "east"):
        words = ("roster", "confirm", "--fingerprint", waiting[0]["fingerprint"], "--from", chain)
        files += people.site(name, *words)["files"]
    rows = people.coordinator("roster")["rosters"]
    assert [row["in_force"] for row in rows] == [True, False]
    assert len(people.coordinator("collect", *files)["collected"]) == 2
    people.coordinator("chain", chain)
    assert people.site("north", "roster", "--from", chain)["serial"] == 2
    assert [row["in_force"] for row in people.coordinator("roster")["rosters"]] == [True, True]
    mark = people.authority("fingerprint")["fingerprint"]
    assert people.site("south", "join", str(post / "south.admission.json"), "--fingerprint", mark)["followed"]


def test_nobody_compared_the_fingerprint(people: People) -> None:
    """Without a person, a fingerprint or --yes nothing is admitted or joined; --yes warns."""
    card = people.site("north", "init", "--name", "north")["card"]
    post = people.root / "post"
    before = contents(people.root)
    wrong = "0000 " * 10
    for extra in ((), ("--fingerprint", wrong)):
        refused = people.authority("admit", card, "--out", str(post), *extra, code=TRUST)
        assert refused["error"]["code"] == "trust"
    people.authority("admit", card, "--out", str(post), *("--fingerprint", wrong) * 2, code=INPUT)
    assert contents(people.root) == before
    assert "without comparison" in people.authority("admit", card, "--out", str(post), "--yes")["warnings"][0]
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
        (STATE, ("roster",)),
        (INPUT, ("follow", str(big))),
    ):
        assert people.coordinator(*command, code=code)["error"]["message"]
    for code, command in (
        (INPUT, ("init",)),
        (STATE, ("init", "--coordinator", str(people.root / "coordinator"))),
        (INPUT, ("admit", str(people.root / "none.json"), "--out", str(people.root / "post"), "--yes")),
        (INPUT, ("admit", str(people.root), "--out", str(people.root / "post"), "--yes")),
        (INPUT, ("admit", str(big), "--out", str(people.root / "post"), "--yes")),
        (STATE, ("remove", "nobody")),
    ):
        assert people.authority(*command, code=code)["error"]["message"]
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

"""Every command that asks a person works without a terminal, and the shell offers the names that commands take."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from tests.support.commands import failed
from tests.support.consortium import Consortium, contents, gather
from tests.support.running import register_motor
from tests.support.studies import study

from dura_client.studies.approvals import receive_offer
from dura_common.runtime.cli import build
from dura_common.study.reference import SHORT_DIGITS

ROOT = Path(__file__).resolve().parents[2]
ASKED_ELSEWHERE = {"site approve"}
"""It asks at the end of a review, which needs recordings: tests/client/release/test_gate_outputs.py."""


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a consortium of the present; a third hospital and the researcher have not joined."""
    made = Consortium(tmp_path, moment=None)
    made.make_all()
    made.make_site("south")
    made.admit(made.card("south"))
    gather(made.coordinator, made.joined())
    return made


def asking() -> Iterator[str]:
    """Yield the name of each command that has an option in place of a person's answer."""
    below: list[tuple[str, click.Command]] = [("", build())]
    while below:
        name, command = below.pop()
        if any(item.name == "yes" for item in command.params):
            yield name
        if isinstance(command, click.Group):
            below += [(f"{name} {word}".strip(), inner) for word, inner in command.commands.items()]


def _chain(consortium: Consortium) -> Path:
    from dura_common.consortium.chain import Chain

    path = consortium.root / "chain.json"
    path.write_text(Chain(links=gather(consortium.coordinator, consortium.joined())).model_dump_json())
    return path


BROUGHT = ("/consortium/pending.json", "/consortium/followed/")
COMMANDS: dict[str, Callable[[Consortium], tuple[object, ...]]] = {
    "authority admit": lambda made: (
        *(made.site("south").path / "south.card.json", "--out", made.root / "again"),
        *("--authority", made.authority),
    ),
    "site join": lambda made: (made.post / "south.admission.json", "--home", made.site("south")),
    "site roster confirm": lambda made: ("--from", _chain(made), "--home", made.site("north")),
    "site roster accept": lambda made: ("east", "--home", made.site("north")),
    "site confirm": lambda made: ("east", "--home", made.site("north")),
    "site ledger move": lambda made: ("--home", made.site("north")),
    "study join": lambda made: (made.post / "ada.admission.json", "--researcher", made.researcher),
}
"""How each command is called so far that it would ask."""


def test_every_command_that_asks_is_tried_here() -> None:
    """A new command that asks needs its line below, and asks through the functions of the console alone."""
    assert set(asking()) == set(COMMANDS) | ASKED_ELSEWHERE
    for path in (*ROOT.glob("client/**/*.py"), *ROOT.glob("server/**/*.py"), *ROOT.glob("common/**/*.py")):
        if path.name == "console.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"typer.confirm", "typer.prompt", "click.confirm", "click.prompt", "input"}, path


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_without_a_terminal_the_option_is_named(consortium: Consortium, name: str) -> None:
    """One error in JSON of its family, its exit code, and the option that answers; nobody's decision is recorded."""
    words = (*name.split(), *COMMANDS[name](consortium))
    before = _decided(consortium)
    compared = name not in {"site roster accept", "site ledger move"}
    refusal = failed(*words, code=11 if compared else 12, here=True)
    assert refusal.error["code"] == ("trust" if compared else "policy")
    assert ("--fingerprint" if compared else "--yes") in refusal.error["hint"]
    assert _decided(consortium) == before


def _decided(consortium: Consortium) -> dict[str, bytes]:
    """Return all files but the rosters that anybody may bring."""
    homes = (consortium.researcher.path, consortium.site("north").path, consortium.authority.path)
    found = {f"{home.name}/{key}": content for home in homes for key, content in contents(home).items()}
    return {key: content for key, content in found.items() if not any(word in key for word in BROUGHT)}


def completions(*words: object, incomplete: str = "") -> set[str]:
    """Return what the shell offers next."""
    found = BashComplete(build(), {}, "dura", "_DURA_COMPLETE").get_completions(
        [str(word) for word in words], incomplete
    )
    return {item.value for item in found}


def test_the_shell_offers_studies_and_data(consortium: Consortium) -> None:
    """By name and by digest, from the folder that the options name; without a folder, nothing and no error."""
    consortium.agree()
    stored, offer = consortium.submit(study(name="hands"))
    north = consortium.site("north")
    for home in consortium.joined():
        receive_offer(home, offer, consortium.now())
    short = stored.digest[:SHORT_DIGITS]
    (consortium.root / "bids").mkdir()
    (consortium.root / "bids" / "dataset_description.json").write_text("{}")
    register_motor(north, consortium.root / "bids", labels={}, name="motor")
    site, coordinator = ("--home", north.path), ("--home", consortium.coordinator.path)
    for command in ("review", "approve", "decline"):
        assert completions("site", command, *site) == {"hands", short}
        assert completions("site", command, *site, incomplete="ha") == {"hands"}
    assert completions("site", "approve", *site, "hands", "--data") == {"motor"}
    assert completions("site", "data", "check", *site) == {"motor"}
    for command in ("run", "watch", "stop", "report", "status"):
        assert completions("study", command, *coordinator) == {"hands", short}
    assert completions("study", "run", *coordinator, incomplete=short[:6]) == {short}
    nowhere = ("--home", consortium.root / "nowhere")
    assert completions("site", "review", *nowhere) == completions("study", "run", *nowhere) == set()

"""What operators copy works: sample files validate, units verify, and documented commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dura_common.policy import judge, parse_policy
from dura_common.privacy.plan import plan_of
from dura_common.study import parse_study

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy" / "examples").iterdir())
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ANALYZE = shutil.which("systemd-analyze")
UNIVERSAL = {"--help", "-h", "--json", "--version", "--install-completion", "--show-completion"}


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_study_and_policy_fit_each_other(folder: Path) -> None:
    """Each example validates, and its policy lets its own study pass at every site that it lists."""
    study = parse_study((folder / "study.toml").read_bytes())
    policy = parse_policy((folder / "policy.toml").read_bytes())
    broken = plan_of(study).epsilon_if_broken
    for site in study.sites:
        findings = judge(policy, study, site=site, public_data=False, epsilon_if_broken=broken)
        failed = [f.sentence for f in findings if not f.passed]
        assert failed == []


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_verifies(unit: Path, tmp_path: Path) -> None:
    """Systemd finds no fault in a unit, the program's place on the target machine aside."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/dura/bin/dura", "/bin/true"))
    answer = subprocess.run([str(ANALYZE), "verify", str(copy)], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr.strip()) == (0, "")


def _commands() -> dict[str, Any]:
    from importlib import metadata

    entries = metadata.entry_points(group="dura.commands")
    return {entry.name: typer.main.get_command(entry.load()) for entry in entries}


def _documented() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [line[4:] for line in text.splitlines() if line.startswith("    ")] + re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            command = re.search(r"(?:^|^[A-Z_]+=\S+ )dura ([a-z].*)", line.split("  #")[0].strip())
            if command:
                found.append((page.name, shlex.split(command[1])))
    return found


@pytest.mark.parametrize(
    ("page", "words"), _documented(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_documented_command_exists(page: str, words: list[str]) -> None:
    """Every command and option that a page names is one that the program has."""
    command: Any = _commands().get(words[0])
    assert command is not None, f"{page}: dura {words[0]}"
    rest = words[1:]
    while rest and getattr(command, "commands", None):
        assert rest[0] in command.commands, f"{page}: dura {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = UNIVERSAL | {option for parameter in command.params for option in parameter.opts}
    assert {word.split("=")[0] for word in rest if word.startswith("-")} <= known, f"{page}: dura {' '.join(words)}"


def test_documented_commands_are_found_at_all() -> None:
    """The search above sees the main commands, so that it cannot pass by finding nothing."""
    seen = {" ".join(words[:2]) for _, words in _documented()}
    assert {"coordinator init", "coordinator admit", "site join", "site approve", "study sign", "study run"} <= seen

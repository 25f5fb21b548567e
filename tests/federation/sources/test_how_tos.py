"""The how-tos of each source, as they are written: simulated, registered, checked, trained, evaluated, reported.

The first hospital types what the page says; the second one has other codes, columns and files, and registers its data
with the options that the simulation names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.federation.commanded import Commanded
from tests.support.commands import dura

PAGES = sorted((Path(__file__).parents[3] / "docs" / "how-to" / "data").glob("*.md"))
SITES = ("north", "south")
BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    """Return two running hospitals without data; every process is gone afterwards."""
    made = Commanded(tmp_path_factory.mktemp("sources"), SITES)
    made.make_all()
    for name in SITES:
        caps = ["--epsilon-per-study", 8, "--epsilon-total", 100, "--delta", 1e-3, "--minimum-sites", 2]
        dura("site", "policy", "init", *caps, "--home", made.site(name))
    try:
        made.start_coordinator()
        for name in made.names:  # one after the other: a start is given a minute
            made.start_site(name)
        yield made
    finally:
        made.stop()


def words_of(page: Path) -> tuple[list[list[str]], str]:
    """Return the commands of a page and its study file."""
    text, *_ = page.read_text(encoding="utf-8").split(
        "\n## Volumes with an atlas\n"
    )  # tests/client/data/fmri does these
    blocks = BLOCK.findall(text)
    commands = [shlex.split(line) for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    (study,) = (text for kind, text in blocks if kind == "toml")
    return commands, study


def run_page(hospitals: Commanded, page: Path) -> dict[str, Any]:
    """Do what a page says at both hospitals and return what was learned on the way."""
    commands, text = words_of(page)
    simulate, add, check, review, approve = (command[1:] for command in commands)
    kind = simulate[3]
    checks = {}
    for name in SITES:
        folder = hospitals.root / "bids" / name / kind
        other = [name if word == "north" else word for word in simulate[4:]]
        options = dura(*simulate[:3], folder, *other, timeout=900)["options"]
        assert add[:5] == ["site", "data", "add", kind, kind]
        if name == "north":
            assert add[5:] == options
        dura(*add[:4], folder, *options, "--home", hospitals.site(name))
    path = hospitals.root / f"{review[2]}.toml"
    path.write_text(text)
    digest = hospitals.sign(path)["digest"]
    dura("study", "submit", path.with_suffix(".signed.json"), "--home", hospitals.coordinator)
    for name in SITES:
        home = ("--home", hospitals.site(name))
        checks[name] = dura(*(str(path) if word == path.name else word for word in check), *home, timeout=600)["check"]
        assert dura(*review, *home, timeout=600)["passed"]
        dura(*approve, "--yes", *home, timeout=600)
    outcome = dura("study", "run", digest, "--home", hospitals.coordinator, timeout=1200)
    report = hospitals.root / f"{review[2]}.html"
    reported = dura("study", "report", digest, "--out", report, "--home", hospitals.coordinator)
    model = hospitals.coordinator.path / "studies" / digest / "model.safetensors"
    scores = [
        score
        for name in SITES
        for score in dura("site", "evaluate", digest, model, "--data", kind, "--home", hospitals.site(name))["scores"]
    ]
    return {"outcome": outcome, "checks": checks, "reported": reported, "page": report.read_text(), "scores": scores}


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_a_how_to_leads_to_a_reported_study(hospitals: Commanded, page: Path) -> None:
    """Nothing stops the study at either hospital, it finishes, and its report shows the released figure."""
    seen = run_page(hospitals, page)
    assert not any(check["stops"] for check in seen["checks"].values())
    assert all(check["windows"] for check in seen["checks"].values())
    assert seen["outcome"]["phase"] == "finished"
    curve = seen["outcome"]["curve"]
    assert 0 <= curve[-1]["accuracy"] <= 1
    assert len(seen["scores"]) >= 4
    exact = sum(seen["scores"]) / len(seen["scores"])
    assert abs(curve[-1]["accuracy"] - exact) <= 6 * curve[-1]["standard_error"] + 0.05
    print(f"{page.stem}: released {curve[-1]['accuracy']:.3f}, exact {exact:.3f}")  # noqa: T201  # shown with -s
    assert "epsilon" in seen["page"]

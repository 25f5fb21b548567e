"""Planted defects: the same seed plants the same, the answers lie outside the data, and the check finds every one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import Failed, answer, dura

from dura_client.data.findings.kinds import KINDS
from dura_client.data.simulated.planting.plant import DEFECTS
from dura_client.site.home import SiteHome
from dura_common.errors import InputError, StateError


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Return an initialised site."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    return site


def simulated(folder: Path, *words: object, code: int = 0) -> Any:
    """Simulate a hospital with few short trials."""
    return answer("site", "data", "simulate", folder, "--trials", 4, *words, code=code, here=True)


def checked(home: SiteHome, name: str, folder: Path, options: list[str]) -> list[dict[str, str]]:
    """Register a folder and return what the check says of it."""
    answer("site", "data", "add", name, folder, *options, "--home", home, here=True)
    try:
        found = dura("site", "data", "check", name, "--home", home, here=True)
    except Failed as error:
        found = error.answer  # exit code 10: something stops a study
    return list(found["check"]["findings"])


def told(path: Path) -> list[dict[str, str]]:
    """Return the defects that a file of answers names."""
    return list(json.loads(path.read_text())["defects"])


def missed(home: SiteHome, tmp_path: Path, codes: str, *words: object) -> list[str]:
    """Plant defects, and return the names of those that the check does not find there as the right kind."""
    plain = simulated(tmp_path / "plain", *words)
    simulated(tmp_path / "planted", *words, "--defects", codes)
    answers = told(tmp_path / "planted.answers.json")
    before = {
        (item["code"], item["place"], item["cause"])
        for item in checked(home, "plain", tmp_path / "plain", plain["options"])
    }
    after = checked(home, "planted", tmp_path / "planted", plain["options"])
    new = [item for item in after if (item["code"], item["place"], item["cause"]) not in before]
    return [
        one["name"]
        for one in answers
        if not any(
            item["code"] == one["code"]
            and (one["patient"] in item["place"] + item["cause"] or item["place"] == one["place"])
            for item in new
        )
    ]


def test_every_planted_defect_is_found(home: SiteHome, tmp_path: Path) -> None:
    """A dozen in a hospital that stores EDF, by a number and a seed."""
    assert missed(home, tmp_path, "12", "--patients", 26, "--seed", 3) == []


@pytest.mark.long
@pytest.mark.parametrize("hospital", ["north", "east"])
def test_every_kind_that_fits_is_found(home: SiteHome, tmp_path: Path, hospital: str) -> None:
    """All that fit EDF and all that fit BrainVision, each in a patient of its own."""
    ending = {"north": ".edf", "east": ".vhdr"}[hospital]
    fitting = [defect for defect in DEFECTS if not defect.endings or ending in defect.endings]
    words = ("--patients", len(fitting) + 6, "--hospital", hospital)
    assert missed(home, tmp_path, str(len(fitting)), *words) == []


def test_defects_of_a_table_are_found_too(home: SiteHome, tmp_path: Path) -> None:
    """Volumes over visits have no recording, and their table of patients has defects all the same."""
    assert missed(home, tmp_path, "PART-CODE,PART-DUP", "--kind", "table", "--patients", 8) == []


def test_the_same_seed_plants_the_same_and_codes_choose(tmp_path: Path) -> None:
    """Files and answers agree byte for byte; another seed plants otherwise; codes name what is wanted."""
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        simulated(tmp_path / name, "--patients", 8, "--seed", seed, "--defects", "4")
    answers = [told(tmp_path / f"{name}.answers.json") for name in "abc"]
    assert answers[0] == answers[1] != answers[2]
    files = [path.relative_to(tmp_path / "a") for path in sorted((tmp_path / "a").rglob("*.tsv"))]
    assert files
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)
    simulated(tmp_path / "d", "--patients", 6, "--defects", "ev-unit,COPY-SAME")
    assert [item["code"] for item in told(tmp_path / "d.answers.json")] == ["EV-UNIT", "COPY-SAME"]


def test_every_defect_names_a_kind_of_finding() -> None:
    """Codes are those of the page of findings, and names are distinct."""
    assert {defect.code for defect in DEFECTS} <= set(KINDS)
    names = [defect.name for defect in DEFECTS]
    assert len(set(names)) == len(names) >= 40


def test_what_cannot_be_planted_is_refused(tmp_path: Path) -> None:
    """Unknown codes, answers among the data or over a file, and more defects than patients end with a reason."""
    folder = tmp_path / "data"
    assert (
        "codes of findings" in simulated(folder, "--defects", "NO-SUCH", code=InputError.exit_code)["error"]["message"]
    )
    assert not folder.exists()
    words = ("--patients", 2, "--defects", "2")
    inside = simulated(folder, *words, "--answers", folder / "x.json", code=InputError.exit_code)
    assert "must not lie in the folder of the data" in inside["error"]["message"]
    (tmp_path / "old.json").write_text("{}")
    there = simulated(folder, *words, "--answers", tmp_path / "old.json", code=StateError.exit_code)
    assert "exists" in there["error"]["message"]
    many = simulated(folder, "--patients", 2, "--defects", "40", code=InputError.exit_code)
    assert many["error"]["hint"]
    alone = simulated(tmp_path / "other", "--answers", tmp_path / "y.json", code=InputError.exit_code)
    assert "without --defects" in alone["error"]["message"]

"""The public commands on real connectomes: ABIDE (PCP, 111 regions), three hospitals, autism or control.

Test input only, under non-commercial research terms; see shared/data/abide/README.md. The series stay in their ``.npz``
files, as the source has them, and a mapping says which array is whose.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.federation.commanded import Commanded
from tests.support.commands import answer, dura
from tests.support.processes import real_data

HOSPITALS = {"north": "NYU", "east": "UM_1", "south": "USM"}
TWICE = frozenset({"UM_1_0050279", "UM_1_0050286"})
"""One series under two people of UM_1, and nobody can say whose it is: both are left out."""
LABELS = ("--label", "1=autism", "--label", "2=control", "--column", "diagnosis=DX_GROUP")
OPTIONS = ("--source", "fmri", "--task", "rest", "--series", "series.tsv", *LABELS)
ROOT = real_data("abide/participants.csv")
ABIDE = None if ROOT is None else ROOT / "abide"

pytestmark = [
    pytest.mark.federation,
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(ABIDE is None, reason="the ABIDE series are absent; set DURA_TEST_DATA to their folder"),
]


def people_of(site: str) -> list[dict[str, str]]:
    """Return the rows of one hospital."""
    assert ABIDE is not None
    with (ABIDE / "participants.csv").open(encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["SITE_ID"] == site]


def write_folder(folder: Path, site: str, without: frozenset[str] = TWICE) -> int:
    """Write one hospital's data set as its data manager would lay it out, and return the number of patients."""
    assert ABIDE is not None
    folder.mkdir(parents=True)
    (folder / "dataset_description.json").write_text('{"Name": "ABIDE", "BIDSVersion": "1.8.0"}')
    shutil.copy(ABIDE / f"ts_ho_{site}.npz", folder / "series.npz")
    rows = [row for row in people_of(site) if row["FILE_ID"] not in without]
    people = ["participant_id\tDX_GROUP\tAGE_AT_SCAN\tFIQ"]
    series = ["participant_id\tfile\tkey"]
    for row in rows:
        label = f"sub-{row['SUB_ID']}"
        people.append(f"{label}\t{row['DX_GROUP']}\t{row['AGE_AT_SCAN']}\t{row['FIQ']}")
        series.append(f"{label}\tseries.npz\t{row['FILE_ID']}")
    (folder / "participants.tsv").write_text("\n".join(people) + "\n")
    (folder / "series.tsv").write_text("\n".join(series) + "\n")
    return len(rows)


def study_of(patients: dict[str, int]) -> str:
    """Return the study file: one noisy sum of unit vectors, shared noise."""
    sites = "\n".join(f"{name} = {count}" for name, count in patients.items())
    return f"""\
name = "autism"
question = "Does the connectome show autism?"
expires = 2099-01-01

[sites]
{sites}

[data]
source = "fmri"
task = "rest"
label = "participant"
column = "diagnosis"
atlas = "HO"
regions = 111
edges = "ranks"
classes = ["control", "autism"]
minimum_patients = 20

[model]
name = "linear"

[privacy]
noise = "shared"
epsilon = 8.0
delta = 0.001
participation = 1.0
windows_per_patient = 1

[training]
engine = "one-sum"

[evaluation]
epsilon = 8.0

[aggregation]
minimum_sites = 3
"""


def test_the_series_of_two_people_is_named(tmp_path: Path) -> None:
    """The check against a study finds the one series that the source files under two people, and no other."""
    write_folder(tmp_path / "bids", HOSPITALS["east"], frozenset())
    study = tmp_path / "autism.toml"
    study.write_text(study_of({"north": 175, "east": 106, "south": 71}))
    home = ("--home", tmp_path / "home")
    dura("site", "init", "--name", "east", *home)
    dura("site", "data", "add", "abide", tmp_path / "bids", *OPTIONS, *home)
    check = answer("site", "data", "check", "abide", "--study", study, *home, code=10)["check"]
    copies = [item for item in check["findings"] if item["code"].startswith("COPY")]
    assert [item["code"] for item in copies] == ["COPY-SAME"]
    assert all(name in copies[0]["place"] + copies[0]["cause"] for name in TWICE)


@pytest.fixture(scope="module")
def clinics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Commanded, dict[str, int]]]:
    """Return three running hospitals with one ABIDE site each; every process is gone afterwards."""
    made = Commanded(tmp_path_factory.mktemp("abide"), tuple(HOSPITALS))
    made.make_all()
    patients = {}
    for name, site in HOSPITALS.items():
        folder, home = made.root / "bids" / name, ("--home", made.site(name))
        patients[name] = write_folder(folder, site)
        dura("site", "data", "add", "abide", folder, *OPTIONS, *home)
        caps = ["--epsilon-per-study", 8, "--epsilon-total", 20, "--delta", 1e-3, "--minimum-sites", 3]
        dura("site", "policy", "init", *caps, "--epsilon-if-broken", 100, *home)
    try:
        made.start_coordinator()
        for name in made.names:  # one after the other: a start is given a minute
            made.start_site(name)
        yield made, patients
    finally:
        made.stop()


def test_three_hospitals_learn_from_connectomes(clinics: tuple[Commanded, dict[str, int]]) -> None:
    """The study finishes, and what it released agrees with the exact figure on the held-out patients of all three."""
    made, patients = clinics
    path = made.root / "autism.toml"
    path.write_text(study_of(patients))
    digest = made.sign(path)["digest"]
    dura("study", "submit", path.with_suffix(".signed.json"), "--home", made.coordinator)
    for name in HOSPITALS:
        home = ("--home", made.site(name))
        checked = dura("site", "data", "check", "abide", "--study", path, *home, timeout=600)["check"]
        assert not checked["stops"], checked["findings"]
        assert checked["patients"] == patients[name]
        dura("site", "approve", digest, "--data", "abide", "--yes", *home, timeout=600)
    outcome: dict[str, Any] = dura("study", "run", digest, "--home", made.coordinator, timeout=1200)
    assert outcome["phase"] == "finished"
    model = made.coordinator.path / "studies" / digest / "model.safetensors"
    scores: list[float] = []
    for name in HOSPITALS:
        home = ("--home", made.site(name))
        scores += dura("site", "evaluate", digest, model, "--data", "abide", *home, timeout=300)["scores"]
    exact = sum(scores) / len(scores)
    released = outcome["curve"][-1]
    print(f"held out {len(scores)}: exact {exact:.3f}, released {released['accuracy']:.3f}")  # noqa: T201  # shown with -s
    assert len(scores) >= 60
    assert abs(released["accuracy"] - exact) <= 6 * released["standard_error"] + 0.05
    page = made.root / "autism.html"
    dura("study", "report", digest, "--out", page, "--home", made.coordinator)
    assert "Does the connectome show autism?" in page.read_text()

"""Single defects of tables, of series and of annotated stretches: the check names each, and nothing crashes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.data.sources import test_series as regions
from tests.client.data.sources import test_tables as volumes
from tests.client.data.sources.test_said import stages

from dura_client.commands.data.check import as_data
from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.doctor.page import render
from dura_client.data.simulated.kinds import dataset_for, simulate_for
from dura_common.study import DataContract

PEOPLE = {
    f"{k:02d}": {"age": str(60 + k), "dx": "12"[k % 2], "vol": str(2000 + 100 * k), "icv": "1500000"}
    for k in range(1, 9)
}


def said(dataset: DataSet, contract: DataContract | None) -> set[tuple[str, str, str]]:
    """Return code, place and cause of what the check says."""
    return {(item.code, item.place, item.cause) for item in diagnose(dataset, contract).findings}


def cell(column: str, value: str) -> Callable[[bytes], bytes]:
    """Return a change of one cell of the first patient."""

    def change(content: bytes) -> bytes:
        head, row, *rest = content.decode().split("\n")
        cells = row.split("\t")
        cells[head.split("\t").index(column)] = value
        return "\n".join([head, "\t".join(cells), *rest]).encode()

    return change


TABLES: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a decimal comma": ("PART-BOUND", cell("vol", "2000,5")),
    "a sign for thousands": ("PART-BOUND", cell("vol", "2,000")),
    "text among numbers": ("PART-BOUND", cell("vol", "large")),
    "a unit behind a number": ("PART-BOUND", cell("vol", "2000 mm3")),
    "a percentage": ("PART-BOUND", cell("vol", "50%")),
    "infinity": ("PART-BOUND", cell("vol", "inf")),
    "another unit": ("PART-BOUND", cell("vol", "2.1")),
    "-9999": ("PART-CODE", cell("vol", "-9999")),
    "an empty cell": ("PART-CODE", cell("vol", "")),
    "a blank behind a word": ("SIDE-TABLE", cell("dx", "control ")),
    "the same row twice": ("PART-DUP", lambda old: old + old.splitlines()[1] + b"\n"),
    "a row twice with other values": ("PART-DUP", lambda old: old + b"sub-01\t99\t1\t4000\t1\n"),
    "a row with a cell too few": ("SIDE-TABLE", lambda old: old.replace(b"\t2300", b"")),
    "commas for tabs": ("SIDE-TABLE", lambda old: old.replace(b"\t", b",")),
    "UTF-16": ("EV-ENC", lambda old: old.decode().encode("utf-16")),
    "a column twice": ("SIDE-TABLE", lambda old: old.replace(b"icv", b"vol")),
    "a header only": ("SIDE-NONE", lambda old: old.splitlines()[0] + b"\n"),
    "an empty file": ("SIDE-NONE", lambda _: b""),
    "labels without sub-": ("PART-ID", lambda old: old.replace(b"sub-", b"")),
    "a column of names": ("ID-HEAD", lambda old: old.replace(b"icv", b"name")),
}


@pytest.mark.parametrize("study", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_a_defect_of_a_table_is_named(tmp_path: Path, name: str, study: bool) -> None:
    """With a study and without one, the kind that the defect is."""
    code, change = TABLES[name]
    dataset = volumes.write(tmp_path / "site", PEOPLE)
    contract = volumes.contract() if study else None
    before = said(dataset, contract)
    path = tmp_path / "site" / "participants.tsv"
    path.write_bytes(change(path.read_bytes()))
    assert code in {item[0] for item in said(dataset, contract) - before}


def test_a_study_is_told_of_numbers_beyond_its_bounds_and_of_equal_rows(tmp_path: Path) -> None:
    """What counts as the nearest bound, and two patients with the same numbers, are findings."""
    people = {label: {**row, "a": f"{label}.5", "b": f"{label}.25"} for label, row in PEOPLE.items()}
    people["01"]["vol"] = "900000"
    people["02"].update({name: people["03"][name] for name in ("vol", "a", "b", "age")})
    features = {"vol": (1000.0, 5000.0), "age": (0.0, 120.0), "a": (0.0, 10.0), "b": (0.0, 10.0)}
    found = diagnose(volumes.write(tmp_path / "site", people), volumes.contract(features=features)).findings
    assert "1 number outside the study's 1000 to 5000" in " ".join(item.cause for item in found)
    assert [item.cause for item in found if item.code == "COPY-PROB"] == [
        "sub-02, sub-03 have the same numbers in 4 features"
    ]


def replaced(column: int, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the first patient's series with another column."""
    found = regions.series(1).copy()
    found[:, column] = values
    return found


SERIES: dict[str, tuple[str, np.ndarray[Any, Any]]] = {
    "swapped axes": ("ROI-ORDER", regions.series(1).T),
    "another atlas": ("ROI-ORDER", regions.series(1, regions=7)),
    "a constant column": ("ROI-FLAT", replaced(5, np.ones(40))),
    "an infinite value": ("ROI-FLAT", replaced(5, np.where(np.arange(40) == 3, np.inf, regions.series(1)[:, 5]))),
    "-9999 for a missing value": ("ROI-FLAT", replaced(5, np.where(np.arange(40) == 3, -9999, 0.5))),
    "a column that counts volumes": ("ROI-KIND", replaced(0, np.arange(40))),
    "one region twice": ("ROI-SAME", replaced(5, regions.series(1)[:, 0])),
    "the series of another patient": ("COPY-SAME", regions.series(2)),
    "a part of another patient's series": ("COPY-PROB", regions.series(2)[:30]),
}
FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty": ("FILE-EMPTY", lambda path: path.write_text("")),
    "header only": ("ROI-KIND", lambda path: path.write_text(path.read_text().splitlines()[0] + "\n")),
    "cut": ("ROI-KIND", lambda path: path.write_text(path.read_text()[:-30])),
    "a pointer": ("FILE-PTR", lambda path: path.write_bytes(b"/annex/objects/MD5E-s1--a.tsv\n")),
    "a web page": ("FILE-EMPTY", lambda path: path.write_bytes(b"<html>log in</html>")),
    "packed": ("FILE-GZ", lambda path: path.write_bytes(b"\x1f\x8b" + b"x" * 100)),
    "decimal commas": ("ROI-FLAT", lambda path: path.write_text(path.read_text().replace(".", ","))),
    "gone": ("PART-ROW", lambda path: path.unlink()),
    "another case": ("FILE-CASE", lambda path: path.rename(path.with_name(path.name.replace("Six", "six")))),
    "another ending": ("FILE-KNOWN", lambda path: path.rename(path.with_suffix(".csv"))),
    "a packed name": ("FILE-GZ", lambda path: path.rename(path.with_name(f"{path.name}.gz"))),
}


@pytest.mark.parametrize("name", [*SERIES, *FILES])
def test_a_defect_of_a_series_is_named(tmp_path: Path, name: str) -> None:
    """In the values or in the file, the kind that the defect is."""
    people = {f"{k:02d}": regions.series(k) for k in range(1, 7)}
    before = said(regions.write(tmp_path / "sound", people), regions.contract())
    code, planted = (SERIES | FILES)[name]
    if isinstance(planted, np.ndarray):
        people["01"] = planted
    dataset = regions.write(tmp_path / "site", people)
    if not isinstance(planted, np.ndarray):
        planted(next((tmp_path / "site").rglob("sub-01_task-rest_atlas-Six_timeseries.tsv")))
    assert code in {item[0] for item in said(dataset, regions.contract()) - before}


def test_series_that_all_hold_one_another_cost_no_comparison_of_all_with_all(tmp_path: Path) -> None:
    """Forty copies under forty names are a chain of 39 findings that names each of them, not 780."""
    dataset = regions.write(tmp_path / "site", {f"{k:02d}": regions.series(1) for k in range(1, 41)})
    copies = [one for one in diagnose(dataset, regions.contract()).findings if one.code == "COPY-SAME"]
    assert len(copies) == 39
    assert all(any(f"sub-{k:02d}" in one.place + one.cause for one in copies) for k in range(1, 41))


def test_a_check_of_series_measures_no_channels(tmp_path: Path) -> None:
    """What channels measure is said of recordings with channels alone, and the page of series is still written."""
    dataset = regions.write(tmp_path / "site", {f"{k:02d}": regions.series(k) for k in range(1, 4)})
    found = diagnose(dataset, regions.contract())
    assert as_data(found)["measure"] is None
    assert "check of scans</title>" in render("scans", found)


Lines = list[list[str]]


def each(column: str, change: Callable[[str], str], count: int | None = None) -> Callable[[Lines], Lines]:
    """Return a change of a column's cells, of the first few rows if a count is given."""

    def lines(found: Lines) -> Lines:
        at = found[0].index(column)
        for row in found[1 : None if count is None else count + 1]:
            row[at] = change(row[at])
        return found

    return lines


STRETCHES: dict[str, tuple[str, Callable[[Lines], Lines]]] = {
    "stretches that overlap": ("CUT-SPAN", each("duration", lambda old: str(1.7 * float(old)))),
    "a stretch of no length": ("CUT-SPAN", each("duration", lambda _: "0", 1)),
    "durations counted in windows": ("CUT-SPAN", each("duration", lambda _: "1")),
    "a length n/a": ("EV-NEG", each("duration", lambda _: "n/a", 1)),
    "a stage that nobody knows": ("EV-MAP", each("trial_type", lambda _: "stage_X", 1)),
    "a stage in free text": ("ID-TEXT", each("trial_type", lambda _: "woken by nurse Mary Miller", 1)),
    "a stretch missing between others": ("CUT-SPAN", lambda found: [found[0], *found[2:]]),
    "a stretch twice": ("EV-TWICE", lambda found: [*found, found[1]]),
}


@pytest.mark.parametrize("name", STRETCHES)
def test_a_defect_of_stretches_is_named(tmp_path: Path, name: str) -> None:
    """Against a study of stages, the kind that the defect is."""
    code, change = STRETCHES[name]
    asked, root = stages(), tmp_path / "site"
    simulate_for(root, asked, 0, first=1, patients=2, trials=6, seed=1)
    dataset = dataset_for("nights", root, asked)
    before = said(dataset, asked)
    (path,) = root.rglob("sub-001*_events.tsv")
    lines = change([line.split("\t") for line in path.read_text().splitlines()])
    path.write_text("\n".join("\t".join(row) for row in lines) + "\n")
    assert code in {item[0] for item in said(dataset, asked) - before}

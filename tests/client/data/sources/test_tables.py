"""Rows and answers: what counts as missing, visits in order, and nothing of one patient in another's example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.prepare import PreparedData, prepare, pseudonym
from dura_client.data.sources.leaving_out import FEW
from dura_common.errors import InputError
from dura_common.study import TableContract

KEY = b"k" * 32
PEOPLE = {
    "01": {"age": "60", "dx": "1", "vol": "2000", "icv": "1400000"},
    "02": {"age": "70", "dx": "2", "vol": "4000", "icv": "1500000"},
    "03": {"age": "n/a", "dx": "2", "vol": "3000", "icv": "1600000"},
    "04": {"age": "80", "dx": "1", "vol": "-9999", "icv": "1500000"},
    "05": {"age": "95", "dx": "9", "vol": "9000", "icv": "1500000"},
}


def write(root: Path, people: Mapping[str, Mapping[str, str]]) -> DataSet:
    """Write participants.tsv and return the registration."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
    columns = list(next(iter(people.values())))
    lines = ["\t".join(["participant_id", *columns])]
    lines += ["\t".join([f"sub-{label}", *row.values()]) for label, row in people.items()]
    (root / "participants.tsv").write_text("\n".join(lines) + "\n")
    return DataSet(name="volumes", root=str(root), source="table", labels={"1": "control", "2": "patient"})


def contract(**changes: Any) -> TableContract:
    """Return a contract for one volume."""
    fields: dict[str, Any] = {
        "source": "table",
        "label": "participant",
        "column": "dx",
        "classes": ("control", "patient"),
        "features": {"vol": (1000.0, 5000.0)},
        "minimum_patients": 1,
    }
    fields.update(changes)
    return TableContract.model_validate(fields)


def prepared(root: Path, dataset: DataSet, wanted: TableContract) -> PreparedData:
    """Prepare into a cache of its own."""
    return prepare(dataset, wanted, cache=root / f"cache-{len(list(root.glob('cache-*')))}", pseudonym_key=KEY)


def of(data: PreparedData, label: str) -> tuple[list[float], list[float]]:
    """Return features and answers of one patient."""
    (patient,) = (one for one in data.patients if one.key == pseudonym(label, KEY))
    return np.array(patient.windows)[:, 0, 0].tolist(), patient.labels.tolist()


def test_a_row_is_scaled_by_public_bounds_and_missing_codes_are_missing(tmp_path: Path) -> None:
    """2000 of 1000 to 5000 is -0.5; -9999 is no small volume; a diagnosis of another study is no answer."""
    dataset = write(tmp_path / "site", PEOPLE)
    data = prepared(tmp_path, dataset, contract())
    assert of(data, "01") == ([-0.5], [0])
    assert of(data, "02") == ([0.5], [1])
    reasons = {why: len(keys) for why, keys in data.left_out.items()}
    assert reasons == {
        "too many missing cells": 1,
        "no answer in the table that the study asks for": 1,
    }
    assert {one.key for one in data.patients} == {pseudonym(label, KEY) for label in ("01", "02", "03")}


def test_a_value_is_clipped_to_its_bounds_or_missing_as_the_study_says(tmp_path: Path) -> None:
    """An age of 95 with bounds up to 90 counts as 90, or as no answer; the constant last feature is 1."""
    dataset = write(tmp_path / "site", PEOPLE)
    wanted: dict[str, Any] = {"target": "value", "classes": (), "column": "age", "bounds": (50.0, 90.0)}
    data = prepared(tmp_path, dataset, contract(**wanted))
    assert of(data, "05")[1] == [1.0]
    assert of(data, "01")[1] == [-0.5]
    assert all(patient.labels.dtype == np.float32 for patient in data.patients)
    assert all((np.array(patient.windows)[:, 0, -1] == 1).all() for patient in data.patients)
    without = prepared(tmp_path, dataset, contract(**wanted, outside="missing"))
    assert pseudonym("05", KEY) not in {one.key for one in without.patients}


def test_a_share_of_the_patients_own_volume(tmp_path: Path) -> None:
    """relative_to divides by a cell of the same row, and its bounds are those of the ratio."""
    dataset = write(tmp_path / "site", PEOPLE)
    features = {"vol": (0.0, 0.004), "icv": (1.0e6, 2.0e6)}
    data = prepared(tmp_path, dataset, contract(features=features, relative_to="icv"))
    (patient,) = (one for one in data.patients if one.key == pseudonym("02", KEY))
    assert np.array(patient.windows)[0, 0].tolist() == pytest.approx([0.0, 2 * 4000 / 1.5e6 / 0.004 - 1, 1.0], abs=1e-6)


def test_nothing_of_one_patient_is_in_anothers_example(tmp_path: Path) -> None:
    """Changing, adding and removing other patients leaves an example as it is, bit by bit."""
    before = prepared(tmp_path, write(tmp_path / "a", PEOPLE), contract())
    others = {"01": PEOPLE["01"], "02": {**PEOPLE["02"], "vol": "1e3"}, "77": {**PEOPLE["02"], "vol": "-9999"}}
    after = prepared(tmp_path, write(tmp_path / "b", others), contract())
    assert of(before, "01") == of(after, "01")


def visits(root: Path, label: str, rows: list[tuple[str, str, str]]) -> None:
    """Write the sessions.tsv of one patient: label, diagnosis, volume."""
    folder = root / f"sub-{label}"
    folder.mkdir()
    lines = ["session_id\tdx\tvol", *("\t".join(row) for row in rows)]
    (folder / f"sub-{label}_sessions.tsv").write_text("\n".join(lines) + "\n")


def test_the_next_visit_answers_and_the_last_one_has_none(tmp_path: Path) -> None:
    """ses-2 follows ses-1 and comes before ses-10; the last visit gives no example; one patient is one patient."""
    root = tmp_path / "site"
    dataset = write(root, {"01": {"age": "60"}, "02": {"age": "60"}})
    visits(root, "01", [("ses-10", "2", "3000"), ("ses-1", "1", "1000"), ("ses-2", "1", "2000")])
    visits(root, "02", [("ses-1", "2", "5000")])
    data = prepared(tmp_path, dataset, contract(label="next-session"))
    assert of(data, "01") == ([-1.0, -0.5], [0, 1])
    assert len(data.patients) == 1
    assert list(data.left_out) == ["no answer in the table that the study asks for"]
    assert of(prepared(tmp_path, dataset, contract(label="session")), "01")[1] == [0, 0, 1]


def test_fewest_windows_is_a_rule_of_the_study(tmp_path: Path) -> None:
    """A patient with fewer examples than the rule takes no part, and the reason is told."""
    root = tmp_path / "site"
    dataset = write(root, {"01": {"age": "60"}, "02": {"age": "60"}})
    visits(root, "01", [("ses-1", "1", "1000"), ("ses-2", "2", "2000")])
    visits(root, "02", [("ses-1", "2", "5000")])
    data = prepared(tmp_path, dataset, contract(label="session", leave_out={"fewest_windows": 2}))
    assert [one.key for one in data.patients] == [pseudonym("01", KEY)]
    assert data.left_out == {FEW: frozenset({pseudonym("02", KEY)})}


def test_the_check_names_what_is_lost_and_a_column_that_is_not_there(tmp_path: Path) -> None:
    """Findings say how many have no answer, without their answers; an absent column stops the study with its remedy."""
    dataset = write(tmp_path / "site", PEOPLE)
    found = diagnose(dataset, contract())
    said = {item.code: item.cause for item in found.findings}
    assert "1 example" in said["ANS-NONE"]
    assert said["CUT-RULE"] == "too many missing cells"
    assert not found.stops
    other = diagnose(dataset, contract(column="diagnosis"))
    assert other.stops
    assert "--column diagnosis=NAME" in other.findings[0].remedy


def test_a_data_set_serves_no_study_of_another_source_or_task(tmp_path: Path) -> None:
    """Preparation refuses, and the check says so, whatever the folder holds."""
    dataset = write(tmp_path / "site", PEOPLE).model_copy(update={"source": "eeg", "task": "rest"})
    with pytest.raises(InputError, match="was registered as eeg, the study asks for table"):
        prepared(tmp_path, dataset, contract())
    fitting = dataset.model_copy(update={"source": "fmri", "task": "rest"})
    assert [item.code for item in diagnose(fitting, contract()).findings if item.grade is Grade.STOPS] == ["TASK-OTHER"]

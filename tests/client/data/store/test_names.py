"""What names an entry: all that a patient is made of, and nothing else, for every kind of source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.client.data.fmri.scans import ATLAS, FUNC, labels, registered, save, voxels
from tests.client.data.fmri.scans import contract as of_volumes
from tests.client.data.fmri.scans import write as write_scans
from tests.client.data.sources.test_series import contract as of_series
from tests.client.data.sources.test_series import series
from tests.client.data.sources.test_series import write as write_series
from tests.client.data.store.helpers import KEY, OwnCopy, Registered

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import Preparation, prepare, pseudonym
from dura_client.data.store.entry import ABOUT
from dura_common.errors import InputError
from dura_common.study import DataContract, SignalContract, TableContract

PEOPLE = ("01", "02", "03")
TABLE = TableContract(
    source="table",
    label="session",
    column="dx",
    classes=("a", "b"),
    features={"volume": (0.0, 10.0), "age": (0.0, 100.0)},
    minimum_patients=1,
)


def made(dataset: DataSet, contract: DataContract, cache: Path) -> set[str]:
    """Prepare a data set and return the labels of patients who were prepared now."""
    old = {path.parent for path in cache.glob(f"*/*/*/{ABOUT}")}
    data = prepare(dataset, contract, cache=cache, pseudonym_key=KEY)
    new = {path.parent for path in cache.glob(f"*/*/*/{ABOUT}")} - old
    keys = {path.parent.name for path in new}
    assert len(keys) == data.made
    return {label for label in PEOPLE if pseudonym(label, KEY) in keys}


def cell(table: Path, row: str, column: str, value: str) -> None:
    """Change one cell of a table, or add a column whose other cells are all the same."""
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    if column not in lines[0]:
        lines = [[*line, column if not number else "x"] for number, line in enumerate(lines)]
    for line in lines[1:]:
        if line[0] == row:
            line[lines[0].index(column)] = value
    table.write_text("\n".join("\t".join(line) for line in lines) + "\n")


def test_a_scan_names_the_entry_of_its_patient_alone(tmp_path: Path) -> None:
    """A changed scan and a changed answer cost their patient; other columns, descriptions and newcomers cost nobody."""
    dataset, contract, cache = _scans(tmp_path), of_volumes(), tmp_path / "cache"
    root = Path(dataset.root)
    assert made(dataset, contract, cache) == set(PEOPLE)
    assert made(dataset, contract, cache) == set()
    save(root / FUNC.format("02"), voxels(22))
    assert made(dataset, contract, cache) == {"02"}
    cell(root / "participants.tsv", "sub-03", "dx", "b")
    assert made(dataset, contract, cache) == {"03"}
    cell(root / "participants.tsv", "sub-01", "handedness", "left")
    (root / "task-rest_bold.json").write_text('{"RepetitionTime": 2.0}')
    (root / "sub-01" / "anat").mkdir()
    (root / "sub-01" / "anat" / "sub-01_T1w.json").write_text("{}")
    assert made(dataset.model_copy(update={"name": "other", "labels": {"c": "a"}}), contract, cache) == set()


def test_another_atlas_names_every_entry(tmp_path: Path) -> None:
    """The atlas enters every series, so all are made anew; the same atlas in another place is the same."""
    dataset, contract, cache = _scans(tmp_path), of_volumes(), tmp_path / "cache"
    root = Path(dataset.root)
    assert made(dataset, contract, cache) == set(PEOPLE)
    moved = (root / ATLAS).rename(root / "other.nii.gz")
    assert made(registered(root, moved.name), contract, cache) == set()
    save(root / ATLAS, labels()[::-1].copy())
    assert made(registered(root), contract, cache) == set(PEOPLE)


def _scans(tmp_path: Path) -> DataSet:
    dataset = write_scans(tmp_path / "site", {label: voxels(int(label)) for label in PEOPLE})
    cell(Path(dataset.root) / "participants.tsv", "sub-02", "dx", "b")
    return dataset


@pytest.mark.parametrize("form", ["tables", "one.npz"])
def test_series_name_the_entry_of_their_patient_alone(tmp_path: Path, form: str) -> None:
    """Also when the arrays of all patients lie in one file: the other arrays of it are as they were."""
    values = {label: series(int(label)) for label in PEOPLE}
    dataset, contract, cache = write_series(tmp_path / "site", values), of_series(), tmp_path / "cache"
    root = Path(dataset.root)
    if form == "one.npz":
        dataset = dataset.model_copy(update={"series": "map.tsv"})
        rows = ["participant_id\tfile\tkey", *(f"sub-{label}\tone.npz\tp{label}" for label in PEOPLE)]
        (root / "map.tsv").write_text("\n".join(rows) + "\n")

    def put(changed: dict[str, Any]) -> None:
        if form == "one.npz":
            np.savez_compressed(root / "one.npz", **{f"p{label}": value for label, value in changed.items()})
        for path in root.rglob("sub-02_task-rest_atlas-Six_timeseries.tsv"):
            path.write_text("\n".join("\t".join(map(str, row)) for row in changed["02"]) + "\n")

    put(values)
    assert made(dataset, contract, cache) == set(PEOPLE)
    put({**values, "02": series(22)})
    assert made(dataset, contract, cache) == {"02"}
    (root / "notes.tsv").write_text("participant_id\tfree\n")
    assert made(dataset, contract, cache) == set()


def test_a_row_names_the_entry_of_its_patient_alone(tmp_path: Path) -> None:
    """Of the tables of all patients, the cells that the study reads count, each for its patient."""
    root = tmp_path / "site"
    root.mkdir()
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    rows = [f"sub-{label}\t{20 + int(label)}\tfree" for label in PEOPLE]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tage\tnote", *rows]) + "\n")
    visits = [f"sub-{p}\tses-{v}\t{int(p) + v / 10}\t{'ab'[(int(p) + v) % 2]}" for p in PEOPLE for v in (1, 2)]
    (root / "all.tsv").write_text("\n".join(["participant_id\tsession_id\tvolume\tdx", *visits]) + "\n")
    dataset, cache = DataSet(name="rows", root=str(root), source="table", tables=("all.tsv",)), tmp_path / "cache"
    assert made(dataset, TABLE, cache) == set(PEOPLE)
    cell(root / "participants.tsv", "sub-02", "age", "44")
    assert made(dataset, TABLE, cache) == {"02"}
    cell(root / "participants.tsv", "sub-01", "note", "other")
    assert made(dataset, TABLE, cache) == set()
    cell(root / "all.tsv", "sub-03", "volume", "9")
    assert made(dataset, TABLE, cache) == {"03"}
    assert made(dataset.model_copy(update={"missing": ("9",)}), TABLE, cache) == set(PEOPLE)


def test_an_answer_in_a_table_of_everybody_names_one_recordings_entry(
    own_copy: OwnCopy, registered: Registered, contract: SignalContract, tmp_path: Path
) -> None:
    """Of a table that the registration names, a patient's own answer counts; others, and other columns, do not."""
    root, cache = own_copy("north"), tmp_path / "cache"
    lines = [f"sub-{number:03d}\t{'ab'[number % 2]}\tx" for number in (1, 2, 3)]
    (root / "phenotype.tsv").write_text("\n".join(["participant_id\tdx\tnote", *lines]) + "\n")
    asked = contract.model_copy(update={"label": "participant", "column": "dx", "classes": ("a", "b"), "within": ()})
    asked = type(contract).model_validate({**asked.model_dump(), "cut": "segments", "window_start": 0.0})
    dataset = registered(root, tables=("phenotype.tsv",), labels={})

    def count() -> int:
        return prepare(dataset, asked, cache=cache, pseudonym_key=KEY).made

    assert count() == 3
    cell(root / "phenotype.tsv", "sub-002", "note", "y")
    cell(root / "participants.tsv", "sub-001", "new", "z")
    assert count() == 0
    cell(root / "phenotype.tsv", "sub-003", "dx", "a")
    assert count() == 1


def test_a_table_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers that named an entry and those that are in it must be the same."""
    dataset, cache = _scans(tmp_path), tmp_path / "cache"
    real: Callable[..., None] = Preparation.__call__

    def change(self: Preparation, job: tuple[Any, Path], /) -> None:
        cell(Path(dataset.root) / "participants.tsv", "sub-01", "later", "1")
        real(self, job)

    monkeypatch.setattr(Preparation, "__call__", change)
    with pytest.raises(InputError, match="changed while they were read"):
        prepare(dataset, of_volumes(), cache=cache, pseudonym_key=KEY)
    monkeypatch.undo()
    assert not list(cache.glob(f"*/*/*/{ABOUT}"))

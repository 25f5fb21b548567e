"""Series of regions: where they are found, what is never taken for one, and connectomes against numpy's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.prepare import prepare, pseudonym
from dura_common.errors import InputError
from dura_common.study import ConnectomeContract

KEY = b"k" * 32
REGIONS = 6


def contract(**changes: Any) -> ConnectomeContract:
    """Return a contract for six regions."""
    fields: dict[str, Any] = {
        "source": "fmri",
        "task": "rest",
        "atlas": "Six",
        "regions": REGIONS,
        "edges": "correlation",
        "column": "dx",
        "classes": ("a", "b"),
        "fewest_volumes": 20,
        "minimum_patients": 1,
        "most_lost_regions": 0.2,
    }
    return ConnectomeContract.model_validate({**fields, **changes})


def series(seed: int, volumes: int = 40, regions: int = REGIONS) -> np.ndarray[Any, Any]:
    """Return series of one patient."""
    return np.random.default_rng(seed).normal(size=(volumes, regions))


def write(root: Path, people: dict[str, np.ndarray[Any, Any]]) -> DataSet:
    """Write series as a pipeline does, and return the registration."""
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
    lines = [f"sub-{label}\t{'ab'[index % 2]}" for index, label in enumerate(people)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tdx", *lines]) + "\n")
    for label, values in people.items():
        folder = root / "derivatives" / "p" / f"sub-{label}" / "func"
        folder.mkdir(parents=True)
        head = "\t".join(f"r{number}" for number in range(values.shape[1]))
        rows = ["\t".join(f"{value:.9f}" for value in row) for row in values]
        text = "\n".join([head, *rows]) + "\n"
        (folder / f"sub-{label}_task-rest_atlas-Six_timeseries.tsv").write_text(text)
        (folder / f"sub-{label}_task-rest_desc-confounds_timeseries.tsv").write_text(text)
        (folder / f"sub-{label}_task-other_atlas-Six_timeseries.tsv").write_text(text)
    return DataSet(name="scans", root=str(root), source="fmri", task="rest")


def vectors(dataset: DataSet, cache: Path, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return each patient's vectors by key."""
    data = prepare(dataset, contract(**changes), cache=cache, pseudonym_key=KEY)
    return {patient.key: np.array(patient.windows)[:, 0] for patient in data.patients}


def test_an_edge_is_a_correlation_of_the_upper_triangle(tmp_path: Path) -> None:
    """The connectome is numpy's, row by row above the diagonal; confounds and other tasks are not taken."""
    dataset = write(tmp_path / "site", {"01": series(1), "02": series(2)})
    found = vectors(dataset, tmp_path / "cache")
    wanted = np.corrcoef(series(1), rowvar=False)[np.triu_indices(REGIONS, 1)]
    assert found[pseudonym("01", KEY)].shape == (1, 15)
    assert found[pseudonym("01", KEY)][0] == pytest.approx(wanted, abs=1e-6)


def test_a_mapping_leads_to_arrays_of_an_npz(tmp_path: Path) -> None:
    """The same series in an .npz with a mapping give the same vectors."""
    dataset = write(tmp_path / "site", {"01": series(1), "02": series(2)})
    np.savez(tmp_path / "site" / "all.npz", first=series(1), second=series(2))
    rows = ["participant_id\tfile\tkey", "sub-01\tall.npz\tfirst", "sub-02\tall.npz\tsecond"]
    (tmp_path / "site" / "map.tsv").write_text("\n".join(rows) + "\n")
    mapped = vectors(dataset.model_copy(update={"series": "map.tsv"}), tmp_path / "two")
    named = vectors(dataset, tmp_path / "one")
    assert named.keys() == mapped.keys()
    assert all(np.allclose(named[key], mapped[key], atol=1e-6) for key in named)


def test_a_flat_region_loses_its_edges_and_too_many_lose_the_scan(tmp_path: Path) -> None:
    """One flat region of six gives zeros and a finding; two are more than the study allows."""
    flat, flatter = series(1), series(3)
    flat[:, 2] = 4.0
    flatter[:, 2:4] = np.nan
    dataset = write(tmp_path / "site", {"01": flat, "02": series(2), "03": flatter})
    found = vectors(dataset, tmp_path / "cache")
    assert pseudonym("03", KEY) not in found
    assert np.isfinite(found[pseudonym("01", KEY)]).all()
    assert (found[pseudonym("01", KEY)] == 0).sum() == REGIONS - 1
    codes = [item.code for item in diagnose(dataset, contract()).findings]
    assert codes.count("ROI-FLAT") == 2


@pytest.mark.parametrize(
    ("values", "code"),
    [(series(1).T, "ROI-ORDER"), (series(1, regions=5), "ROI-ORDER"), (series(1, volumes=10), "ROI-SHORT")],
)
def test_what_is_no_series_of_the_study_is_named(tmp_path: Path, values: np.ndarray[Any, Any], code: str) -> None:
    """A transposed table, another atlas and a short scan are not used, and each says why."""
    dataset = write(tmp_path / "site", {"01": values, "02": series(2), "03": series(3)})
    found = diagnose(dataset, contract())
    assert code in {item.code for item in found.findings}
    assert not found.windows["01"]


def test_a_mapping_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """A path above the data set's folder is refused."""
    dataset = write(tmp_path / "site", {"01": series(1)})
    (tmp_path / "site" / "map.tsv").write_text("participant_id\tfile\nsub-01\t../secret.npy\n")
    with pytest.raises(InputError, match="outside the data set's folder"):
        vectors(dataset.model_copy(update={"series": "map.tsv"}), tmp_path / "cache")

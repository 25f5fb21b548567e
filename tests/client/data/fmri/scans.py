"""Small scans and atlases, written voxel by voxel, that tests damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from dura_client.data.sources.fmri.atlas import atlas_of
from dura_common.study import ConnectomeContract

KEY = b"k" * 32
SHAPE = (6, 5, 4)
NUMBERS = (3, 7, 12, 2001)
"""Of the atlas's regions: not in a row, as many atlases have them."""
VOLUMES = 40
AFFINE = np.array([[-3.0, 0, 0, 9], [0, 3.0, 0, -6], [0, 0, 3.0, -5], [0, 0, 0, 1]])
ATLAS = "atlas.nii.gz"
FUNC = "sub-{0}/func/sub-{0}_task-rest_bold.nii.gz"
PREPROC = "derivatives/fmriprep/sub-{0}/func/sub-{0}_task-rest_space-MNI_desc-preproc_bold.nii.gz"


def labels() -> NDArray[np.int32]:
    """Return an atlas: four slabs along the first axis, in no order, with nothing at both ends."""
    found = np.zeros(SHAPE, dtype=np.int32)
    for place, number in enumerate((12, 3, 2001, 7), start=1):
        found[place] = number
    return found


def voxels(seed: int, volumes: int = VOLUMES) -> NDArray[np.float32]:
    """Return one scan (x, y, z, volumes)."""
    rng = np.random.default_rng(seed)
    return (500 + 20 * rng.normal(size=(*SHAPE, volumes))).astype(np.float32)


def means(values: NDArray[Any], where: NDArray[np.int32] | None = None) -> NDArray[np.float64]:
    """Return the mean of each region in each volume (volumes, regions), as anybody would write it down."""
    atlas = labels() if where is None else where
    return np.stack([values[atlas == number].astype(np.float64).mean(axis=0) for number in NUMBERS], axis=1)


def save(
    path: Path, values: NDArray[Any], affine: NDArray[np.float64] = AFFINE, *, code: int = 4, seconds: float = 2.0
) -> Path:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, affine)
    image.header.set_sform(affine, code=code)
    image.header.set_qform(affine, code=code)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim > 3:
        image.header.set_zooms((3.0, 3.0, 3.0, seconds))
    image.to_filename(path)
    return path


def write(root: Path, people: dict[str, NDArray[Any]], place: str = FUNC) -> DataSet:
    """Write a data set of scans with its atlas, and return the registration."""
    root.mkdir()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.8.0"}))
    rows = [f"sub-{label}\t{'ab'[index % 2]}" for index, label in enumerate(people)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tdx", *rows]) + "\n")
    save(root / ATLAS, labels())
    for label, values in people.items():
        save(root / place.format(label), values)
    return registered(root)


def registered(root: Path, file: str = ATLAS) -> DataSet:
    """Return the registration of a folder with the atlas as it is now."""
    return DataSet(name="scans", root=str(root), source="fmri", task="rest", atlas=atlas_of(root, "Four", file))


def contract(**changes: Any) -> ConnectomeContract:
    """Return a contract for the four regions."""
    fields: dict[str, Any] = {
        "source": "fmri",
        "task": "rest",
        "atlas": "Four",
        "regions": len(NUMBERS),
        "edges": "correlation",
        "column": "dx",
        "classes": ("a", "b"),
        "fewest_volumes": 20,
        "minimum_patients": 1,
        "most_lost_regions": 0.3,
    }
    return ConnectomeContract.model_validate({**fields, **changes})


def vectors(dataset: DataSet, cache: Path, **changes: Any) -> dict[str, NDArray[Any]]:
    """Return each patient's vectors by key."""
    data = prepare(dataset, contract(**changes), cache=cache, pseudonym_key=KEY)
    return {patient.key: np.array(patient.windows)[:, 0] for patient in data.patients}


def edges(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the connectome of series: numpy's correlations above the diagonal, row by row."""
    return np.corrcoef(series, rowvar=False)[np.triu_indices(series.shape[1], 1)]

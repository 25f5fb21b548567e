"""Simulated volumes of fMRI: each voxel of a region follows its series, with noise of its own; and the atlas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EDGE = 2
"""Voxels of a region along each axis."""
MARGIN = 1
"""Voxels without a region on every side of the image."""
MILLIMETRES = 4.0
SECONDS = 2.0
"""From one volume to the next."""
TEMPLATE, TEMPLATE_CODE = "MNI152NLin2009cAsym", 4
BASELINE, CONTRAST, NOISE = 800.0, 12.0, 6.0
PIPELINE = Path("derivatives") / "preprocessed"


def atlas_place(atlas: str) -> str:
    """Return where the atlas lies below the data set's folder."""
    return f"atlas/tpl-{TEMPLATE}_atlas-{atlas}_dseg.nii.gz"


def write_atlas(out: Path, atlas: str, regions: int) -> None:
    """Write the atlas."""
    path = out / atlas_place(atlas)
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(_labels(regions).astype(np.int16), path)


def write_scan(
    out: Path, patient: str, name: str, task: str, series: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Write one preprocessed scan and its description.

    Args:
        out: folder of the data set.
        patient: folder of the patient.
        name: of the file, as far as patient and visit.
        task: of the scan.
        series: (volumes, regions).
        rng: for the noise of voxels.
    """
    labels = _labels(series.shape[1])
    folder = out / PIPELINE / patient / "func"
    folder.mkdir(parents=True, exist_ok=True)
    values = np.concatenate([np.zeros((1, len(series))), CONTRAST * series.T])[labels]
    values += BASELINE + NOISE * rng.standard_normal(values.shape)
    stem = f"{name}_task-{task}_space-{TEMPLATE}_desc-preproc_bold"
    _save(np.round(values).astype(np.int16), folder / f"{stem}.nii.gz")
    (folder / f"{stem}.json").write_text(json.dumps({"TaskName": task, "RepetitionTime": SECONDS}), encoding="utf-8")


def _labels(regions: int) -> NDArray[np.int64]:
    """Return the region of each voxel: small cubes side by side, numbered from 1."""
    along = int(np.ceil(regions ** (1 / 3)))
    cubes = np.arange(1, along**3 + 1)
    cubes[regions:] = 0
    grid = cubes.reshape(along, along, along).repeat(EDGE, 0).repeat(EDGE, 1).repeat(EDGE, 2)
    return np.pad(grid, MARGIN)


def _save(values: NDArray[np.int16], path: Path) -> None:
    from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415  # only who writes volumes pays for it

    affine = np.diag([MILLIMETRES, MILLIMETRES, MILLIMETRES, 1.0])
    affine[:3, 3] = -MILLIMETRES * np.array(values.shape[:3]) / 2
    image = Nifti1Image(values, affine)
    image.header.set_sform(affine, code=TEMPLATE_CODE)
    image.header.set_qform(affine, code=TEMPLATE_CODE)
    image.header.set_xyzt_units("mm", "sec")
    if values.ndim > 3:  # noqa: PLR2004  # a volume has three axes
        image.header.set_zooms((MILLIMETRES, MILLIMETRES, MILLIMETRES, SECONDS))
    image.to_filename(path)

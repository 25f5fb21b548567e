"""From volumes to the mean series of an atlas's regions, some volumes at a time: a scan is never held whole.

The means are scipy's, as nilearn takes them. Its own masker would hold the whole scan, fill values that are not numbers
with zeros, and drop regions without voxels in silence.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dura_client.data.findings.finding import counted
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.recordings.folder import entities_of
from dura_client.data.recordings.source import Note, Unreadable
from dura_client.data.sources.fmri.atlas import Regions
from dura_client.data.sources.fmri.images import (
    FIRST_TEMPLATE,
    SCANNER,
    UNKNOWN,
    seconds_between,
    space_code,
    volumes_in,
)

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

BLOCK_BYTES = 16 << 20
"""Of volumes that are held at once."""
LABEL = b"dura volumes v1\0"


@dataclass(frozen=True, slots=True)
class Averaged:
    """The series of one scan."""

    series: NDArray[np.float64]
    """(volumes, regions): regions in ascending order of their numbers; NaN where a region has no usable voxel."""
    content: bytes
    """Plain digest of the first and the last volume: equal for copies, whatever the atlas."""
    seconds: float | None
    """From one volume to the next, by the header."""
    notes: tuple[Note, ...]


@declares(PrivacyClass.PER_PATIENT)
def average(path: Path, regions: Regions) -> Averaged:
    """Return the mean of each region in each volume, unadjusted.

    A voxel whose first value is not a number lies outside the scan; its region does without it. A region with a voxel
    that stops being a number later has no value in that volume.

    Raises:
        Unreadable: it is no scan, is cut off, or lies in another space than the atlas.
    """
    with volumes_in(path) as image:
        notes = _placed(image, path, regions)
        labels = regions.on(image.shape[:3], image.affine)
        series, content, outside = _means(image, labels, regions.numbers)
        seconds = seconds_between(image)
    if outside:
        notes.append(Note("ROI-NAN", f"{counted(outside, 'voxel')} of the regions are not numbers and were left out"))
    gone = int(np.isnan(series).all(axis=0).sum())
    if gone:
        notes.append(Note("ROI-LOST", f"{gone} of {len(regions.numbers)} regions have no voxel in the scan"))
    return Averaged(series, content, seconds, tuple(notes))


def _placed(image: Nifti1Image, path: Path, regions: Regions) -> list[Note]:
    """Say how the grid of a scan differs from the atlas's.

    Raises:
        Unreadable: they lie in different spaces, as far as the header and the name say.
    """
    if regions.lies_on(image.shape[:3], image.affine):
        return []
    code = space_code(image)
    if code == UNKNOWN:
        raise Unreadable("ROI-SPACE", "its header does not say where its voxels lie, and its grid is not the atlas's")
    if code == SCANNER and regions.code >= FIRST_TEMPLATE and "space" not in entities_of(path.name):
        raise Unreadable("ROI-SPACE", "it lies in the scanner's own space, and the atlas in that of a template")
    return [
        Note("ROI-GRID", "its grid is not the atlas's; each voxel took the region of the nearest voxel of the atlas")
    ]


def _means(
    image: Nifti1Image, labels: NDArray[np.int32], numbers: tuple[int, ...]
) -> tuple[NDArray[np.float64], bytes, int]:
    """Return the series, the digest of the scan, and how many voxels of regions lie outside it."""
    from scipy import ndimage  # noqa: PLC0415  # only who reads volumes pays for it

    volumes = image.shape[3]
    size = max(1, BLOCK_BYTES // (8 * labels.size))
    series = np.full((volumes, len(numbers)), np.nan)
    hasher = hashlib.sha256(LABEL + repr(image.shape).encode())
    outside = 0
    for begin in range(0, volumes, size):
        with np.errstate(invalid="ignore"):  # damaged numbers are told when the file was read to its end
            block = np.asarray(image.dataobj[..., begin : begin + size], dtype=np.float64)
        if begin == 0:
            hasher.update(block[..., 0].astype("<f4").tobytes("F"))
            lost = (labels > 0) & ~np.isfinite(block[..., 0])
            outside = int(lost.sum())
            labels = np.where(lost, 0, labels)
            inside, present = labels > 0, np.unique(labels[labels > 0])
            columns = np.searchsorted(numbers, present)
        if begin + size >= volumes:
            hasher.update(block[..., -1].astype("<f4").tobytes("F"))
        for index, values in enumerate(block[inside].T, start=begin):
            series[index, columns] = ndimage.mean(values, labels[inside], present)
    return series, hasher.digest(), outside

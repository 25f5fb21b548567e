"""An atlas: an image in which each voxel carries the number of its region, used only as it was registered.

The digest of the file stands in the registration, so that a file that was exchanged afterwards is refused. Regions
come in ascending order of their numbers; 0 is no region.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import Atlas, DataSet
from dura_client.data.sources.fmri.images import ENDINGS, MOST_VOXELS, is_nifti2, space_code
from dura_common.errors import InputError
from dura_common.runtime.files import read_limited
from dura_common.study import ConnectomeContract

MOST_BYTES = 1 << 28
FEWEST_REGIONS = 3
AXES = 3
SAME_MILLIMETRES = 1e-3
"""Grids whose affines differ by less are the same grid."""
LABELS = "An atlas is one volume of NIfTI whose voxels are the whole numbers of their regions, and 0 elsewhere."


@dataclass(frozen=True)
class Regions:
    """The regions of an atlas."""

    labels: NDArray[np.int32]
    """(x, y, z): number of each voxel's region, 0 for none."""
    affine: NDArray[np.float64]
    """(4, 4): from voxels to millimetres."""
    numbers: tuple[int, ...]
    """Numbers of the regions, ascending."""
    code: int
    """In which space the atlas lies, as NIfTI counts them."""
    _grids: dict[tuple[object, ...], NDArray[np.int32]] = field(default_factory=dict, repr=False)
    """Labels on the grid that was asked for last."""

    def lies_on(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> bool:
        """Tell whether a grid is the atlas's own."""
        return shape == self.labels.shape and bool(np.allclose(affine, self.affine, rtol=0, atol=SAME_MILLIMETRES))

    def on(self, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the labels on a grid: as they are, or each voxel with the label of the nearest one of the atlas."""
        if self.lies_on(shape, affine):
            return self.labels
        place = (shape, affine.tobytes())
        if place not in self._grids:
            self._grids.clear()  # the volumes of a data set share a grid, or lie in the order of their patients
            self._grids[place] = _resampled(self, shape, affine)
        return self._grids[place]


def _resampled(regions: Regions, shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.int32]:
    from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415  # only who reads volumes pays for it
    from nilearn.image import resample_img  # noqa: PLC0415  # idem

    image = Nifti1Image(regions.labels, regions.affine)
    moved = resample_img(image, affine, shape, interpolation="nearest", force_resample=True, copy_header=True)
    return np.asarray(moved.dataobj).astype(np.int32)


def atlas_of(root: Path, name: str, file: str) -> Atlas:
    """Return what a registration says of an atlas.

    Args:
        root: folder of the data set.
        name: that studies use.
        file: absolute, or below the folder.

    Raises:
        InputError: the file is no atlas.
    """
    content = _content(root, file)
    regions_in(content, file)
    return Atlas(name=name, file=file, digest=hashlib.sha256(content).hexdigest())


def load_atlas(dataset: DataSet) -> Regions:
    """Return the regions of the atlas with which a data set is registered.

    Raises:
        InputError: the data set has none, or the file is not the one that was registered.
    """
    if dataset.atlas is None:
        raise InputError(f"the data set {dataset.name} was registered without an atlas")
    content = _content(Path(dataset.root), dataset.atlas.file)
    if hashlib.sha256(content).hexdigest() != dataset.atlas.digest:
        raise InputError(
            f"the atlas {dataset.atlas.name} is not the file that was registered: {dataset.atlas.file} has changed",
            hint=f"Bring the file back, or register it anew: `dura site data update {dataset.name} --atlas "
            f"{dataset.atlas.name}={dataset.atlas.file}`.",
        )
    return regions_in(content, dataset.atlas.file)


def require_fitting_atlas(dataset: DataSet, contract: ConnectomeContract, regions: Regions) -> None:
    """Refuse an atlas that is not the study's.

    Raises:
        InputError: its name or its number of regions is another one.
    """
    mine = dataset.atlas.name if dataset.atlas is not None else ""
    if mine != contract.atlas:
        raise InputError(
            f"the study asks for the atlas {contract.atlas}, and the data set {dataset.name} was registered with the "
            f"atlas {mine}",
            hint=f"`dura site data update {dataset.name} --atlas {contract.atlas}=FILE` if it has that atlas too.",
        )
    if len(regions.numbers) != contract.regions:
        raise InputError(
            f"the study's atlas {contract.atlas} has {contract.regions} regions, and the file here has "
            f"{len(regions.numbers)}",
            hint="Ask the researcher which version of the atlas the study means, and register that file.",
        )


def regions_in(content: bytes, file: str) -> Regions:
    """Return the regions in the content of an atlas file.

    Raises:
        InputError: it is no atlas.
    """
    plain = _unpacked(content, file)
    try:
        image, values = _image(plain)
    except Exception as error:  # a reader of images may fail in any way, and the file is what is wrong
        raise InputError(f"the atlas {file} cannot be read as one volume of NIfTI", hint=LABELS) from error
    whole = np.isfinite(values).all() and bool((values == np.round(values)).all())
    if not whole or values.min() < 0 or values.max() > np.iinfo(np.int32).max:
        raise InputError(f"the voxels of the atlas {file} are not the numbers of regions", hint=LABELS)
    labels = np.asfortranarray(values).astype(np.int32)
    numbers = tuple(int(number) for number in np.unique(labels) if number)
    if len(numbers) < FEWEST_REGIONS:
        raise InputError(f"the atlas {file} has {len(numbers)} regions; {FEWEST_REGIONS} are the fewest", hint=LABELS)
    return Regions(labels, np.asarray(image.affine, dtype=np.float64), numbers, space_code(image))


def _image(plain: bytes) -> tuple[Any, NDArray[Any]]:
    """Return an image of one volume, and its voxels (x, y, z)."""
    from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415  # only who reads volumes pays for it
    from nibabel.nifti2 import Nifti2Image  # noqa: PLC0415  # idem

    kind: Any = Nifti2Image if is_nifti2(plain) else Nifti1Image
    image = kind.from_bytes(plain)
    one_volume = len(image.shape) >= AXES and all(size == 1 for size in image.shape[AXES:])
    if not one_volume or np.prod(image.shape) > MOST_VOXELS or image.get_data_dtype().kind not in "iuf":
        raise ValueError("one volume of plain numbers is expected")
    return image, np.asarray(image.dataobj).reshape(image.shape[:AXES])


def _content(root: Path, file: str) -> bytes:
    if not file.lower().endswith(ENDINGS):
        raise InputError(f"an atlas is a file that ends in {' or '.join(ENDINGS)}, got {file}", hint=LABELS)
    return read_limited(root / file, what=f"the atlas {file}", limit=MOST_BYTES)


def _unpacked(content: bytes, file: str) -> bytes:
    if not file.lower().endswith(".gz"):
        return content
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as stream:
            plain = stream.read(8 * MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"the atlas {file} cannot be unpacked", hint="Copy the file again from its source.") from error
    return plain

"""Opening NIfTI images: what is wrong with a file is said in dura's own words, whatever the reader calls it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from dura_client.data.recordings.content import kind_of
from dura_client.data.recordings.source import Unreadable

if TYPE_CHECKING:
    import io

    from nibabel.nifti1 import Nifti1Image

ENDINGS = (".nii", ".nii.gz")
MOST_VOXELS = 1 << 27
"""Of one volume: a header that declares more is not believed."""
MOST_VOLUMES = 100_000
DIMENSIONS = 4
PIECE = 1 << 20
NIFTI2_HEADER_BYTES = 540
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
UNKNOWN, SCANNER, FIRST_TEMPLATE = 0, 1, 3
"""Codes of NIfTI for the space in which voxels lie; from 3 on it is one that several people share."""


@contextmanager
def volumes_in(path: Path) -> Iterator[Nifti1Image]:
    """Open an image of several volumes for reading from begin to end; nothing but its header is read at first.

    When the block ends without an error, the file is read to its end, where a packed one says whether it is whole.

    Raises:
        Unreadable: there is no image, its header is broken, it has not four dimensions, or its content is damaged.
    """
    packed = path.name.lower().endswith(".gz")
    if packed != (kind_of(path) == "gzip"):
        said = "packed, and it is not" if packed else "not packed, and it is"
        raise Unreadable("FILE-KIND", f"its name says that it is {said}")
    with gzip.open(path) if packed else path.open("rb") as stream:
        try:
            image = _header_of(cast("io.BufferedIOBase", stream))
        except Exception as error:  # a reader of headers may fail in any way, and the file is what is wrong
            raise Unreadable("FILE-HEAD", "its header is not one of NIfTI") from error
        _require_volumes(image)
        try:
            yield image
            while packed and stream.read(PIECE):
                pass
        except (OSError, EOFError, ValueError, zlib.error) as error:
            cause = "it ends before the last volume that its header declares, or is damaged"
            raise Unreadable("FILE-CUT", cause) from error


def _header_of(stream: io.BufferedIOBase) -> Nifti1Image:
    """Return an image whose voxels are read from a stream when they are asked for."""
    from nibabel.nifti1 import Nifti1Image  # noqa: PLC0415  # only who reads volumes pays for it
    from nibabel.nifti2 import Nifti2Image  # noqa: PLC0415  # idem

    kind = Nifti2Image if is_nifti2(stream.read(4)) else Nifti1Image
    stream.seek(0)
    image: Nifti1Image = kind.from_stream(stream)
    return image


def is_nifti2(beginning: bytes) -> bool:
    """Tell by the first bytes, the size of the header in either order, whether an image is of the second version."""
    return NIFTI2_HEADER_BYTES in {int.from_bytes(beginning[:4], order) for order in ORDERS}


def _require_volumes(image: Nifti1Image) -> None:
    if len(image.shape) != DIMENSIONS:
        raise Unreadable("ROI-KIND", f"it has {len(image.shape)} dimensions, and volumes over time have {DIMENSIONS}")
    if image.get_data_dtype().kind not in "iuf":
        raise Unreadable("ROI-KIND", "its voxels are not plain numbers")
    x, y, z, volumes = image.shape
    if min(image.shape) < 1 or x * y * z > MOST_VOXELS or volumes > MOST_VOLUMES:
        raise Unreadable("FILE-HEAD", "its header declares an impossible size")


def space_code(image: Any) -> int:
    """Return in which space an image lies by its header: the sform counts, and the qform if there is no sform."""
    return int(image.header["sform_code"]) or int(image.header["qform_code"])


def seconds_between(image: Any) -> float | None:
    """Return the time from one volume to the next by the header, in seconds; None if it does not say so."""
    unit = TIME_UNITS.get(image.header.get_xyzt_units()[1])
    seconds = float(image.header.get_zooms()[3])
    return seconds * unit if unit is not None and seconds > 0 else None

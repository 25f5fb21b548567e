"""Series of an atlas's regions: where they lie in a data set, and how one is read.

Two layouts: ``*_timeseries.tsv`` of BIDS derivatives (XCP-D and others; the name says ``atlas-NAME`` or ``seg-NAME``),
or arrays in ``.npz``, ``.npy``, ``.csv`` and ``.tsv`` files, which a mapping lists: a table with the columns
``participant_id``, ``file``, and where they are needed ``session_id`` and ``key`` (of an array in an ``.npz``).
A table of confounds has the same ending as a series and is never taken for one.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.recordings.content import kind_of
from dura_client.data.recordings.folder import entities_of
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import read_table
from dura_client.data.store.digests import UNPACKABLE
from dura_common.errors import InputError
from dura_common.study import ConnectomeContract

ENDING = "_timeseries.tsv"
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Series:
    """Where the series of one recording lie."""

    subject: str
    session: str | None
    path: Path
    key: str = ""
    """Of an array in an ``.npz`` file."""


def find_series(dataset: DataSet, contract: ConnectomeContract) -> dict[str, list[Series]]:
    """Return the series of a task and atlas by patient, each patient's in the order of their names.

    Raises:
        InputError: there are none, or the mapping cannot be used.
    """
    root = Path(dataset.root)
    found = _listed(root, dataset.series) if dataset.series else _derivatives(root, contract)
    if not found:
        raise InputError(
            f"the data set {dataset.name} has no series of the atlas {contract.atlas} and the task {contract.task}",
            hint=f"Expected files such as sub-01/func/sub-01_task-{contract.task}_atlas-{contract.atlas}{ENDING} below "
            f"the folder, or a mapping: `dura site data update {dataset.name} --series series.tsv`.",
        )
    people: dict[str, list[Series]] = {}
    for item in sorted(found, key=lambda one: (one.subject, one.session or "", one.path.name, one.key)):
        people.setdefault(item.subject, []).append(item)
    return people


def _derivatives(root: Path, contract: ConnectomeContract) -> list[Series]:
    found = []
    for path in root.rglob(f"sub-*{ENDING}"):
        parts = entities_of(path.name)
        atlas = parts.get("atlas", parts.get("seg"))
        if atlas == contract.atlas and parts.get("task") == contract.task and "confounds" not in parts.get("desc", ""):
            found.append(Series(parts["sub"], parts.get("ses"), path))
    return found


def _listed(root: Path, name: str) -> list[Series]:
    try:
        table = read_table(root / name)
    except (Unreadable, OSError) as error:
        raise InputError(
            f"the mapping of series cannot be read: {name}", hint="It is a TSV below the folder."
        ) from error
    if "participant_id" not in table or "file" not in table:
        raise InputError(f"the mapping of series {name} needs the columns participant_id and file")
    found = []
    for row in table.rows:
        cells = dict(zip(table.columns, (cell.strip() for cell in row), strict=True))
        path = (root / cells["file"]).resolve()
        if not path.is_relative_to(root.resolve()):
            raise InputError(f"the mapping of series {name} names a file outside the data set's folder")
        session = cells.get("session_id", "").removeprefix("ses-")
        subject = cells["participant_id"].removeprefix("sub-")
        found.append(Series(subject, session if session not in {"", "n/a"} else None, path, cells.get("key", "")))
    return found


def read_series(item: Series) -> NDArray[np.float64]:
    """Return the series of one recording (volumes, regions); a cell that is not a number is NaN.

    Raises:
        Unreadable: it is not there, or no table of numbers.
    """
    reader = READERS.get(item.path.suffix.lower())
    if reader is None:
        raise Unreadable("ROI-KIND", f"series are read from {', '.join(READERS)}; the file ends in {item.path.suffix}")
    if not item.path.is_file() and not item.path.is_symlink():
        raise Unreadable("FILE-LINK", "the file is not there")
    kind = kind_of(item.path)
    if kind == "gzip":
        raise Unreadable("FILE-GZ", "its content is packed (gzip)")
    if item.path.stat().st_size > MAX_BYTES:
        raise Unreadable("ROI-KIND", f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        values = reader(item)
    except (ValueError, MemoryError, *UNPACKABLE) as error:
        raise Unreadable("ROI-KIND", f"it holds no such table of numbers ({type(error).__name__})") from error
    if values.ndim != 2 or values.dtype.kind not in "fiu":  # noqa: PLR2004  # volumes by regions
        raise Unreadable("ROI-KIND", "it does not hold numbers in rows (volumes) and columns (regions)")
    return values.astype(np.float64)


def _npz(item: Series) -> NDArray[np.float64]:
    with zipfile.ZipFile(item.path) as archive:  # a small file may claim to hold more than fits into memory
        if archive.getinfo(f"{item.key}.npy").file_size > MAX_BYTES:
            raise Unreadable("ROI-KIND", f"unpacked, it is larger than {MAX_BYTES >> 20} MiB")
    with np.load(item.path, allow_pickle=False) as file:
        found: NDArray[np.float64] = file[item.key]
    return found


def _npy(item: Series) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.load(item.path, allow_pickle=False)
    return found


def _text(sign: str) -> Callable[[Series], NDArray[np.float64]]:
    def read(item: Series) -> NDArray[np.float64]:
        text = item.path.read_text(encoding="utf-8-sig", errors="replace")
        rows = [line.split(sign) for line in text.splitlines() if line.strip()]
        if not rows:
            raise ValueError("no row")
        rows = rows[1:] if not all(_number(cell) for cell in rows[0]) else rows
        return np.array([[_float(cell) for cell in row] for row in rows], dtype=np.float64)

    return read


def _number(cell: str) -> bool:
    return not np.isnan(_float(cell))


def _float(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


READERS: dict[str, Callable[[Series], NDArray[np.float64]]] = {
    ".tsv": _text("\t"),
    ".csv": _text(","),
    ".npz": _npz,
    ".npy": _npy,
}

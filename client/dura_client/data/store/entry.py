"""One prepared patient on disk: a folder that appears complete or not at all, and is checked whenever it is opened.

``windows.npy``, ``labels.npy`` and ``recordings.npy`` are what models see, ``fingerprints.npy`` and ``contents.npy``
say which recordings they come from, and ``entry.json`` holds the digests of both. An entry that is not encrypted is
mapped into memory; an encrypted one is decrypted into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.store.fingerprint import from_rows
from dura_client.data.store.seal import PIECE, Damaged, Seal, reading, writing
from dura_common.errors import HostError

TEMPORARY = ".new-"
"""Prefix of an entry that is being written or removed; a crash leaves such a folder behind and nothing reads it."""
ABOUT = "entry.json"
SEEN = ("windows", "labels", "recordings")
PRINTS = ("fingerprints", "contents", "broken")
FORMAT = 1
MOST_BYTES = 1 << 16
"""Of ``entry.json``."""


@dataclass(frozen=True, slots=True)
class PatientData:
    """One patient, ready for a model. Arrays are memory maps unless the store is encrypted."""

    key: str
    """Keyed hash of the BIDS label, 64 hex digits."""
    windows: NDArray[np.float32]
    """(windows, channels, samples), about unit variance."""
    labels: NDArray[np.int64] | NDArray[np.float32]
    """(windows,), index into the study's classes, or a value from -1 to 1."""
    recordings: NDArray[np.int64]
    """(windows,), index of the recording in time order."""
    fingerprints: tuple[bytes, ...]
    """Of each recording in time order, 32 bytes, keyed by the site's secret: equal for copies."""
    broken: tuple[int, ...]
    """Of each recording in time order, the study's rules that it breaks (:class:`~...leaving_out.Broken`)."""
    contents: tuple[bytes, ...]
    """Plain digests of the same recordings, equal at any site; of public data sets only, otherwise empty."""


@dataclass(frozen=True, slots=True)
class Parts:
    """An array that is too large to hold: written part by part along its first axis."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parts: Callable[[], Iterator[NDArray[Any]]]


def digest_of(patient: PatientData) -> str:
    """Return SHA-256 (hex) of what a patient was prepared to: windows, labels, and which recording each is of."""
    return _digest({name: getattr(patient, name) for name in SEEN}, SEEN)


def write_entry(target: Path, fill: Callable[[Path], Mapping[str, NDArray[Any] | Parts]], seal: Seal | None) -> None:
    """Write an entry that appears complete or not at all; another process may write the same one.

    Args:
        target: folder of the entry; the folder above it may not exist yet.
        fill: returns the arrays by name; it may use the folder that it is given, and nothing of that is kept.
        seal: encrypts the entry.

    Raises:
        HostError: the disk is full or the folder cannot be written.
    """
    try:
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=TEMPORARY))
        try:
            work = temporary / "work"
            work.mkdir()
            arrays = fill(work)
            about = {
                "format": FORMAT,
                "key": f"{target.parent.name}/{target.name}",
                "digest": _write(temporary, arrays, SEEN, seal),
                "prints": _write(temporary, arrays, PRINTS, seal),
            }
            with writing(temporary / ABOUT, None) as stream:
                stream.write(json.dumps(about).encode())
            shutil.rmtree(work)
            _put(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise HostError(
            f"cannot write prepared recordings to {target.parent.parent.parent}: {error.strerror}",
            hint="Check free space and permissions; what was prepared before is kept.",
        ) from error


def _write(folder: Path, arrays: Mapping[str, NDArray[Any] | Parts], names: Sequence[str], seal: Seal | None) -> str:
    """Write arrays and return their digest, as :func:`_digest` gives it."""
    hasher = hashlib.sha256()
    for name in names:
        array = arrays[name]
        hasher.update(repr((array.dtype.str, array.shape)).encode())
        with writing(folder / f"{name}.npy", seal) as stream:
            header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape}
            np.lib.format.write_array_header_1_0(stream, header)
            for part in array.parts() if isinstance(array, Parts) else (array,):
                content = np.ascontiguousarray(part, dtype=array.dtype).reshape(-1).view(np.uint8).data
                stream.write(content)
                hasher.update(content)
    return hasher.hexdigest()


def _put(temporary: Path, target: Path) -> None:
    try:
        temporary.rename(target)
    except OSError:
        if not target.exists():  # otherwise another process prepared the same patient meanwhile
            raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_entry(path: Path, seal: Seal | None = None) -> PatientData:
    """Open an entry, check that it holds what was written, and note that it was used.

    Raises:
        Damaged: it does not.
    """
    try:
        about = about_of(path)
        arrays = _arrays(path, seal)
        whole = about == {
            "format": FORMAT,
            "key": f"{path.parent.name}/{path.name}",
            "digest": _digest(arrays, SEEN, path),
            "prints": _digest(arrays, PRINTS, path),
        }
    except (OSError, ValueError, EOFError) as error:
        raise Damaged("a file of a prepared patient is missing or is not what was written") from error
    if not whole:
        raise Damaged("a prepared patient is not what was written")
    os.utime(path / ABOUT)
    return _patient(path.parent.name, arrays)


def _patient(key: str, arrays: Mapping[str, NDArray[Any]]) -> PatientData:
    return PatientData(
        key=key,
        windows=arrays["windows"],
        labels=arrays["labels"],
        recordings=arrays["recordings"],
        fingerprints=from_rows(arrays["fingerprints"]),
        broken=tuple(int(rules) for rules in arrays["broken"]),
        contents=from_rows(arrays["contents"]),
    )


def open_old(path: Path, digest: str) -> PatientData | None:
    """Open a patient as dura 0.1.0 kept it, without ``entry.json``; None if the data have another digest."""
    arrays = {name: _array(path / f"{name}.npy", None, mapped=False) for name in (*SEEN, *PRINTS[:2])}
    arrays["broken"] = np.zeros(len(arrays["fingerprints"]), dtype=np.uint8)
    if _digest(arrays, SEEN, path) != digest:
        return None
    return _patient(path.name, arrays)


def about_of(path: Path) -> dict[str, Any]:
    """Return what an entry says of itself.

    Raises:
        ValueError, OSError: it says nothing.
    """
    with (path / ABOUT).open("rb") as stream:
        about = json.loads(stream.read(MOST_BYTES))
    if not isinstance(about, dict):
        raise ValueError("an object is expected")  # noqa: TRY004  # of a file's content, not of an argument's type
    return about


def discard(path: Path) -> None:
    """Remove an entry: it is gone at once, or not at all."""
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY))
    try:
        path.rename(aside / path.name)
    except FileNotFoundError:
        pass  # another process was faster
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _arrays(path: Path, seal: Seal | None) -> dict[str, NDArray[Any]]:
    return {name: _array(path / f"{name}.npy", seal, mapped=name == "windows") for name in (*SEEN, *PRINTS)}


def _array(path: Path, seal: Seal | None, *, mapped: bool) -> NDArray[Any]:
    if seal is None:
        found: NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        return found
    with reading(path, seal) as stream:
        return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def _digest(arrays: Mapping[str, NDArray[Any]], names: Sequence[str], folder: Path | None = None) -> str:
    """Return the digest of arrays; those that were mapped whole from files of a folder are read from there."""
    hasher = hashlib.sha256()
    for name in names:
        array = arrays[name]
        hasher.update(repr((array.dtype.str, array.shape)).encode())
        if folder is not None and isinstance(array, np.memmap) and array.size:
            _hash_file(hasher, folder / f"{name}.npy", array.offset, array.nbytes)
        else:
            hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def _hash_file(hasher: hashlib._Hash, path: Path, offset: int, left: int) -> None:
    """Hash a part of a file without mapping it: mapped pages that were touched count as this process's memory."""
    with path.open("rb") as stream:
        stream.seek(offset)
        while left and (piece := stream.read(min(left, PIECE))):
            hasher.update(piece)
            left -= len(piece)
    if left:
        raise Damaged("a prepared patient was cut")

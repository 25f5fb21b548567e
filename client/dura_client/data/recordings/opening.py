"""One door for all formats: a path in, a source of samples out."""

from __future__ import annotations

from pathlib import Path

import mne

from dura_client.data.recordings.brainvision import check_brainvision
from dura_client.data.recordings.content import kind_of, require_kind
from dura_client.data.recordings.edf import open_edf
from dura_client.data.recordings.source import Source, Unreadable
from dura_client.data.recordings.through_mne import MneSource, open_with_mne


def open_source(path: Path) -> Source:
    """Open a recording of any format that dura knows.

    Raises:
        Unreadable: it cannot be used, and why.
    """
    try:
        suffix = path.suffix.lower()
        if suffix in {".edf", ".bdf"}:
            return open_edf(path)
        if suffix == ".vhdr":
            return _brainvision(path)
        if suffix == ".set":
            return _eeglab(path)
        if suffix == ".gdf":
            require_kind(path, "GDF")
        if path.is_file() or path.is_symlink():
            kind_of(path)
        return open_with_mne(path)
    except OSError as error:
        raise Unreadable("FILE-DENIED", f"the system says: {error.strerror}") from error


def _brainvision(path: Path) -> MneSource:
    header = check_brainvision(path)
    return open_with_mne(
        path,
        _read_brainvision,
        units=[channel.unit for channel in header.channels],
        notes=list(header.notes),
    )


def _read_brainvision(path: Path, **options: object) -> object:
    try:
        return mne.io.read_raw_brainvision(path, **options)
    except FileNotFoundError:  # of the markers: their absence is noted, and the samples are there
        return mne.io.read_raw_brainvision(path, ignore_marker_types=True, **options)


def _eeglab(path: Path) -> MneSource:
    require_kind(path, "MATLAB", "HDF5")
    source = open_with_mne(path, mne.io.read_raw_eeglab)
    data = source.raw.filenames[0]
    if data is not None and Path(data).suffix.lower() == ".fdt":
        kind_of(Path(data))
        size, wanted = Path(data).stat().st_size, 4 * source.raw.n_times * len(source.raw.ch_names)
        if size != wanted:
            raise Unreadable(
                "FILE-CUT",
                f"{Path(data).name} has {size} bytes and the header needs {wanted}: the two do not belong "
                "together, or the copy was cut",
            )
    return source

"""One door for all formats: a path in, a source of samples out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import mne
import numpy as np

from dura_client.data.findings.finding import counted
from dura_client.data.recordings.brainvision import check_brainvision
from dura_client.data.recordings.content import declared_number, kind_of, require_kind
from dura_client.data.recordings.edf import open_edf
from dura_client.data.recordings.source import Note, Source, Unreadable
from dura_client.data.recordings.through_mne import MneSource, open_with_mne

TRIGGERS = ("STI101", "STI014", "UPPT001")
"""Channels of the codes of a stimulus computer, in MEGIN's and CTF's systems: the first that is there is read."""
KIT = {".sqd", ".con"}
CTF_CLOCK = "SCLK01"
"""Channel of the system's clock, in seconds."""


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
        if suffix in {".fif", ".ds"}:
            return _magnetic(path)
        if path.is_file() or path.is_symlink():
            kind_of(path)
        source = open_with_mne(path)
        return _with_state(source) if suffix in KIT else source
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


def _magnetic(path: Path) -> MneSource:
    """Open a FIF file with the files that continue it, or the folder of a CTF system."""
    if path.suffix.lower() == ".fif":
        require_kind(path, "FIF")
        return _with_state(open_with_mne(path, mne.io.read_raw_fif))
    absent = [ending for ending in (".res4", ".meg4") if not (path / f"{path.stem}{ending}").exists()]
    if absent:
        cause = f"it has no {' and no '.join(absent)} file of the folder's name"
        remedy = "Give the files in a .ds folder the folder's own name, as the tools of the CTF system do."
        raise Unreadable("FILE-PART", cause, remedy)
    return _with_state(_with_trials(open_with_mne(path, mne.io.read_raw_ctf)))


def _with_trials(source: MneSource) -> MneSource:
    """Return a recording of a CTF system with a joint wherever its clock jumps between two trials.

    Without the channel of the clock nobody knows which trials follow each other, and each of them stands alone.
    """
    raw, rate = source.raw, source.signals[0].rate
    size = int(raw._raw_extras[0]["block_size"])  # noqa: SLF001  # MNE keeps the length of a trial nowhere else
    borders = range(size, raw.n_times, size)
    clock = [index for index, signal in enumerate(source.signals) if signal.label.startswith(CTF_CLOCK)][:1]
    jumps = [at for at in borders if not clock or np.diff(source.read(clock, at - 1, at + 1)).item() > 1.5 / rate]
    if not jumps:
        return source
    note = Note("GAP-FOUND", f"{counted(len(jumps), 'place')} between trials where the recording was interrupted")
    return replace(source, joints=tuple(sorted({*source.joints, *jumps})), notes=(*source.notes, note))


def parts_of(source: Source) -> list[Path]:
    """Return the files that hold a recording, where MNE reads it; by its header, not by names."""
    return [Path(name) for name in source.raw.filenames if name is not None] if isinstance(source, MneSource) else []


def _with_state(source: MneSource) -> MneSource:
    """Return a source with its codes' channel, and with notes of what was done to the recording before."""
    raw = source.raw
    done = []
    if raw.info["proc_history"]:
        done.append("MaxFilter (or another Maxwell filter) was applied")
    if raw.compensation_grade:
        done.append(f"gradient compensation of grade {raw.compensation_grade} was applied")
    waiting = sum(not projection["active"] for projection in raw.info["projs"])
    if waiting:
        done.append(f"projections that the file keeps were not applied, and are not ({waiting})")
    notes = [*source.notes, *(Note("MEG-STATE", cause) for cause in done)]
    codes = [index for index, signal in enumerate(source.signals) if signal.kind == "TRIG"]
    names = ["".join(source.signals[index].label.split()) for index in codes]
    known = next((codes[names.index(name)] for name in TRIGGERS if name in names), None)
    trigger = codes[0] if known is None and len(codes) == 1 else known
    return replace(source, notes=tuple(notes), trigger=trigger)


def require_parts(path: Path, source: Source) -> None:
    """Refuse a recording whose parts are other files than their names in BIDS say.

    Raises:
        Unreadable: they are.
    """
    if path.suffix.lower() != ".fif" or not isinstance(source, MneSource):
        return
    chained = parts_of(source)
    mark = re.search(r"_split-0*1(?=_)", path.name)
    if mark is None:
        named = [path]
    else:
        named = sorted(path.parent.glob(f"{path.name[: mark.start()]}_split-*{path.name[mark.end() :]}"))
    if sorted(item.name for item in chained) != sorted(item.name for item in named):
        raise Unreadable(
            "FILE-PART",
            f"by their names {counted(len(named), 'file')} hold it, and its header chains others ({len(chained)})",
            "Write it again with a tool that names the parts of a FIF file as BIDS does, such as mne-bids.",
        )


def _eeglab(path: Path) -> MneSource:
    require_kind(path, "MATLAB", "HDF5")
    try:
        source = open_with_mne(path, mne.io.read_raw_eeglab)
    except Unreadable as error:
        if error.note.code != "FILE-READ":
            raise
        cause = (
            f"it holds no structure EEG that is whole; what the reader missed is {str(error).partition('about ')[2]}"
        )
        remedy = "Open the recording in EEGLAB, run eeg_checkset, and save it again."
        raise Unreadable("FILE-HEAD", cause, remedy) from error
    for name, what, count in (
        ("nbchan", "channels", len(source.raw.ch_names)),
        ("pnts", "samples", source.raw.n_times),
    ):
        said = declared_number(path, name)
        if said is not None and said != count:
            raise Unreadable(
                "FILE-HEAD",
                f"its structure declares {said} {what} ({name}), and it describes or holds {count}",
                "Open the recording in EEGLAB, find out which is right, run eeg_checkset, and save it again.",
            )
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

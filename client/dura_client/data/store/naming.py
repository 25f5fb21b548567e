"""Names of prepared patients: by the content of everything on which the result depends, so that nothing stale is used.

A recipe (the study's data contract and dura's version of preparation) names a folder, and a patient's own content the
entry in it: all files of the recordings, every sidecar that applies at any level of inheritance, the patient's row
among the participants, and what the registration says. A root file that changes therefore changes every patient whom it
concerns, and a recording that changes, that patient alone. Where the folder lies and how the data set is called do not
matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.recordings.brainvision import parts_of
from dura_client.data.recordings.folder import PARTS, BidsFolder, Recording
from dura_client.data.recordings.sidecars import applying_any
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import Table, read_table
from dura_client.data.store.digests import FileDigests
from dura_common.study import DataContract

ELSEWHERE = frozenset({"minimum_patients", "leave_out"})
"""Fields of a data contract that do not change what a patient is prepared to."""
NAME_DIGITS = 32
PEOPLE = "participants.tsv"


def recipe_name(contract: DataContract, version: int) -> str:
    """Return the name of the folder for one recipe, 32 hex digits."""
    content = json.dumps(contract.model_dump(mode="json", exclude=set(ELSEWHERE)), sort_keys=True)
    return hashlib.sha256(f"dura recipe {version}\0{content}".encode()).hexdigest()[:NAME_DIGITS]


class EntryNames:
    """Names of the entries of one data set.

    Args:
        folder: of the data set.
        dataset: its registration.
        digests: of files.
        tables: of the data set, in which answers stand.
    """

    def __init__(self, folder: BidsFolder, dataset: DataSet, digests: FileDigests, tables: Sequence[Path] = ()) -> None:
        self._folder, self._dataset, self._digests, self._tables = folder, dataset, digests, tables

    def of(self, recordings: Sequence[Recording]) -> str:
        """Return the name of the entry of one patient, 32 hex digits, by the patient's recordings in their order."""
        hasher = hashlib.sha256(b"dura entry\0")

        def add(*words: object) -> None:
            hasher.update(json.dumps(words).encode() + b"\0")

        told = self._dataset
        add(sorted(told.labels.items()), told.public, sorted(told.columns.items()), told.missing)
        add([self._digests.of(path) for path in self._tables])
        add(self._rows.get(recordings[0].subject, self._people))
        for recording in recordings:
            place = self._folder.place(recording.path)
            add(place, self._dataset.scale_of(place))
            for path in files_of(self._folder, recording):
                add(_place(self._folder, path), self._digests.of(path))
        return hasher.hexdigest()[:NAME_DIGITS]

    @cached_property
    def _rows(self) -> dict[str, list[list[tuple[str, str]]]]:
        """Return what the participants' table says of each patient."""
        if self._table is None or "participant_id" not in self._table:
            return {}
        columns = {name: self._table.column(name) for name in self._table.columns}
        rows: dict[str, list[list[tuple[str, str]]]] = {}
        for index, label in enumerate(self._table.column("participant_id")):
            mine = sorted((name, cells[index]) for name, cells in columns.items())
            rows.setdefault(label.removeprefix("sub-"), []).append(mine)
        return rows

    @cached_property
    def _table(self) -> Table | None:
        try:
            return read_table(self._folder.root / PEOPLE)
        except (Unreadable, OSError):
            return None

    @cached_property
    def _people(self) -> str:
        """Stand for a patient without a row: the digest of a table that cannot be read, else a word."""
        return "no row" if self._rows else self._digests.of(self._folder.root / PEOPLE)


def files_of(folder: BidsFolder, recording: Recording) -> list[Path]:
    """Return every file on which a recording's preparation may depend, sorted: rather one too many than one too few."""
    own = recording.path.parent
    stem = recording.path.name.partition(".")[0].removesuffix(f"_{folder.kind}").partition("_split-")[0]
    found = {recording.path, *applying_any(folder, recording)}
    found |= {
        own / name
        for name in folder.names.get(own, ())
        if name.startswith((f"{stem}_", f"{stem}.")) or Path(name).suffix.lower() in PARTS
    }
    if recording.path.suffix.lower() == ".vhdr":
        found |= set(parts_of(recording.path))
    return sorted(file for path in found for file in _files(path))


def _files(path: Path) -> list[Path]:
    """Return a file itself, or the files in the folder that a CTF system writes."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _place(folder: BidsFolder, path: Path) -> str:
    return str(path.relative_to(folder.root)) if path.is_relative_to(folder.root) else path.name

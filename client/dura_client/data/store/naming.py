"""Names of prepared patients: by the content of everything on which the result depends, so that nothing stale is used.

A recipe (the study's data contract and dura's version of preparation) names a folder, and a patient's own content the
entry in it: all files of the recordings, every sidecar that applies at any level of inheritance, the answers that
tables give to this patient, and what the registration says of codes and factors. A root file that changes therefore
changes every patient whom it concerns, and a recording or a cell that changes, that patient alone. Where the folder
lies and how the data set is called do not matter, nor do columns that the study does not read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.recordings.brainvision import parts_of
from dura_client.data.recordings.folder import PARTS, BidsFolder, Recording
from dura_client.data.recordings.sidecars import applying_any
from dura_client.data.store.digests import FileDigests
from dura_common.study import DataContract

ELSEWHERE = frozenset({"minimum_patients", "leave_out"})
"""Fields of a data contract that do not change what a patient is prepared to."""
NAME_DIGITS = 32


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
        files: returns the files on which a recording depends.
        answer: returns what tables answer for a patient and a visit; None if the study's labels stand in no table.
    """

    def __init__(
        self,
        folder: BidsFolder,
        dataset: DataSet,
        digests: FileDigests,
        files: Callable[[Recording], Sequence[Path]],
        answer: Callable[[str, str | None], float | None] | None = None,
    ) -> None:
        self._folder, self._dataset, self._digests = folder, dataset, digests
        self._files, self._answer = files, answer

    def of(self, recordings: Sequence[Recording]) -> str:
        """Return the name of the entry of one patient, 32 hex digits, by the patient's recordings in their order."""
        hasher = hashlib.sha256(b"dura entry 2\0")

        def add(*words: object) -> None:
            hasher.update(json.dumps(words).encode() + b"\0")

        told = self._dataset
        add(sorted(told.labels.items()), told.public)
        for recording in recordings:
            place = self._folder.place(recording.path)
            add(place, self._dataset.scale_of(place))
            if self._answer is not None:
                add(self._answer(recording.subject, recording.entities.get("ses")))
            for path in self._files(recording):
                add(_place(self._folder, path), self._digests.of(path))
        return hasher.hexdigest()[:NAME_DIGITS]


def files_of(folder: BidsFolder, recording: Recording, aside: AbstractSet[Path]) -> list[Path]:
    """Return every file on which a recording's preparation may depend, sorted: rather one too many than one too few.

    Args:
        folder: of the data set.
        recording: whose files are wanted.
        aside: tables of patients and visits: what a study reads there are answers.
    """
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
    return sorted(file for path in found - aside for file in _files(path))


def _files(path: Path) -> list[Path]:
    """Return a file itself, or the files in the folder that a CTF system writes."""
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _place(folder: BidsFolder, path: Path) -> str:
    return str(path.relative_to(folder.root)) if path.is_relative_to(folder.root) else path.name

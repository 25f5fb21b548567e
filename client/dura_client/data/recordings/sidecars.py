"""Which sidecars apply to a recording (BIDS inheritance), and their content merged from the root to the nearest.

At each level, root, patient, session, folder of the recording, a file applies if its entities are among the
recording's. JSON is merged key by key, the nearest last; the description of a column, an object itself, keeps what
only a higher level says of it. Of tables the nearest alone counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.recordings.content import EMPTY, kind_of
from dura_client.data.recordings.folder import BidsFolder, Recording, entities_of
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import Table, read_table

MAX_BYTES = 16 << 20
MOST_DIGITS = 100
BOM = b"\xef\xbb\xbf"
ASIDE = {"participants.tsv", "participants.json", "dataset_description.json"}
"""Of the whole data set: no recording is read by them."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The JSON sidecars of a recording as one."""

    content: dict[str, Any]
    files: tuple[Path, ...]
    """That apply, from the root to the nearest."""
    origin: dict[str, Path]
    """Of each key."""
    findings: tuple[Finding, ...]


def applying(folder: BidsFolder, recording: Recording, ending: str) -> tuple[tuple[Path, ...], tuple[Finding, ...]]:
    """Return the sidecars with this ending (``_events.tsv``) from the root to the nearest, one of each level."""
    mine = recording.entities
    chosen: list[Path] = []
    findings: list[Finding] = []
    for level in _levels(folder.root, recording.path):
        fitting = [
            level / name
            for name in folder.names.get(level, ())
            if (name.endswith(ending) or name == ending[1:]) and entities_of(name).items() <= mine.items()
        ]
        if len(fitting) > 1:
            fitting.sort(key=lambda path: len(entities_of(path.name)))
            names = listed(path.name for path in fitting)
            findings.append(
                found("SIDE-TWO", folder.place(recording.path), f"{names} apply; {fitting[-1].name} was used")
            )
        chosen += fitting[-1:]
    return tuple(chosen), tuple(findings)


def applying_any(folder: BidsFolder, recording: Recording) -> list[Path]:
    """Return every table and JSON file, of whatever kind, that may apply to a recording at any level."""
    mine = recording.entities
    return [
        level / name
        for level in _levels(folder.root, recording.path)
        for name in folder.names.get(level, ())
        if name.endswith((".tsv", ".json")) and name not in ASIDE and entities_of(name).items() <= mine.items()
    ]


def merged_json(folder: BidsFolder, recording: Recording, ending: str) -> Merged:
    """Return the merged content of the JSON sidecars with this ending; broken ones are findings and left out."""
    files, findings = applying(folder, recording, ending)
    content: dict[str, Any] = {}
    origin: dict[str, Path] = {}
    notes = list(findings)
    for path in files:
        try:
            part = read_json(path)
        except Unreadable as error:
            notes.append(broken(folder.place(path), error))
            continue
        if path.read_bytes().startswith(BOM):
            cause = "it begins with a byte-order mark, which was left out"
            notes.append(found("EV-ENC", folder.place(path), cause, remedy="Save the file as UTF-8 without the mark."))
        for key, value in part.items():
            above = content.get(key)
            content[key] = {**above, **value} if isinstance(above, dict) and isinstance(value, dict) else value
        origin |= dict.fromkeys(part, path)
    return Merged(content, files, origin, tuple(notes))


def nearest_table(
    folder: BidsFolder, recording: Recording, ending: str
) -> tuple[Table | None, Path | None, tuple[Finding, ...]]:
    """Return the nearest table with this ending, its file, and what is wrong with either; None if there is none."""
    files, findings = applying(folder, recording, ending)
    if not files:
        return None, None, findings
    try:
        return read_table(files[-1]), files[-1], findings
    except Unreadable as error:
        return None, files[-1], (*findings, broken(folder.place(files[-1]), error))


def broken(place: str, error: Unreadable) -> Finding:
    """Return the finding for a file beside recordings that cannot be used."""
    if error.note.cause == EMPTY:
        return found("SIDE-NONE", place, "it is empty")
    return found(error.note.code, place, error.note.cause, remedy=error.note.remedy)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        Unreadable: it has none; the line is named.
    """
    kind_of(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Unreadable("SIDE-JSON", f"it is larger than {MAX_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable("FILE-DENIED", f"the system says: {error.strerror}") from error
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice.extend(key for key in set(keys) if keys.count(key) > 1)
        return dict(pairs)

    try:
        value = json.loads(
            content.decode("utf-8-sig"), object_pairs_hook=unique, parse_constant=_refused, parse_int=_whole
        )
    except UnicodeDecodeError as error:
        raise Unreadable("SIDE-JSON", "it is not in UTF-8", "Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise Unreadable("SIDE-JSON", f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise Unreadable("SIDE-JSON", "it is nested too deeply") from error
    if twice:
        raise Unreadable("SIDE-JSON", f"it has the same key twice: {listed(sorted(twice))}")
    if not isinstance(value, dict):
        raise Unreadable("SIDE-JSON", "it holds no object ({...})")
    return value


def _refused(word: str) -> object:
    raise Unreadable("SIDE-JSON", f"it holds {word}, which JSON does not know; write n/a")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Unreadable("SIDE-JSON", f"it holds a number of {len(digits)} digits")
    return int(digits)


def _levels(root: Path, path: Path) -> Iterator[Path]:
    yield root
    level = root
    for part in path.relative_to(root).parts[:-1]:
        level = level / part
        yield level

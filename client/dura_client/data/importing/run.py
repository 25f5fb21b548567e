"""Imports a whole folder: each recording once, several at a time, and what cannot be read named and left out.

The same command again goes on where it stopped. A recording is made again only if its source or its mapping changed.
Patients get labels keyed by the site's secret, so that a folder that is seen outside tells nobody who they are.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from dura_client.data.findings.finding import Finding, found, sorted_findings
from dura_client.data.findings.grade import Grade
from dura_client.data.importing.layouts import LAYOUTS
from dura_client.data.importing.mapping import Listed, Mapping
from dura_client.data.importing.search import find_sources
from dura_client.data.importing.write import Written, recordings_at, write_recording
from dura_client.data.recordings.edf import read_annotations
from dura_client.data.recordings.source import Note, Unreadable
from dura_common.errors import HostError, InputError, StateError
from dura_common.runtime.files import SHARED_FILE, parse_json, private_folder, read_limited, write_atomic

VERSION = 2
LABEL_DIGITS = 12
STATE = ".dura-import.json"
GENERATOR = "dura import"
MAX_STATE = 1 << 28
CELLS = {"age": r"\d{1,3}(\.\d{1,3})?", "sex": r"[A-Za-z]{1,6}"}
"""What participants.tsv may say of a patient: nothing that is a name, another row, or a formula for a spreadsheet."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    labels: dict[str, str]
    """The clinic's name of each patient to the label in the data set: for the data manager alone."""
    recordings: int
    """Written now."""
    before: int
    """Written by an earlier run, unchanged since."""
    left_out: tuple[str, ...]
    """Files of the source that could not be used."""
    removed: dict[str, int]
    """Header field that could identify a person to number of recordings; never values."""
    events: dict[str, int]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Task:
    root: Path
    item: Listed
    mapping: Mapping
    out: Path
    name: Path
    """Below the data set, without suffix and ending."""

    @property
    def stem(self) -> Path:
        return self.out / self.name

    @property
    def is_there(self) -> bool:
        """Whether the recording is written; its header comes last."""
        names = {path.name for path in recordings_at(self.stem, self.mapping.source)}
        ending = ".vhdr" if self.mapping.source == "eeg" else ".fif"
        return any(name.endswith(ending) for name in names)


def label_of(patient: str, key: bytes) -> str:
    """Return the label that a clinic's patient has in imported data sets of this site: the same in all of them."""
    digest = hmac.new(key, b"dura import v1\0" + patient.strip().encode(), hashlib.sha256).hexdigest()
    return digest[:LABEL_DIGITS]


def import_folder(
    root: Path,
    out: Path,
    mapping: Mapping,
    *,
    key: bytes,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Import the recordings that a mapping lists.

    Raises:
        InputError: the folders lie in one another, or the source is not there.
        StateError: the folder holds something else than an import of dura.
        HostError: it cannot be written.
    """
    _check_folders(root, out)
    state = _state(out)
    findings = _not_listed(root, mapping)
    tasks = [_Task(root, item, mapping, out, _name(item, mapping, key)) for item in mapping.recordings]
    waiting = [task for task in tasks if not _is_done(task, state)]
    removed: dict[str, int] = {}
    events: dict[str, int] = {}
    left_out: list[str] = []
    try:
        _describe(out)
        for done, (task, result) in enumerate(_results(waiting, jobs), start=1):
            if isinstance(result, Written):
                state[str(task.name)] = _digest(task)
                _tally(removed, result.removed)
                for name, count in result.events.items():
                    events[name] = events.get(name, 0) + count
                findings += [_finding(task, note) for note in result.notes]
                write_atomic(out / STATE, json.dumps(state, sort_keys=True).encode(), mode=SHARED_FILE)
            else:
                left_out.append(task.item.file)
                findings.append(_finding(task, result, grade=Grade.LOSES))
            if progress is not None:
                progress(done, len(waiting))
        _participants(out, tasks, key)
    except OSError as error:
        raise HostError(
            f"cannot write the data set to {out}: {error.strerror}", hint="Check free space and permissions."
        ) from error
    return Imported(
        labels={item.patient: label_of(item.patient, key) for item in mapping.recordings},
        recordings=len(waiting) - len(left_out),
        before=len(tasks) - len(waiting),
        left_out=tuple(left_out),
        removed=removed,
        events=events,
        findings=sorted_findings(findings),
    )


def _check_folders(root: Path, out: Path) -> None:
    if not root.is_dir():
        raise InputError(f"the folder {root} is not there")
    if out == root or out.is_relative_to(root) or root.is_relative_to(out):
        raise InputError(
            "the data set must not lie in the folder of the originals, nor around it",
            hint="Nothing is ever written beside originals.",
        )


def _not_listed(root: Path, mapping: Mapping) -> list[Finding]:
    """Name recordings of the source that the mapping does not list; files of annotations alone are none."""
    listed = {item.file for item in mapping.recordings}
    others = {str(path.relative_to(root)): path for path in find_sources(root)}
    return [
        found("IMP-LIST", place, "the mapping file does not list it, so it was not imported", grade=Grade.KNOW)
        for place, path in others.items()
        if place not in listed and read_annotations(path) is None
    ]


def _name(item: Listed, mapping: Mapping, key: bytes) -> Path:
    subject = f"sub-{label_of(item.patient, key)}"
    session = f"ses-{item.session}" if item.session else None
    name = "_".join(part for part in (subject, session, f"task-{mapping.task}", f"run-{item.run}") if part)
    return Path(subject, *([session] if session else []), mapping.source, name)


def _digest(task: _Task) -> str:
    """Return what a written recording depends on: its source as it is, and the mapping without other recordings."""
    path = task.root / task.item.file
    inner = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [file.stat() for file in inner if file.exists()]
    parts = (
        VERSION,
        task.item.model_dump_json(),
        task.mapping.model_copy(update={"recordings": ()}).model_dump_json(),
        [(stat.st_size, stat.st_mtime_ns) for stat in stats],
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _is_done(task: _Task, state: dict[str, str]) -> bool:
    return state.get(str(task.name)) == _digest(task) and task.is_there


def _state(out: Path) -> dict[str, str]:
    """Return what an earlier run wrote.

    Raises:
        StateError: the folder is not empty, and no import has filled it.
    """
    path = out / STATE
    if path.exists():
        content = parse_json(read_limited(path, what="the state of the import", limit=MAX_STATE), what=STATE)
        return {str(stem): str(digest) for stem, digest in content.items()}
    if out.exists() and any(out.iterdir()):
        raise StateError(f"{out} exists and holds no import of dura", hint="Choose a new folder.")
    return {}


def _describe(out: Path) -> None:
    private_folder(out)
    if not (out / STATE).exists():
        write_atomic(out / STATE, b"{}", mode=SHARED_FILE)
    content = {
        "Name": "Imported recordings",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": GENERATOR}],
    }
    write_atomic(out / "dataset_description.json", json.dumps(content, indent=2).encode(), mode=SHARED_FILE)


def _results(tasks: list[_Task], jobs: int) -> Iterator[tuple[_Task, Written | Note]]:
    """Yield each recording with what became of it, as they get ready."""
    if jobs < 2 or len(tasks) < 2:  # noqa: PLR2004  # nothing to divide
        for task in tasks:
            yield task, _one(task)
        return
    # Processes, not threads: readers' warnings are process-wide. Spawned, since threads of this process are not forked.
    with ProcessPoolExecutor(max_workers=min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(_one, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _one(task: _Task) -> Written | Note:
    """Import one recording; whatever is wrong with it, the others go on."""
    try:
        return write_recording(task.root, task.item, task.mapping, task.stem)
    except Unreadable as error:
        return error.note
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  # a broken file may do anything to a reader
        return Note("FILE-READ", f"reading ended with {type(error).__name__}")


def _finding(task: _Task, note: Note, *, grade: Grade | None = None) -> Finding:
    return found(note.code, task.item.file, note.cause, remedy=note.remedy, grade=grade or note.grade)


def _tally(counts: dict[str, int], names: tuple[str, ...]) -> None:
    for name in names:
        counts[name] = counts.get(name, 0) + 1


def _cell(column: str, text: str) -> str:
    """Return what a clinic's list says of a patient, if it is what the column holds: a list may hold anything."""
    return text if re.fullmatch(CELLS[column], text) else "n/a"


def _participants(out: Path, tasks: list[_Task], key: bytes) -> None:
    """Write a row for each patient of whom a recording is there."""
    rows: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        if not task.is_there:
            continue
        known = LAYOUTS[task.mapping.layout].person(task.root, task.item.patient)
        cells = tuple(_cell(column, known.get(column, "")) for column in task.mapping.columns)
        rows[f"sub-{label_of(task.item.patient, key)}"] = cells
    columns = tasks[0].mapping.columns if tasks else ()
    lines = ["\t".join(("participant_id", *columns))]
    lines += ["\t".join((label, *cells)) for label, cells in sorted(rows.items())]
    write_atomic(out / "participants.tsv", ("\n".join(lines) + "\n").encode(), mode=SHARED_FILE)

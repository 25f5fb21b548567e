"""How public collections and clinics lay out their files: whose a recording is, and where its events stand.

Each layout was read in real files:

- CHB-MIT: chb05/chb05_06.edf, with chb05/chb05-summary.txt (seconds) and SUBJECT-INFO;
- Siena: PN00/PN00-1.edf, with PN00/Seizures-list-PN00.txt (clock times, also over midnight) and subject_info.csv;
- TUH: train/aaaaapks/s006_2013/01_tcp_ar/aaaaapks_s006_t006.edf, with a .csv_bi beside it (seconds);
- SeizeIT: P_ID64/P_ID64_r1.edf, with P_ID64_r1_a1.tsv (comment lines before the table);
- Sleep-EDF: SC4001E0-PSG.edf (person 00, night 1), with SC4001EC-Hypnogram.edf.

``plain`` knows folders and file names only.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dura_client.data.recordings.source import Mark, Note

DAY = 86_400.0
SEIZURE = "seizure"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a recording is, as far as names tell."""

    patient: str
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Events that a list beside the recordings tells; None: the layout has no list for it."""

    marks: tuple[Mark, ...] | None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way of laying out files."""

    name: str
    fits: Callable[[Path], bool]
    owner: Callable[[Path, Path], Owner]
    """From the source's folder and the recording."""
    events: Callable[[Path, Path], Told]
    person: Callable[[Path, str], dict[str, str]] = field(default=lambda _root, _patient: {})
    """Age and sex of a patient, where a list tells them."""


def layout_of(root: Path) -> Layout:
    """Return the layout that a folder has."""
    return next((layout for layout in LAYOUTS.values() if layout.fits(root)), LAYOUTS["plain"])


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _first(root: Path, pattern: str) -> Path | None:
    return next(iter(sorted(root.rglob(pattern))), None)


def _chb_owner(_root: Path, path: Path) -> Owner:
    return Owner(path.stem.split("_")[0])


def _chb_events(_root: Path, path: Path) -> Told:
    summary = path.parent / f"{path.parent.name}-summary.txt"
    if not summary.exists():
        return Told(None)
    blocks = re.split(r"^File Name:\s*", _text(summary), flags=re.MULTILINE)[1:]
    block = next((block for block in blocks if block.split("\n", 1)[0].strip() == path.name), None)
    if block is None:
        return Told(None, (Note("EV-FILE", f"{summary.name} does not list the recording"),))
    starts, ends = (
        [float(text) for text in re.findall(rf"Seizure\s*\d*\s*{edge} Time:\s*(\d+(?:\.\d+)?)\s*seconds", block)]
        for edge in ("Start", "End")
    )
    declared = re.search(r"Number of Seizures in File:\s*(\d+)", block)
    notes = []
    if len(starts) != len(ends) or (declared and int(declared[1]) != len(starts)):
        notes.append(Note("EV-ONSET", f"{summary.name} does not give start and end of every seizure of the recording"))
    return Told(_spans(starts, ends), tuple(notes))


def _spans(starts: list[float], ends: list[float]) -> tuple[Mark, ...]:
    return tuple(Mark(start, max(end - start, 0.0), SEIZURE) for start, end in zip(starts, ends, strict=False))


def _chb_person(root: Path, patient: str) -> dict[str, str]:
    path = _first(root, "SUBJECT-INFO")
    if path is None:
        return {}
    for line in _text(path).splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) == 3 and cells[0] == patient:  # noqa: PLR2004  # case, gender, age
            return {"sex": cells[1], "age": cells[2]}
    return {}


def _siena_owner(_root: Path, path: Path) -> Owner:
    return Owner(path.parent.name if re.fullmatch(r"PN\d+", path.parent.name) else path.stem.split("-")[0])


def _siena_events(_root: Path, path: Path) -> Told:
    lists = sorted(path.parent.glob("Seizures-list-*.txt"))
    if not lists:
        return Told(None)
    marks, notes = [], []
    for block in re.split(r"^\s*Seizure n", _text(lists[0]), flags=re.MULTILINE)[1:]:
        name = re.search(r"File name:\s*(\S+)", block)
        if name is None or name[1].lower() != path.name.lower():
            continue
        times = {
            key: _clock(block, rf"{label} time:")
            for key, label in (
                ("begin", "Registration start"),
                ("stop", "Registration end"),
                ("start", "Seizure start"),
                ("end", "Seizure end"),
            )
        }
        if None in times.values():
            notes.append(Note("EV-ONSET", f"{lists[0].name} gives no complete times for a seizure of the recording"))
            continue
        begin, stop, start, end = (times[key] or 0.0 for key in ("begin", "stop", "start", "end"))
        onset = (start - begin) % DAY  # a recording may go over midnight
        duration = (end - start) % DAY
        if onset + duration > ((stop - begin) % DAY):
            notes.append(Note("EV-END", f"{lists[0].name} lets a seizure end after its recording ends"))
        marks.append(Mark(onset, duration, SEIZURE))
    return Told(tuple(marks), tuple(notes))


def _clock(text: str, label: str) -> float | None:
    match = re.search(rf"{label}\s*(\d{{1,2}})[.:](\d{{2}})[.:](\d{{2}})", text)
    return None if match is None else 3600.0 * int(match[1]) + 60.0 * int(match[2]) + int(match[3])


def _siena_person(root: Path, patient: str) -> dict[str, str]:
    path = _first(root, "subject_info.csv")
    if path is None:
        return {}
    for row in csv.DictReader(_text(path).splitlines(), skipinitialspace=True):
        if (row.get("patient_id") or "").strip() == patient:
            return {"age": (row.get("age_years") or "").strip(), "sex": (row.get("gender") or "").strip()[:1]}
    return {}


def _tuh_owner(_root: Path, path: Path) -> Owner:
    parts = path.stem.split("_")
    return Owner(parts[0], re.sub(r"\W", "", parts[1]) if len(parts) > 1 else None)


def _tuh_events(_root: Path, path: Path) -> Told:
    table = path.with_suffix(".csv_bi")
    if not table.exists():
        return Told(None)
    rows = [line for line in _text(table).splitlines() if line.strip() and not line.startswith("#")]
    marks, broken = [], 0
    for row in csv.DictReader(rows):
        try:
            start, stop = float(row["start_time"] or "x"), float(row["stop_time"] or "x")
            marks.append(Mark(start, max(stop - start, 0.0), (row["label"] or "").strip()))
        except (KeyError, ValueError):
            broken += 1
    notes = (Note("EV-ONSET", f"{broken} rows of {table.name} give no times"),) if broken else ()
    return Told(tuple(marks), notes)


def _seizeit_owner(_root: Path, path: Path) -> Owner:
    match = re.match(r"(P_ID\d+)_r\d+", path.stem)
    return Owner(match[1] if match else path.parent.name)


def _seizeit_events(_root: Path, path: Path) -> Told:
    tables = sorted(path.parent.glob(f"{path.stem}_a*.tsv"))
    if not tables:
        return Told(None)
    marks, notes = [], []
    for line in _text(tables[0]).splitlines():
        cells = [cell.strip() for cell in line.split("\t")]
        if line.startswith("#") or len(cells) < 3:  # noqa: PLR2004  # start, end, type
            continue
        try:
            start = float(cells[0])
        except ValueError:
            continue
        try:
            duration = max(float(cells[1]) - start, 0.0)
        except ValueError:
            duration = 0.0
            notes.append(Note("EV-NEG", f"{tables[0].name} gives no end for a seizure; its duration is read as 0"))
        marks.append(Mark(start, duration, SEIZURE))
    if len(tables) > 1:
        notes.append(Note("SIDE-TWO", f"there are {len(tables)} lists of seizures; {tables[0].name} was used"))
    return Told(tuple(marks), tuple(notes))


def _seizeit_person(root: Path, patient: str) -> dict[str, str]:
    path = _first(root, f"{patient}_r*_a*.tsv")
    if path is None:
        return {}
    found: dict[str, str] = defaultdict(str)
    for key, value in re.findall(r"^#\s*(Gender|Age):\s*(\S+)", _text(path), flags=re.MULTILINE):
        found["sex" if key == "Gender" else "age"] = value[:1] if key == "Gender" else value
    return dict(found)


def _sleepedf_owner(_root: Path, path: Path) -> Owner:
    match = re.match(r"(S[CT]\d{3})(\d)", path.stem)
    return Owner(match[1], match[2]) if match else Owner(path.stem.split("-")[0])


def _plain_owner(root: Path, path: Path) -> Owner:
    """Return the folder below the source as the patient, or the beginning of the file's name."""
    below = path.relative_to(root).parts
    if len(below) > 1:
        session = re.sub(r"[^A-Za-z0-9]", "", below[1]) if len(below) > 2 else None  # noqa: PLR2004  # two folders
        return Owner(below[0], session or None)
    return Owner(re.split(r"[_\s.-]", path.stem)[0])


LAYOUTS: dict[str, Layout] = {
    "chbmit": Layout(
        "chbmit", lambda root: _first(root, "chb*-summary.txt") is not None, _chb_owner, _chb_events, _chb_person
    ),
    "siena": Layout(
        "siena",
        lambda root: _first(root, "Seizures-list-*.txt") is not None,
        _siena_owner,
        _siena_events,
        _siena_person,
    ),
    "tuh": Layout("tuh", lambda root: _first(root, "*.csv_bi") is not None, _tuh_owner, _tuh_events),
    "seizeit": Layout(
        "seizeit",
        lambda root: _first(root, "P_ID*_r*_a*.tsv") is not None,
        _seizeit_owner,
        _seizeit_events,
        _seizeit_person,
    ),
    "sleepedf": Layout(
        "sleepedf",
        lambda root: _first(root, "S[CT][0-9][0-9][0-9][0-9]*-PSG.edf") is not None,
        _sleepedf_owner,
        lambda _root, _path: Told(None),
    ),
    "plain": Layout("plain", lambda _root: True, _plain_owner, lambda _root, _path: Told(None)),
}
"""By name; the first that fits a folder is taken."""

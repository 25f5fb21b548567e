"""The tables of patients, visits and recordings against the folders, in both directions; no silent join."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.recordings.sidecars import broken, read_json
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import CODES, MISSING, Table, number_of, read_table

BOUNDS = {
    "age": (0.0, 120.0),
    "weight": (0.3, 400.0),
    "height": (0.2, 250.0),
    "mmse": (0.0, 30.0),
    "moca": (0.0, 30.0),
    "education": (0.0, 40.0),
    "iq": (30.0, 200.0),
    "fiq": (30.0, 200.0),
}
"""What a column of this name can hold (years, kg, m or cm, points)."""
WORDS = {
    "sex": {"m", "f", "o", "male", "female", "other"},
    "gender": {"m", "f", "o", "male", "female", "other"},
    "hand": {"r", "l", "a", "right", "left", "ambidextrous"},
    "handedness": {"r", "l", "a", "right", "left", "ambidextrous"},
}
IDENTIFYING = re.compile(
    r"(first|last|sur|family|given|full)?_?name|birth(day|date|_date)?|dob|ssn|mrn|address|e?mail|phone|patient_number|hospital_id",
    re.IGNORECASE,
)
LABEL = "sub-"


def people_findings(folder: BidsFolder) -> tuple[Finding, ...]:
    """Return what is wrong with participants.tsv, sessions.tsv, scans.tsv and their descriptions."""
    findings: list[Finding] = []
    labels = sorted({path.name for path in _subject_folders(folder)})
    _descriptions(folder, findings)
    _folders(folder, labels, findings)
    table = _table(folder, folder.root / "participants.tsv", findings)
    if table is not None:
        _participants(table, labels, findings)
    for path in folder.files:
        if path.name.endswith("_sessions.tsv"):
            _sessions(folder, path, findings)
        elif path.name.endswith("_scans.tsv"):
            _scans(folder, path, findings)
    return tuple(findings)


def _subject_folders(folder: BidsFolder) -> list[Path]:
    try:
        return [path for path in folder.root.iterdir() if path.name.lower().startswith(LABEL) and path.is_dir()]
    except OSError:
        return []


def _descriptions(folder: BidsFolder, findings: list[Finding]) -> None:
    for name in ("dataset_description.json", "participants.json"):
        path = folder.root / name
        if path.exists() or path.is_symlink():
            try:
                read_json(path)
            except Unreadable as error:
                findings.append(broken(name, error))


def _folders(folder: BidsFolder, labels: Sequence[str], findings: list[Finding]) -> None:
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike[_plain(label)].append(label)
    findings += [
        found(
            "PART-ID",
            group[0],
            f"{listed(group[1:])} may be the same patient, written otherwise",
            remedy="If they are one person, put all recordings under one label.",
        )
        for group in alike.values()
        if len(group) > 1
    ]
    recorded = {recording.path.relative_to(folder.root).parts[0] for recording in folder.recordings}
    empty = [label for label in labels if label not in recorded and label.startswith(LABEL)]
    if empty:
        findings.append(
            found(
                "PART-ROW",
                "the data set",
                f"folders without a usable name of a recording of the task: {listed(empty)}",
                remedy="Add the recordings, or leave the folders as they are: these patients are in no study.",
            )
        )


def _plain(label: str) -> str:
    """Return a label without what is lost most often: capitals and leading zeros."""
    text = label.lower().removeprefix(LABEL)
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), re.sub(r"[^a-z0-9]", "", text))


def _table(folder: BidsFolder, path: Path, findings: list[Finding]) -> Table | None:
    place = folder.place(path)
    if not path.exists() and not path.is_symlink():
        if path.name == "participants.tsv":
            findings.append(found("PART-ROW", place, "there is no participants.tsv"))
        return None
    try:
        table = read_table(path)
    except Unreadable as error:
        findings.append(broken(place, error))
        return None
    for problem in table.problems:
        harmless = problem.kind in {"blank", "trailing", "header"}
        code = {"encoding": "EV-ENC", "empty": "SIDE-NONE"}.get(problem.kind, "SIDE-TABLE")
        findings.append(found(code, place, problem.text, grade=Grade.KNOW if harmless else None))
    return table if table.columns else None


def _participants(table: Table, labels: Sequence[str], findings: list[Finding]) -> None:
    place = "participants.tsv"
    if "participant_id" not in table:
        near = [
            name
            for name in table.columns
            if name.lower().replace(" ", "_") in {"participant_id", "participant", "subject", "id", "sub"}
        ]
        meant = f"; {near[0]} may be meant" if near else ""
        findings.append(found("SIDE-TABLE", place, f"it has no column participant_id{meant}"))
        return
    ids = table.column("participant_id")
    rows: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(ids):
        rows[one].append(index)
    for one, places in rows.items():
        if len(places) > 1:
            differ = len({table.rows[index] for index in places}) > 1
            what = "with different values" if differ else "with the same values"
            findings.append(
                found(
                    "PART-DUP",
                    place,
                    f"{one} stands there {len(places)} times {what}",
                    grade=None if differ else Grade.KNOW,
                )
            )
    _match(list(rows), labels, findings)
    _identifying(table, findings)
    for name in table.columns:
        if name != "participant_id":
            _values(name, table.column(name), findings)


def _match(ids: Sequence[str], labels: Sequence[str], findings: list[Finding]) -> None:
    place = "participants.tsv"
    without_row = [label for label in labels if label not in ids]
    without_folder = [one for one in ids if one not in labels]
    meant = {}
    for one in without_folder:
        near = [label for label in without_row if _plain(label) == _plain(one)]
        if len(near) == 1:
            meant[one] = near[0]
    if meant:
        pairs = listed(f"{one or '(empty)'} for {label}" for one, label in meant.items())
        findings.append(found("PART-ID", place, f"{len(meant)} labels match a folder only after repair: {pairs}"))
    lost = [label for label in without_row if label not in meant.values()]
    extra = [one for one in without_folder if one not in meant]
    if lost:
        findings.append(found("PART-ROW", place, f"folders without a row: {listed(lost)}"))
    if extra:
        findings.append(found("PART-ROW", place, f"rows without a folder: {listed(one or '(empty)' for one in extra)}"))


def _identifying(table: Table, findings: list[Finding]) -> None:
    columns = [name for name in table.columns if IDENTIFYING.fullmatch(name.strip())]
    if columns:
        findings.append(
            found(
                "ID-HEAD",
                "participants.tsv",
                f"these columns can identify a person: {listed(columns)}",
                remedy="Nothing of it leaves the site. Remove the columns if others can read the folder.",
            )
        )


def _values(name: str, cells: Sequence[str], findings: list[Finding]) -> None:
    """Judge the cells of one column: codes for missing values, numbers out of range, texts among numbers."""
    place, plain = "participants.tsv", name.strip().lower()
    filled = [cell for cell in cells if cell not in MISSING]
    codes = [cell for cell in filled if cell.lower() in CODES]
    if codes:
        shown = listed(sorted({cell or "(empty)" for cell in codes}))
        findings.append(
            found(
                "PART-CODE",
                place,
                f"column {name}: {len(codes)} of {len(cells)} values look like a code for missing ({shown})",
            )
        )
    rest = [cell for cell in filled if cell.lower() not in CODES]
    if plain in WORDS:
        unknown = sorted({cell for cell in rest if cell.lower() not in WORDS[plain]})
        if unknown:
            findings.append(
                found(
                    "PART-BOUND",
                    place,
                    f"column {name}: {len(unknown)} values that BIDS does not know ({listed(unknown)})",
                    grade=Grade.KNOW,
                )
            )
        return
    numbers = [number_of(cell) for cell in rest]
    texts = [cell for cell, number in zip(rest, numbers, strict=True) if number is None]
    bounds = BOUNDS.get(plain)
    if texts and (bounds or len(texts) * 2 < len(rest)):
        why = (
            "a decimal comma"
            if all("," in cell for cell in texts)
            else "a limit such as 89+"
            if all(cell.endswith("+") for cell in texts)
            else "text"
        )
        findings.append(
            found("PART-BOUND", place, f"column {name}: {len(texts)} of {len(rest)} values are not numbers ({why})")
        )
    if bounds:
        outside = sum(number is not None and not bounds[0] <= number <= bounds[1] for number in numbers)
        if outside:
            findings.append(
                found(
                    "PART-BOUND", place, f"column {name}: {outside} values lie outside {bounds[0]:g} to {bounds[1]:g}"
                )
            )


def _sessions(folder: BidsFolder, path: Path, findings: list[Finding]) -> None:
    table, place = _table(folder, path, findings), folder.place(path)
    if table is None:
        return
    if "session_id" not in table:
        findings.append(found("SIDE-TABLE", place, "it has no column session_id"))
        return
    ids = table.column("session_id")
    folders = sorted(one.name for one in path.parent.iterdir() if one.is_dir() and one.name.startswith("ses-"))
    twice = sorted({one for one in ids if ids.count(one) > 1})
    for names, text in (
        (twice, "visits listed more than once"),
        ([one for one in folders if one not in ids], "visits with a folder and no row"),
        ([one for one in dict.fromkeys(ids) if one not in folders], "visits with a row and no folder"),
    ):
        if names:
            findings.append(found("SES-ORDER", place, f"{text}: {listed(names)}"))
    if "acq_time" in table:
        dated = [(one, when) for one, when in zip(ids, table.column("acq_time"), strict=True) if when not in MISSING]
        bad = [one for one, when in dated if not _is_date(when)]
        if bad:
            findings.append(found("DATE-BAD", place, f"acq_time is no date: {listed(bad)}"))
        times = [when for _, when in sorted((one, when) for one, when in dated if _is_date(when))]
        if times != sorted(times):
            findings.append(found("SES-ORDER", place, "the dates do not follow the order of the labels"))


def _scans(folder: BidsFolder, path: Path, findings: list[Finding]) -> None:
    table, place = _table(folder, path, findings), folder.place(path)
    if table is None:
        return
    if "filename" not in table:
        findings.append(found("SIDE-TABLE", place, "it has no column filename"))
        return
    names = table.column("filename")
    missing = [name for name in names if not (path.parent / name).exists()]
    if missing:
        findings.append(found("SIDE-SCANS", place, f"it lists files that are not there: {listed(missing)}"))
    here = [str(one.path.relative_to(path.parent)) for one in folder.recordings if one.path.is_relative_to(path.parent)]
    unlisted = [name for name in here if name not in names]
    if unlisted:
        findings.append(found("SIDE-SCANS", place, f"it lists {len(names)} files and lacks {listed(unlisted)}"))
    if "acq_time" in table:
        bad = [
            name
            for name, when in zip(names, table.column("acq_time"), strict=True)
            if when not in MISSING and not _is_date(when)
        ]
        if bad:
            findings.append(found("DATE-BAD", place, f"acq_time of {listed(bad)} is no date"))


def _is_date(text: str) -> bool:
    match = re.fullmatch(r"(\d{4})-(\d{2})-(\d{2})([T ](\d{2}):(\d{2})(:(\d{2})(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?", text)
    if match is None:
        return False
    _, month, day = (int(match[group]) for group in (1, 2, 3))
    hour, minute = int(match[5] or 0), int(match[6] or 0)
    return 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60  # noqa: PLR2004  # a calendar and a clock

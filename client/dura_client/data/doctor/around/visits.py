"""The tables of visits and of recordings against the folders: labels, order, dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dura_client.data.doctor.around.cells import cell_findings, identifying_findings
from dura_client.data.doctor.around.opened import opened_table
from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.recordings.tables import MISSING, Table

DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


def sessions_findings(folder: BidsFolder, path: Path) -> list[Finding]:
    """Return what is wrong with a patient's sessions.tsv."""
    findings: list[Finding] = []
    table, place = opened_table(folder, path, findings), folder.place(path)
    if table is None:
        return findings
    if "session_id" not in table:
        return [*findings, found("SIDE-TABLE", place, "it has no column session_id")]
    ids = table.column("session_id")
    folders = sorted(one.name for one in path.parent.iterdir() if one.is_dir() and one.name.startswith("ses-"))
    named = list(dict.fromkeys(ids))
    for names, text in (
        ([one or "(empty)" for one in named if ids.count(one) > 1], "visits listed more than once"),
        ([one for one in folders if one not in ids], "visits with a folder and no row"),
        ([one or "(empty)" for one in named if folders and one not in folders], "visits with a row and no folder"),
        (
            [one or "(empty)" for one in named if not re.fullmatch(r"ses-[A-Za-z0-9]+", one)],
            "labels that are not those of a visit (ses-LABEL)",
        ),
    ):
        if names:
            findings.append(found("SES-ORDER", place, f"{text}: {listed(names)}"))
    findings += _numbered(named, place)
    if "acq_time" in table:
        findings += _dated(table, ids, place)
    return [*findings, *cell_findings(table, place)]


def _numbered(labels: Sequence[str], place: str) -> list[Finding]:
    """Say where the labels of visits tell no order, or leave one out."""
    numbers = [re.fullmatch(r"ses-[A-Za-z]*(\d+)", one) for one in labels]
    known = sorted(int(one[1]) for one in numbers if one)
    if len(labels) > 1 and not any(re.search(r"\d", one) for one in labels):
        cause = f"the labels hold no number ({listed(labels)}): visits are taken in the order of the alphabet"
        return [found("SES-ORDER", place, cause, grade=Grade.KNOW)]
    absent = (
        [str(one) for one in range(1, known[-1]) if one not in known] if known and known[-1] <= 2 * len(known) else []
    )
    if not absent:
        return []
    return [
        found(
            "SES-ORDER", place, f"a visit seems to be missing: none has the number {listed(absent)}", grade=Grade.KNOW
        )
    ]


def _dated(table: Table, ids: Sequence[str], place: str) -> list[Finding]:
    cells = list(zip(ids, table.column("acq_time"), strict=True))
    findings = bad_dates(cells, place, "acq_time")
    dated = sorted((one, when) for one, when in cells if _when(when) is not None)
    times = [moment for _, when in dated if (moment := _when(when)) is not None]
    undated = [one for one, when in cells if when in MISSING]
    if undated and times:
        findings.append(found("DATE-BAD", place, f"visits without a date beside others with one: {listed(undated)}"))
    if times != sorted(times):
        findings.append(found("SES-ORDER", place, "the dates do not follow the order of the labels"))
    elif len(set(times)) < len(times):
        findings.append(found("SES-ORDER", place, "several visits have the same date", grade=Grade.KNOW))
    return findings


def scans_findings(folder: BidsFolder, path: Path) -> list[Finding]:
    """Return what is wrong with a patient's scans.tsv."""
    findings: list[Finding] = []
    table, place = opened_table(folder, path, findings), folder.place(path)
    if table is None:
        return findings
    if "filename" not in table:
        return [*findings, found("SIDE-TABLE", place, "it has no column filename")]
    findings += identifying_findings(table, place)
    names = table.column("filename")
    here = [str(one.path.relative_to(path.parent)) for one in folder.recordings if one.path.is_relative_to(path.parent)]
    missing = [name for name in names if Path(name).is_absolute() or not (path.parent / name).exists()]
    unlisted = [name for name in here if name not in names]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    for some, text in (
        (missing, "it lists files that are not there"),
        (unlisted, f"it lists {len(names)} files and lacks"),
        (twice, "it lists files more than once"),
    ):
        if some:
            sign = "" if some is unlisted else ":"
            findings.append(found("SIDE-SCANS", place, f"{text}{sign} {listed(some)}"))
    if "acq_time" in table:
        findings += bad_dates(list(zip(names, table.column("acq_time"), strict=True)), place, "acq_time")
    return findings


def bad_dates(cells: Sequence[tuple[str, str]], place: str, column: str) -> list[Finding]:
    """Name the rows whose date is none, or lies in the future."""
    bad = [one for one, when in cells if when not in MISSING and _when(when) is None]
    now = datetime.now(tz=UTC)
    later = [one for one, when in cells if (moment := _when(when)) is not None and moment > now]
    findings = []
    if bad:
        findings.append(
            found("DATE-BAD", place, f"{column} is not a date of the form 2024-05-31T10:00:00: {listed(bad)}")
        )
    if later:
        findings.append(found("DATE-BAD", place, f"{column} lies in the future: {listed(later)}"))
    return findings


def _when(text: str) -> datetime | None:
    """Return a date, taken as UTC where it names no zone; None if it is none."""
    if not DATE.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

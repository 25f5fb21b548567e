"""The tables of patients against the folders, in both directions; no silent join."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from dura_client.data.doctor.around.cells import cell_findings
from dura_client.data.doctor.around.opened import opened_table
from dura_client.data.doctor.around.strays import stray_findings
from dura_client.data.doctor.around.visits import scans_findings, sessions_findings
from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.recordings.sidecars import broken, read_json
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import Table

LABEL = "sub-"
PEOPLE = "participants.tsv"
DESCRIPTIONS = ("_sessions.json", "_scans.json", "_participants.json", "_phenotype.json")


def people_findings(folder: BidsFolder, *, recorded: bool = True, tables: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Return what is wrong with the tables of patients, visits and recordings and with their descriptions.

    Args:
        folder: of the data set.
        recorded: whether every patient must have a folder with recordings of the task.
        tables: that the registration names beside participants.tsv, below the folder.
    """
    findings: list[Finding] = stray_findings(folder)
    labels = sorted({path.name for path in _subject_folders(folder)})
    _descriptions(folder, findings)
    _folders(folder, labels, findings, recorded=recorded)
    table = opened_table(folder, folder.root / PEOPLE, findings)
    if table is not None:
        _participants(table, labels, findings, recorded=recorded)
    for name in tables:
        more = opened_table(folder, folder.root / name, findings)
        if more is not None:
            findings += cell_findings(more, name)
    for path in folder.files:
        if path.name.endswith("_sessions.tsv"):
            findings += sessions_findings(folder, path)
        elif path.name.endswith("_scans.tsv"):
            findings += scans_findings(folder, path)
    return tuple(findings)


def _subject_folders(folder: BidsFolder) -> list[Path]:
    try:
        return [path for path in folder.root.iterdir() if path.name.lower().startswith(LABEL) and path.is_dir()]
    except OSError:
        return []


def _descriptions(folder: BidsFolder, findings: list[Finding]) -> None:
    described = folder.root / "dataset_description.json"
    if not described.exists() and not described.is_symlink():
        findings.append(found("SIDE-NONE", described.name, "it is not there", grade=Grade.KNOW))
    beside = [path for path in folder.files if path.name.endswith(DESCRIPTIONS)]
    for path in dict.fromkeys([described, folder.root / "participants.json", *beside]):
        if path.exists() or path.is_symlink():
            try:
                read_json(path)
            except Unreadable as error:
                findings.append(broken(folder.place(path), error))


def _folders(folder: BidsFolder, labels: Sequence[str], findings: list[Finding], *, recorded: bool) -> None:
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
    if not recorded:
        return
    full = {recording.path.relative_to(folder.root).parts[0] for recording in folder.recordings}
    empty = [label for label in labels if label not in full and label.startswith(LABEL)]
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


def _participants(table: Table, labels: Sequence[str], findings: list[Finding], *, recorded: bool) -> None:
    place = PEOPLE
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
    if recorded or labels:
        _match(list(rows), labels, findings)
    else:
        _prefixed(list(rows), findings)
    findings += cell_findings(table, place)


def _match(ids: Sequence[str], labels: Sequence[str], findings: list[Finding]) -> None:
    place = PEOPLE
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


def _prefixed(ids: Sequence[str], findings: list[Finding]) -> None:
    """Say which rows of a table without folders do not begin with ``sub-``, and which may be one patient twice."""
    bare = [one for one in ids if not one.startswith(LABEL)]
    if bare:
        names = listed(one or "(empty)" for one in bare)
        cause = f"{len(bare)} of {len(ids)} labels do not begin with {LABEL}: {names}"
        findings.append(found("PART-ID", PEOPLE, cause, grade=Grade.KNOW))
    alike: dict[str, list[str]] = defaultdict(list)
    for one in ids:
        alike[_plain(one)].append(one)
    findings += [
        found("PART-ID", PEOPLE, f"{listed(group)} may be the same patient, written otherwise")
        for group in alike.values()
        if len(group) > 1
    ]

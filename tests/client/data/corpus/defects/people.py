"""Defects of the tables of patients, visits and recordings."""

from __future__ import annotations

from collections.abc import Callable

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import Tree

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
Rows = list[list[str]]
TABLE = {"place": "participants.tsv"}


def people(change: Callable[[Rows], Rows]) -> Callable[[Tree], None]:
    """Return a defect of participants.tsv."""
    return lambda tree: tree.table(tree.root / "participants.tsv", change)


def cell(row: int, number: int, value: str) -> Callable[[Tree], None]:
    """Return a defect of one cell of participants.tsv."""

    def change(found: Rows) -> Rows:
        found[row][number] = value
        return found

    return people(change)


def text(change: Callable[[str], str]) -> Callable[[Tree], None]:
    """Return a defect of participants.tsv as text."""

    def plant(tree: Tree) -> None:
        path = tree.root / "participants.tsv"
        path.write_text(change(path.read_text()))

    return plant


quick("no participants.tsv", "PART-ROW", lambda tree: (tree.root / "participants.tsv").unlink(), **TABLE)
quick("empty participants.tsv", "SIDE-NONE", text(lambda _: ""), **TABLE)
quick("participants.tsv lacks a patient", "PART-ROW", people(lambda found: found[:-1]), **TABLE)
quick(
    "participants.tsv has a patient without a folder",
    "PART-ROW",
    people(lambda found: [*found, ["sub-99", "50", "M"]]),
    **TABLE,
)
quick(
    "a patient listed twice with different values",
    "PART-DUP",
    people(lambda found: [*found, ["sub-02", "16", "M"]]),
    **TABLE,
)
quick("a patient listed twice with the same values", "PART-DUP", people(lambda found: [*found, found[2]]), **TABLE)
quick("labels without sub-", "PART-ID", text(lambda old: old.replace("sub-0", "0")), **TABLE)
quick("labels that lost their zeros", "PART-ID", text(lambda old: old.replace("sub-0", "sub-")), **TABLE)
quick("labels in capitals", "PART-ID", text(lambda old: old.replace("sub-", "SUB-")), **TABLE)
quick("a code for a missing age (-9999)", "PART-CODE", cell(2, 1, "-9999"), **TABLE)
quick("an empty cell for a missing age", "PART-CODE", cell(2, 1, ""), **TABLE)
quick("NaN for a missing age", "PART-CODE", cell(2, 1, "NaN"), **TABLE)
quick("a dot for a missing sex", "PART-CODE", cell(2, 2, "."), **TABLE)
quick("an age in words", "PART-BOUND", cell(2, 1, "sixty"), **TABLE)
quick("an age of 430 years", "PART-BOUND", cell(2, 1, "430"), **TABLE)
quick("a negative age", "PART-BOUND", cell(2, 1, "-4"), **TABLE)
quick("an age with a limit (89+)", "PART-BOUND", cell(2, 1, "89+"), **TABLE)
quick("an age with a decimal comma", "PART-BOUND", cell(2, 1, "61,5"), **TABLE)
quick("a sex that BIDS does not know", "PART-BOUND", cell(2, 2, "2"), **TABLE)
quick("no column participant_id", "SIDE-TABLE", text(lambda old: old.replace("participant_id", "subject")), **TABLE)
quick(
    "a row of participants.tsv with a cell too few",
    "SIDE-TABLE",
    people(lambda found: [*found[:2], found[2][:-1], *found[3:]]),
    **TABLE,
)
quick("participants.tsv separated by commas", "SIDE-TABLE", text(lambda old: old.replace("\t", ",")), **TABLE)
quick("a column of participants.tsv twice", "SIDE-TABLE", text(lambda old: old.replace("sex", "age")), **TABLE)
quick("blanks behind a column of participants.tsv", "SIDE-TABLE", text(lambda old: old.replace("age", "age ")), **TABLE)
quick(
    "names of patients in participants.tsv",
    "ID-HEAD",
    people(lambda found: [[*row, "last_name" if number == 0 else "Miller"] for number, row in enumerate(found)]),
    **TABLE,
)
quick(
    "birth dates in participants.tsv",
    "ID-HEAD",
    people(lambda found: [[*row, "birth_date" if number == 0 else "1951-05-02"] for number, row in enumerate(found)]),
    **TABLE,
)


@add("two folders that may be one patient", "PART-ID", place="sub-")
def two_folders(tree: Tree) -> None:
    """Add sub-2 beside sub-02."""
    (tree.root / "sub-2" / "eeg").mkdir(parents=True)


@add("a patient's folder without a recording", "PART-ROW", place="sub-09")
def empty_folder(tree: Tree) -> None:
    """Add an empty folder."""
    (tree.root / "sub-09" / "eeg").mkdir(parents=True)


SESSIONS = {"place": "sub-03_sessions.tsv"}


def sessions(change: Callable[[Rows], Rows]) -> Callable[[Tree], None]:
    """Return a defect of a patient's visits."""
    return lambda tree: tree.table(tree.root / "sub-03" / "sub-03_sessions.tsv", change)


def swapped(found: Rows) -> Rows:
    """Exchange the dates of the two visits."""
    return [found[0], [found[1][0], found[2][1]], [found[2][0], found[1][1]]]


quick("dates of visits that do not follow their labels", "SES-ORDER", sessions(swapped), **SESSIONS)
quick("a visit with a folder and no row", "SES-ORDER", sessions(lambda found: found[:-1]), **SESSIONS)
quick(
    "a visit with a row and no folder",
    "SES-ORDER",
    sessions(lambda found: [*found, ["ses-9", "1926-01-01T10:00:00"]]),
    **SESSIONS,
)
quick("a visit listed twice", "SES-ORDER", sessions(lambda found: [*found, found[2]]), **SESSIONS)
quick(
    "a visit whose date is none", "DATE-BAD", sessions(lambda found: [*found[:2], ["ses-2", "yesterday"]]), **SESSIONS
)
quick(
    "sessions.tsv without session_id",
    "SIDE-TABLE",
    sessions(lambda found: [["visit", "acq_time"], *found[1:]]),
    **SESSIONS,
)
SCANS = {"place": "sub-02_scans.tsv"}


def scans(change: Callable[[Rows], Rows]) -> Callable[[Tree], None]:
    """Return a defect of a patient's list of recordings."""
    return lambda tree: tree.table(tree.root / "sub-02" / "sub-02_scans.tsv", change)


quick(
    "scans.tsv lists a file that is not there",
    "SIDE-SCANS",
    scans(lambda found: [*found, ["eeg/sub-02_task-mi_run-7_eeg.edf", "n/a"]]),
    **SCANS,
)
quick("scans.tsv lacks a recording", "SIDE-SCANS", scans(lambda found: found[:1]), **SCANS)
quick(
    "a date of scans.tsv that is none", "DATE-BAD", scans(lambda found: [found[0], [found[1][0], "last week"]]), **SCANS
)
quick(
    "a date of scans.tsv in another form",
    "DATE-BAD",
    scans(lambda found: [found[0], [found[1][0], "01/03/1925"]]),
    **SCANS,
)
quick(
    "column of names in scans.tsv",
    "ID-HEAD",
    scans(lambda found: [[*found[0], "subject_name"], *([*row, "A. Nobody"] for row in found[1:])]),
    **SCANS,
)

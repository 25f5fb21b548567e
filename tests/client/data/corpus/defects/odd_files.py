"""A second look at files, folders and tables of people: what a stranger would plant there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.defects.files import only_recording, renamed
from tests.client.data.corpus.defects.people import SCANS, SESSIONS, TABLE, cell, people, scans, sessions
from tests.client.data.corpus.tree import STEMS, Tree

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick


def file(name: str, change: Callable[[bytes], bytes]) -> Callable[[Tree], None]:
    """Return a defect of the bytes of a file at the top."""
    return lambda tree: ((tree.root / name).write_bytes(change((tree.root / name).read_bytes())), None)[1]


def linked(name: str, target: str) -> Callable[[Tree], None]:
    """Return a defect that adds a link at the top."""
    return lambda tree: (tree.root / name).symlink_to(target)


@add("recording is a folder", "FILE-KIND")
def folder(tree: Tree) -> None:
    """Put a folder into its place."""
    tree.recording.unlink()
    (tree.recording / "x").mkdir(parents=True)


@add("recording is a link to itself", "FILE-LINK")
def itself(tree: Tree) -> None:
    """Link in a circle."""
    tree.recording.unlink()
    tree.recording.symlink_to(tree.recording.name)


@add("a link that leads back to its own folder", "FILE-LINK")
def circle(tree: Tree) -> None:
    """Link from the inside to the outside."""
    (tree.root / "sub-02" / "eeg" / "again").symlink_to(tree.root / "sub-02")


quick("a patient's folder is a link to nowhere", "FILE-LINK", linked("sub-04", "/nowhere"), place="sub-04")
quick("a patient's folder is a link to another patient's", "FILE-LINK", linked("sub-04", "sub-02"), place="sub-04")
quick(
    "copy put aside (.bak)", "FILE-KNOWN", lambda tree: (shutil.copy(tree.recording, f"{tree.recording}.bak"), None)[1]
)
quick("download that was broken off (.part)", "FILE-KNOWN", only_recording(lambda name: f"{name}.part"))
quick("recording without an ending", "FILE-KNOWN", only_recording(lambda name: name.removesuffix(".edf")))
quick("recording packed as .7z", "FILE-GZ", only_recording(lambda name: f"{name}.7z"))
quick("recording packed as .tar.gz", "FILE-GZ", only_recording(lambda name: f"{name}.tar.gz"))
quick(
    "run that is not a number",
    "FILE-KNOWN",
    renamed(lambda path: path.with_name(path.name.replace("_task-mi", "_task-mi_run-a"))),
)
quick(
    "label with an umlaut",
    "FILE-KNOWN",
    only_recording(lambda name: name.replace("sub-02", "sub-müller")),
    place="sub-müller",
)
quick("a data set inside the data set", "FILE-KNOWN", renamed(lambda path: Path("bids") / path), place="bids")
quick(
    "session's folder and none in the name",
    "FILE-KNOWN",
    renamed(lambda path: path.parents[1] / "ses-1" / "eeg" / path.name),
)


@add("one run in two spellings (run-1 and run-01)", "FILE-TWO", place="sub-01")
def spellings(tree: Tree) -> None:
    """Rename run 2."""
    for path in sorted((tree.root / STEMS[1]).parent.glob("*run-2_*")):
        path.rename(path.with_name(path.name.replace("run-2", "run-01")))


@add("a run missing among others", "SES-ORDER", place="sub-01")
def missing_run(tree: Tree) -> None:
    """Rename run 2 to run 3."""
    for path in sorted((tree.root / STEMS[1]).parent.glob("*run-2_*")):
        path.rename(path.with_name(path.name.replace("run-2", "run-3")))


@add("table of visits in another patient's folder", "FILE-KNOWN", place="sub-03_sessions.tsv")
def misplaced(tree: Tree) -> None:
    """Move it."""
    (tree.root / "sub-03" / "sub-03_sessions.tsv").rename(tree.root / "sub-02" / "sub-03_sessions.tsv")


quick(
    "no dataset_description.json",
    "SIDE-NONE",
    lambda tree: (tree.root / "dataset_description.json").unlink(),
    place="dataset_description.json",
)
PEOPLE = "participants.tsv"
quick(
    "participants.tsv with line ends of Windows",
    "SIDE-TABLE",
    file(PEOPLE, lambda old: old.replace(b"\n", b"\r\n")),
    **TABLE,
)
quick("participants.tsv with a byte-order mark", "EV-ENC", file(PEOPLE, lambda old: b"\xef\xbb\xbf" + old), **TABLE)
quick("participants.tsv in UTF-16", "EV-ENC", file(PEOPLE, lambda old: old.decode().encode("utf-16")), **TABLE)
quick("participants.tsv with a header only", "SIDE-NONE", people(lambda found: found[:1]), **TABLE)
quick("participants.tsv without its header", "SIDE-TABLE", people(lambda found: found[1:]), **TABLE)
quick(
    "labels that a spreadsheet made numbers",
    "PART-ROW",
    file(PEOPLE, lambda old: old.replace(b"sub-02", b"2.0")),
    **TABLE,
)
quick(
    "labels with blanks behind them",
    "SIDE-TABLE",
    file(PEOPLE, lambda old: old.replace(b"sub-02", b"sub-02 ")),
    **TABLE,
)
quick("a year of birth for an age", "PART-BOUND", cell(2, 1, "1961"), **TABLE)
quick("a date of birth for an age", "PART-BOUND", cell(2, 1, "1961-05-02"), **TABLE)
quick("an age in months", "PART-BOUND", cell(2, 1, "732"), **TABLE)
quick("an age with its unit (61y)", "PART-BOUND", cell(2, 1, "61y"), **TABLE)
quick("a range of ages (61-65)", "PART-BOUND", cell(2, 1, "61-65"), **TABLE)
quick("a code for a missing age with a point (-9999.0)", "PART-CODE", cell(2, 1, "-9999.0"), **TABLE)
quick("N/A for a missing age", "PART-CODE", cell(2, 1, "N/A"), **TABLE)
quick("a sex in words among letters", "PART-BOUND", cell(2, 2, "male"), **TABLE)


def added(name: str, *cells: str) -> Callable[[Tree], None]:
    """Return a defect that adds a column to participants.tsv."""
    return people(lambda found: [[*row, one] for row, one in zip(found, (name, *cells), strict=True)])


quick("groups that differ in capitals", "PART-BOUND", added("group", "ad", "AD", "hc"), **TABLE)
quick("a column without a name", "SIDE-TABLE", added("", "x", "y", "z"), **TABLE)
quick("a column of initials", "ID-HEAD", added("initials", "MM", "AB", "CD"), **TABLE)
quick("a column DateOfBirth", "ID-HEAD", added("DateOfBirth", "1951", "1952", "1953"), **TABLE)
quick("a column of postal codes", "ID-HEAD", added("zip_code", "12345", "12346", "12347"), **TABLE)
quick(
    "a visit without a date beside one with", "DATE-BAD", sessions(lambda old: [*old[:2], ["ses-2", "n/a"]]), **SESSIONS
)
quick("two visits at one moment", "SES-ORDER", sessions(lambda old: [*old[:2], ["ses-2", old[1][1]]]), **SESSIONS)
quick(
    "a visit on the 30th of February",
    "DATE-BAD",
    sessions(lambda old: [*old[:2], ["ses-2", "1925-02-30T10:00:00"]]),
    **SESSIONS,
)
quick(
    "a visit in the future", "DATE-BAD", sessions(lambda old: [*old[:2], ["ses-2", "2999-02-03T10:00:00"]]), **SESSIONS
)
quick(
    "labels of visits without ses-",
    "SES-ORDER",
    sessions(lambda old: [old[0], ["1", old[1][1]], ["2", old[2][1]]]),
    **SESSIONS,
)
quick("a recording listed twice in scans.tsv", "SIDE-SCANS", scans(lambda old: [*old, old[1]]), **SCANS)
quick(
    "a path of another machine in scans.tsv",
    "SIDE-SCANS",
    scans(lambda old: [old[0], ["/etc/passwd", old[1][1]]]),
    **SCANS,
)

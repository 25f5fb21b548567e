"""Defects of events.tsv and of what codes mean."""

from __future__ import annotations

from collections.abc import Callable

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import RATE, SECONDS, STEMS, Tree

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
Rows = list[list[str]]
EVENTS = "_events.tsv"


def rows(change: Callable[[Rows], Rows]) -> Callable[[Tree], None]:
    """Return a defect that changes cells."""
    return lambda tree: tree.rows(EVENTS, change)


def cell(row: int, column: int, value: str) -> Callable[[Tree], None]:
    """Return a defect of one cell."""

    def change(found: Rows) -> Rows:
        found[row][column] = value
        return found

    return rows(change)


def column(number: int, change: Callable[[str], str]) -> Callable[[Tree], None]:
    """Return a defect of all cells of a column."""
    return rows(
        lambda found: [found[0], *[[*row[:number], change(row[number]), *row[number + 1 :]] for row in found[1:]]]
    )


def text(change: Callable[[str], str]) -> Callable[[Tree], None]:
    """Return a defect of the file as text."""
    return lambda tree: tree.text(EVENTS, change)


def content(change: Callable[[str], bytes]) -> Callable[[Tree], None]:
    """Return a defect of the file's bytes."""

    def plant(tree: Tree) -> None:
        path = tree.path(EVENTS)
        path.write_bytes(change(path.read_text()))

    return plant


def without_sample(change: Callable[[Rows], Rows]) -> Callable[[Tree], None]:
    """Return a defect of a table that has no column sample, so that only the onsets can tell."""
    return rows(lambda found: change([row[:4] for row in found]))


quick("no events.tsv", "SIDE-NONE", lambda tree: tree.path(EVENTS).unlink())
quick("empty events.tsv", "SIDE-NONE", content(lambda _: b""))
quick("events.tsv of blank lines", "SIDE-NONE", content(lambda _: b"\n\n"))
quick("events.tsv with a header only", "SIDE-NONE", rows(lambda found: found[:1]))
quick("events separated by commas", "EV-SEP", text(lambda old: old.replace("\t", ",")))
quick("events separated by semicolons", "EV-SEP", text(lambda old: old.replace("\t", ";")))
quick("events separated by blanks", "EV-SEP", text(lambda old: old.replace("\t", "  ")))
quick("a row of events with a cell too few", "EV-SEP", rows(lambda found: [*found[:3], found[3][:-1], *found[4:]]))
quick("a row of events with a cell too many", "EV-SEP", rows(lambda found: [*found[:3], [*found[3], "x"], *found[4:]]))
quick("a tab too many at the end of a row", "EV-SEP", rows(lambda found: [*found[:3], [*found[3], ""], *found[4:]]))
quick("empty lines among events", "EV-SEP", text(lambda old: old.replace("\n", "\n\n", 2)))
quick("a column of events twice", "EV-SEP", rows(lambda found: [[*row, row[0]] for row in found]))
quick("blanks around names of columns", "EV-SEP", rows(lambda found: [[f" {name} " for name in found[0]], *found[1:]]))
quick("no column onset", "EV-SEP", rows(lambda found: [row[1:] for row in found]))
quick("no column duration", "EV-SEP", rows(lambda found: [[row[0], *row[2:]] for row in found]))
quick("column Onset in capitals", "EV-SEP", text(lambda old: old.replace("onset", "Onset")))
quick("neither trial_type nor value", "EV-NA", rows(lambda found: [[*row[:2], row[4]] for row in found]))
quick("events in UTF-16", "EV-ENC", content(lambda old: old.encode("utf-16")))
quick("events in Latin-1", "EV-ENC", content(lambda old: old.replace("left_hand", "schläfrig", 1).encode("latin-1")))
quick("a stray quote before a name", "EV-MAP", cell(2, 2, '"right_hand'), place="the data set")
quick("an onset n/a", "EV-ONSET", cell(2, 0, "n/a"))
quick("an onset in words", "EV-ONSET", cell(2, 0, "one"))
quick("an empty onset", "EV-ONSET", cell(2, 0, ""))
quick("an onset that is infinite", "EV-ONSET", cell(2, 0, "inf"))
quick("onsets with a decimal comma", "EV-ONSET", column(0, lambda old: old.replace(".", ",")))
quick("onsets as times of day", "EV-ONSET", column(0, lambda old: f"00:00:{float(old):04.1f}"))
quick("onsets in samples", "EV-UNIT", column(0, lambda old: str(round(float(old) * RATE))))
quick(
    "onsets in samples, no column sample",
    "EV-UNIT",
    without_sample(lambda found: [found[0], *[[str(round(float(row[0]) * RATE)), *row[1:]] for row in found[1:]]]),
)
quick("onsets in milliseconds", "EV-UNIT", column(0, lambda old: str(round(float(old) * 1000))))
quick("onsets in microseconds", "EV-UNIT", column(0, lambda old: str(round(float(old) * 1e6))))
quick("an event beyond the end", "EV-END", cell(6, 0, str(SECONDS + 20.0)))
quick("events of a longer recording", "EV-END", column(0, lambda old: str(float(old) + 3600)))
quick("an event that lasts beyond the end", "EV-END", cell(6, 1, "30"))
quick("an event before the start", "EV-NEG", cell(1, 0, "-3.5"))
quick("a negative duration", "EV-NEG", cell(1, 1, "-1"))
quick("a duration in words", "EV-NEG", cell(1, 1, "short"))
quick("an event without a name", "EV-NA", cell(1, 2, "n/a"))
quick("an event with an empty name", "EV-NA", cell(1, 2, ""))
quick("no event has a trial_type", "EV-NA", column(2, lambda _: "n/a"))
quick("one name with two values", "EV-VALUE", cell(1, 3, "11"))
quick("names in other capitals in one recording", "EV-CASE", column(2, str.title), place="the data set")
quick(
    "names with a blank in one recording", "EV-CASE", column(2, lambda old: old.replace("_", " ")), place="the data set"
)
quick("an event twice", "EV-TWICE", rows(lambda found: [*found[:3], found[2], *found[3:]]))
quick(
    "two events at one moment",
    "EV-TWICE",
    rows(lambda found: [*found, [*found[1][:2], "right_hand", "2", found[1][4]]]),
)
quick("events not in order of time", "EV-SORT", rows(lambda found: [found[0], *found[:0:-1]]))
quick("onsets that disagree with the samples", "EV-SAMPLE", column(0, lambda old: str(float(old) + 0.25)))
quick(
    "technical markers among the events",
    "EV-MARK",
    rows(lambda found: [*found, ["21", "0", "boundary", "99", str(21 * RATE)]]),
)
quick(
    "impedance check among the events",
    "EV-MARK",
    rows(lambda found: [*found, ["21", "0", "Impedance", "99", str(21 * RATE)]]),
)
quick(
    "free text among the events",
    "ID-TEXT",
    rows(lambda found: [*found, ["21", "0", "talked to Mary Miller about it", "9", str(21 * RATE)]]),
)
quick("codes without a meaning in one recording", "EV-MAP", column(2, lambda old: "1" if old == "left_hand" else "2"))
quick("an unknown code among others", "EV-MAP", cell(3, 2, "77"), place="the data set")


def every_code(tree: Tree) -> None:
    """Give all recordings bare codes."""
    for stem in STEMS:
        tree.text(EVENTS, lambda old: old.replace("left_hand", "S  1").replace("right_hand", "S  2"), stem)


quick("every recording has codes without a meaning", "EV-MAP", every_code, place="the data set")


@add("one code with two meanings in two runs", "EV-RUN", place="the data set")
def per_run(tree: Tree) -> None:
    """Let T1 be the left hand in one run and both feet in the other."""
    for stem, meaning in ((STEMS[0], "left hand"), (STEMS[1], "feet")):
        tree.text(EVENTS, lambda old: old.replace("left_hand", "T1"), stem)
        tree.json("_events.json", stem, trial_type={"Levels": {"T1": meaning}})


@add("events of a run that does not exist", "FILE-KNOWN")
def other_run(tree: Tree) -> None:
    """Name the table for run 9."""
    tree.path(EVENTS).rename(tree.path("_run-9_events.tsv"))


@add("events named for a task in other capitals", "FILE-CASE")
def other_task(tree: Tree) -> None:
    """Name the table for task-MI."""
    path = tree.path(EVENTS)
    path.rename(path.with_name(path.name.replace("task-mi", "task-MI")))


@add("events.tsv is a pointer", "FILE-PTR")
def pointer(tree: Tree) -> None:
    """Leave a pointer of git-lfs."""
    tree.path(EVENTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 200\n")


@add("events.tsv is a link to nowhere", "FILE-LINK")
def link(tree: Tree) -> None:
    """Link to a file that is gone."""
    tree.path(EVENTS).unlink()
    tree.path(EVENTS).symlink_to("/nowhere/events.tsv")


@add("events.tsv is a web page", "FILE-EMPTY")
def page(tree: Tree) -> None:
    """Leave a login page."""
    tree.path(EVENTS).write_text("<!doctype html><html>login</html>")


@add("two tables of events at one level", "SIDE-TWO")
def two(tree: Tree) -> None:
    """Add one for all runs."""
    path = tree.path(EVENTS)
    path.with_name("sub-02_events.tsv").write_text(path.read_text())

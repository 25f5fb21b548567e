"""A second look at events, descriptions and annotations: what a stranger would plant there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.defects.events import Rows, cell, column, content, rows, text, without_sample
from tests.client.data.corpus.defects.sidecars import keys, written
from tests.client.data.corpus.tree import RATE, SECONDS, STEMS, Tree, spec
from tests.client.data.recordings.edf_writer import Annotated

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
EVENTS = "_events.tsv"
ALL = {"place": "the data set"}


def times(change: Callable[[float], float]) -> Callable[[Tree], None]:
    """Return a defect of all onsets of a table without a column sample."""
    return without_sample(lambda found: [found[0], *[[str(change(float(row[0]))), *row[1:]] for row in found[1:]]])


def more(*row: str) -> Callable[[Tree], None]:
    """Return a defect that adds a row."""
    return rows(lambda found: [*found, list(row)])


quick("an onset with a sign for thousands", "EV-ONSET", cell(6, 0, "1,019.5"))
quick("an onset too large for a number", "EV-ONSET", cell(2, 0, "1e400"))
quick("an onset with its unit", "EV-ONSET", column(0, lambda old: f"{old} s"))
quick("an onset at the very end", "EV-END", cell(6, 0, str(float(SECONDS))))
quick("every onset before the start", "EV-NEG", column(0, lambda old: str(float(old) - 100)))
quick("onsets since midnight", "EV-END", column(0, lambda old: str(float(old) + 36_000)))
quick("onsets in minutes, no column sample", "EV-UNIT", times(lambda old: old / 60))
quick("onsets in samples of another rate, no column sample", "EV-UNIT", times(lambda old: round(old * 250)))
quick("onsets of the first half in milliseconds", "EV-END", times(lambda old: old * 1000 if old < 10 else old))
quick("every onset zero, no column sample", "EV-TWICE", times(lambda _: 0.0))
quick("every duration n/a", "EV-NEG", column(1, lambda _: "n/a"))
quick("an infinite duration", "EV-NEG", cell(2, 1, "inf"))
quick("a duration with a decimal comma", "EV-NEG", cell(2, 1, "1,5"))
quick("durations in milliseconds", "EV-END", column(1, lambda _: "20000"))
quick("a sample that is not a number", "EV-SAMPLE", cell(2, 4, "abc"))
quick("a name NaN", "EV-NA", cell(2, 2, "NaN"))
quick("a name N/A in capitals", "EV-NA", cell(2, 2, "N/A"))
quick("names with blanks around them", "EV-SEP", column(2, lambda old: f" {old}"))
quick("names with a character that nobody sees", "EV-ENC", column(2, lambda old: f"{old}\u200b"))
quick("a name with a slip of the pen", "EV-MAP", cell(1, 2, "left_hnad"))
quick("a name that no class of the study has", "EV-MAP", cell(2, 2, "rest"), contract={}, **ALL)
quick("names that are numbers with a point", "EV-MAP", column(2, lambda old: "1.0" if "left" in old else "2.0"))
quick("other values in one recording than in the others", "EV-VALUE", column(3, lambda old: f"1{old}"), **ALL)
quick("one value for two names", "EV-VALUE", column(3, lambda _: "1"))
quick(
    "names exchanged in one recording, values kept",
    "EV-VALUE",
    column(2, lambda old: "right_hand" if old == "left_hand" else "left_hand"),
    **ALL,
)


def levels(value: object) -> Callable[[Tree], None]:
    """Return a defect of what the sidecar says of the names."""
    return lambda tree: tree.json("_events.json", trial_type=value)


quick("Levels that call the left hand right", "EV-RUN", levels({"Levels": {"left_hand": "right hand"}}))
quick("Levels that are a list", "SIDE-JSON", levels({"Levels": ["left_hand", "right_hand"]}))
quick("Levels that leave a name out", "EV-MAP", levels({"Levels": {"left_hand": "left hand"}}))
quick("a description of names that is a list", "SIDE-JSON", levels(["left_hand"]))
quick("events.tsv with a byte-order mark", "EV-ENC", content(lambda old: b"\xef\xbb\xbf" + old.encode()))
quick("events.tsv with line ends of Windows", "EV-SEP", content(lambda old: old.replace("\n", "\r\n").encode()))
quick("events.tsv in UTF-16 without its mark", "EV-ENC", content(lambda old: old.encode("utf-16-be")))
quick("events.tsv in UTF-32", "EV-ENC", content(lambda old: old.encode("utf-32")))
quick("events.tsv that ends inside a row", "EV-SEP", content(lambda old: old.encode()[:-14]))
quick("a tab inside a name", "EV-SEP", content(lambda old: old.replace("left_hand", "left\thand", 1).encode()))
quick("the header of events.tsv twice", "EV-ONSET", rows(lambda found: [found[0], *found]))
quick("events.tsv without its header", "EV-SEP", rows(lambda found: found[1:]))
quick("a comment above the table of events", "EV-SEP", text(lambda old: f"# made by a script\n{old}"))
quick("every event twice", "EV-TWICE", rows(lambda found: [*found, *found[1:]]))
quick("events.tsv is a workbook", "FILE-KIND", content(lambda _: b"PK\x03\x04" + b"x" * 500))
quick("events named .TSV", "FILE-CASE", lambda tree: (tree.path(EVENTS).rename(tree.path("_events.TSV")), None)[1])
quick("events in a .csv file", "SIDE-NONE", lambda tree: (tree.path(EVENTS).rename(tree.path("_events.csv")), None)[1])
quick("trial_type in other capitals", "EV-SEP", text(lambda old: old.replace("trial_type", "Trial_type")))
quick("a segment marker among the events", "EV-MARK", more("21", "0", "New Segment", "9", str(21 * RATE)))
quick("a stretch marked bad in small letters", "EV-MARK", more("10", "3", "bad_blink", "9", str(10 * RATE)))


@add("events in the table of all recordings only", "SIDE-LOST", place="task-mi_events.tsv")
def above(tree: Tree) -> None:
    """Move the table to the top, where it counts for all."""
    tree.path(EVENTS).rename(tree.root / "task-mi_events.tsv")


def annotated(*marks: tuple[float, float, str], keep: bool = False) -> Callable[[Tree], None]:
    """Return a defect of the marks of the recording itself; without ``keep`` there is no events.tsv."""

    def plant(tree: Tree) -> None:
        tree.write(replace(spec(2), annotated=Annotated(range(SECONDS), marks)))
        if not keep:
            tree.path(EVENTS).unlink()

    return plant


LEFT, RIGHT = "left_hand", "right_hand"
quick("an annotation whose time is NaN", "EV-ONSET", annotated((float("nan"), 0.0, LEFT), (5.0, 0.0, RIGHT)))
quick("an annotation beyond the end", "EV-END", annotated((3.0, 0.0, LEFT), (500.0, 0.0, RIGHT)))
quick("annotations that say the opposite", "EV-FILE", annotated((2.0, 0.0, RIGHT), (5.5, 0.0, LEFT), keep=True))


def clash(found: Rows) -> Rows:
    """Let every onset lie a second before the recording's own mark."""
    return [found[0], *[[str(float(row[0]) + 1.0), *row[1:4], str(int(row[4]) + RATE)] for row in found[1:]]]


@add("events a second after the marks of the recording", "EV-FILE", kind="brainvision")
def later(tree: Tree) -> None:
    """Shift the table."""
    tree.rows(EVENTS, clash)


quick("NaN in _eeg.json", "SIDE-JSON", written('{"PowerLineFrequency": NaN}'))
quick("Infinity in _eeg.json", "SIDE-JSON", written('{"PowerLineFrequency": 50, "SamplingFrequency": Infinity}'))
quick("a number of 5000 digits in _eeg.json", "SIDE-JSON", written(f'{{"PowerLineFrequency": {"5" * 5000}}}'))
quick("_eeg.json with a byte-order mark", "EV-ENC", written("\ufeff" + '{"PowerLineFrequency": 50}'))
quick("_eeg.json nested too deeply", "SIDE-JSON", written("[" * 100_000))
quick("SamplingFrequency as a list", "SIDE-RATE", keys(SamplingFrequency=[128]))
quick("SamplingFrequency zero", "SIDE-RATE", keys(SamplingFrequency=0))
quick("no SamplingFrequency", "SIDE-NONE", keys(SamplingFrequency=None))
quick("RecordingDuration below zero", "SIDE-RATE", keys(RecordingDuration=-24))
quick("TaskName of another task", "SIDE-RATE", keys(TaskName="rest"))
quick("RecordingType discontinuous without a gap", "SIDE-RATE", keys(RecordingType="discontinuous"))
quick("RecordingType that BIDS does not know", "SIDE-RATE", keys(RecordingType="foo"))
quick("EEGChannelCount of another cap", "SIDE-RATE", keys(EEGChannelCount=64))
quick("EEGReference bipolar", "CH-BIP", keys(EEGReference="bipolar"))
quick("a software filter inside what studies need", "FILT-CUT", keys(SoftwareFilters={"low-pass": {"cutoff": 20}}))
quick("PowerLineFrequency as a list", "LINE-NONE", keys(PowerLineFrequency=[50]))
quick("PowerLineFrequency below zero", "LINE-NONE", keys(PowerLineFrequency=-50))


@add("SamplingFrequency of another recording, inherited", "SIDE-RATE")
def inherited(tree: Tree) -> None:
    """Say it at the top only."""
    tree.json(SamplingFrequency=None)
    (tree.root / "task-mi_eeg.json").write_text('{"SamplingFrequency": 512}')


@add("description of visits is broken", "SIDE-JSON", place="sub-03_sessions.json")
def visits(tree: Tree) -> None:
    """Write no JSON."""
    (tree.root / STEMS[3]).parents[2].joinpath("sub-03_sessions.json").write_text("{")


quick(
    "no event of a class that all other recordings have",
    "EV-MAP",
    lambda tree: tree.rows("_events.tsv", lambda rows: [row for row in rows if "right_hand" not in row]),
)

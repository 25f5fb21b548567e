"""Defects of EDF headers: fields, gaps, calibrations, units, filters, rates, dates, identities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import CHANNELS, RATE, SECONDS, STEMS, Spec, Tree, numbers, signal, spec
from tests.client.data.recordings.edf_writer import Annotated, Header, Written

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
SIGNALS = len(CHANNELS) + 1


def field(at: int, text: str, size: int = 8) -> Callable[[Tree], None]:
    """Return a defect that overwrites a field of the header."""
    return lambda tree: tree.bytes_at(at, text.encode("latin-1").ljust(size)[:size])


def signal_field(before: int, size: int, text: str, index: int = 0) -> Callable[[Tree], None]:
    """Return a defect that overwrites a field of one signal; ``before`` is the width of all fields before it."""
    return field(256 + SIGNALS * before + index * size, text, size)


quick("header bytes off by one", "FILE-HEAD", field(184, str(256 * (SIGNALS + 1) + 1)))
quick("number of signals is not a number", "FILE-HEAD", field(252, "many", 4))
quick("number of signals one too small", "FILE-HEAD", field(252, str(SIGNALS - 1), 4))
quick("negative duration of data records", "FILE-HEAD", field(244, "-1"))
quick("duration of data records is text", "FILE-HEAD", field(244, "1 sec"))
quick("zero data records declared", "FILE-HEAD", field(236, "0"))
quick("twice as many data records declared", "FILE-CUT", field(236, str(2 * SECONDS)))
quick("half as many data records declared", "FILE-CUT", field(236, str(SECONDS // 2)))
quick("recording never closed (-1 data records)", "FILE-OPEN", field(236, "-1"))
quick("digital minimum is text", "FILE-HEAD", signal_field(120, 8, "low"))
quick("physical maximum is empty", "FILE-HEAD", signal_field(112, 8, ""))
quick("samples in a record is text", "FILE-HEAD", signal_field(216, 8, "n/a"))
quick("samples in a record twice too large for one channel", "FILE-HEAD", signal_field(216, 8, str(2 * RATE)))


@add("file ends inside its fixed header", "FILE-HEAD")
def inside_header(tree: Tree) -> None:
    """Keep 200 bytes."""
    tree.recording.write_bytes(tree.recording.read_bytes()[:200])


@add("file ends inside the headers of its signals", "FILE-HEAD")
def inside_signals(tree: Tree) -> None:
    """Keep 1000 bytes."""
    tree.recording.write_bytes(tree.recording.read_bytes()[:1000])


def clocked(onsets: Sequence[float], reserved: str = "EDF+D") -> Callable[[Tree], None]:
    """Return a defect that gives the data records other times."""

    def plant(tree: Tree) -> None:
        made = spec(2)
        tree.write(replace(made, header=replace(made.header, reserved=reserved), annotated=Annotated(onsets)))

    return plant


def gap(seconds: float, at: int = 14) -> list[float]:
    """Return times of records with one gap."""
    return [k + (seconds if k >= at else 0.0) for k in range(SECONDS)]


quick("gap of ten minutes (EDF+D)", "GAP-FOUND", clocked(gap(600)))
quick("gap of half a second (EDF+D)", "GAP-FOUND", clocked(gap(0.5)))
quick("gap of three seconds under EDF+C", "GAP-HIDDEN", clocked(gap(3), "EDF+C"))
quick("gap of ten minutes under EDF+C", "GAP-HIDDEN", clocked(gap(600), "EDF+C"))
quick("many short gaps", "GAP-FOUND", clocked([k * 1.25 for k in range(SECONDS)]))
quick("times of data records go back", "GAP-BACK", clocked([k if k != 9 else 5.5 for k in range(SECONDS)]))
quick("times of data records overlap", "GAP-BACK", clocked([k * 0.9 for k in range(SECONDS)]))
quick("event in a gap", "EV-GAP", clocked(gap(2, at=12)))


@add("data records without a time", "FILE-HEAD")
def timeless(tree: Tree) -> None:
    """Blank the texts of some records."""
    content = tree.recording.read_bytes()
    for record in (5, 6, 7):
        content = content.replace(f"+{record}\x14\x14".encode(), b"\0" * len(f"+{record}\x14\x14"))
    tree.recording.write_bytes(content)


@add("EDF+ without an annotation signal", "FILE-HEAD")
def no_annotations(tree: Tree) -> None:
    """Write none."""
    tree.write(replace(spec(2), annotated=None))


@add("annotation signal written in capitals", "CH-ALIAS")
def annotation_label(tree: Tree) -> None:
    """Write its label otherwise."""
    made = spec(2)
    assert made.annotated is not None
    tree.write(replace(made, annotated=replace(made.annotated, label="EDF ANNOTATIONS")))


@add("annotations in Latin-1", "EV-ENC")
def latin(tree: Tree) -> None:
    """Write an umlaut as one byte."""
    made = spec(2)
    tree.write(replace(made, annotated=Annotated(range(SECONDS), [(3.0, 0.0, "müde")], encoding="latin-1")))


@add("free text in annotations that serve as events", "ID-TEXT")
def free_text(tree: Tree) -> None:
    """Write a sentence and take the events away."""
    made = spec(2)
    tree.write(replace(made, annotated=Annotated(range(SECONDS), [(3.0, 0.0, "Mrs Miller says she is tired")])))
    tree.path("_events.tsv").unlink()


@add("annotations only, no signal (a hypnogram)", "HYP-ONLY")
def hypnogram(tree: Tree) -> None:
    """Write no channel."""
    marks = [(3.0 * k, 3.0, f"Sleep stage {k % 4}") for k in range(8)]
    tree.write(Spec((), replace(spec(2).header, seconds="0"), Annotated([0.0], marks, size=400)))


def changed(change: Callable[[Spec], Spec]) -> Callable[[Tree], None]:
    """Return a defect that writes the recording with a change."""
    return lambda tree: tree.write(change(spec(2)))


def every_signal(**fields: object) -> Callable[[Tree], None]:
    """Return a defect of all channels."""
    return changed(lambda made: made.each(lambda one: replace(one, **fields)))  # type: ignore[arg-type]  # Written


quick(
    "one channel without calibration (digital minimum = maximum)",
    "CH-CAL",
    changed(lambda made: made.change(3, digital=("0", "0"))),
)
quick(
    "one channel without calibration (physical minimum = maximum)",
    "CH-CAL",
    changed(lambda made: made.change(3, physical=("0", "0"))),
)
quick("every channel of one recording without calibration", "CH-CAL", every_signal(digital=("0", "0")))
quick(
    "one channel with an inverted scale", "CH-POL", changed(lambda made: made.change(3, physical=("3276.7", "-3276.8")))
)
quick("all channels with an inverted scale", "CH-POL", every_signal(physical=("3276.7", "-3276.8")))
quick("unit written UV", "CH-UNIT", every_signal(unit="UV"))
quick("unit left empty", "CH-UNIT", every_signal(unit=""))
quick("unit that is no voltage (mmHg)", "CH-UNIT", every_signal(unit="mmHg"))
quick("unit of one channel written UV", "CH-UNIT", changed(lambda made: made.change(4, unit="UV")))
quick("unit written nV", "VAL-UNIT", every_signal(unit="nV"))
quick("unit written mV", "VAL-UNIT", every_signal(unit="mV"))
quick("unit written V", "VAL-UNIT", every_signal(unit="V"))
quick("unit of one channel in the header is mV", "CH-UNIT2", changed(lambda made: made.change(4, unit="mV")))
quick("channels with different filters", "FILT-MIX", changed(lambda made: made.change(4, prefilter="HP:16Hz LP:70Hz")))
quick("recorder's low-pass at 30 Hz", "FILT-CUT", every_signal(prefilter="HP:0.1Hz LP:30Hz"))
quick("one recording with another filter than the others", "FILT-MIX", every_signal(prefilter="HP:0.5Hz LP:60Hz"))


@add("ECG at another sampling rate", "RATE-MIX")
def fast_ecg(tree: Tree) -> None:
    """Add a channel of 512 Hz."""
    made = spec(2)
    ecg = Written("ECG", numbers(np.tile(np.arange(512.0), SECONDS)), 512)
    tree.write(replace(made, signals=(*made.signals, ecg)))
    tree.rows("_channels.tsv", lambda rows: [*rows, ["ECG", "ECG", "uV", "512", "good"]])


@add("one EEG channel at another sampling rate", "RATE-MIX")
def slow_channel(tree: Tree) -> None:
    """Keep every other sample of one channel."""
    made = spec(2)
    tree.write(made.change(3, numbers=made.signals[3].numbers[::2], in_record=RATE // 2))
    tree.rows("_channels.tsv", lambda rows: [[*row[:3], "64", row[4]] if row[0] == "F4" else row for row in rows])


@add("sampling rate that is not a whole number", "RATE-MIX")
def odd_rate(tree: Tree) -> None:
    """Let a data record last 1.001 s."""
    made = spec(2)
    onsets = [1.001 * k for k in range(SECONDS)]
    tree.write(replace(made, header=replace(made.header, seconds="1.001"), annotated=Annotated(onsets)))


quick(
    "one channel label twice, same samples",
    "CH-DUP",
    changed(lambda made: replace(made, signals=(*made.signals, made.signals[3]))),
)
quick("one channel label twice, other samples", "CH-DUP", changed(lambda made: made.change(3, label="Fp1")))
quick("two labels that differ in capitals only", "CH-DUP", changed(lambda made: made.change(3, label="FP1")))


@add("two names of one electrode (T3 and T7)", "CH-DUP")
def old_and_new(tree: Tree) -> None:
    """Name two channels by the old and by the new system."""
    tree.write(spec(2).change(2, label="T3").change(3, label="T7"))
    tree.text("_channels.tsv", lambda text: text.replace("F3\t", "T3\t").replace("F4\t", "T7\t"))


quick("date 00.00.00", "DATE-BAD", field(168, "00.00.00"))
quick("date of a thirteenth month", "DATE-BAD", field(168, "32.13.99"))
quick("date in the future", "DATE-BAD", field(168, "01.01.84"))
quick("start time that no clock shows", "DATE-BAD", field(176, "25.61.99"))
quick("name and birth date in the patient field", "ID-HEAD", field(8, "12345 F 02-MAY-1951 Mary_Miller", 80))
quick("hospital number in the patient field", "ID-HEAD", field(8, "MRN-0012345 X X X", 80))
quick("name of a technician in the recording field", "ID-HEAD", field(88, "Startdate 02-MAR-2002 X John_Smith X", 80))


@add("free patient field of a plain EDF file", "ID-HEAD")
def plain_patient(tree: Tree) -> None:
    """Write EDF without a plus."""
    made = spec(2)
    tree.write(replace(made, header=replace(made.header, reserved="", patient="Miller, Mary"), annotated=None))


@add("one person's header under two labels", "SAME-PERSON", place="sub-0")
def same_person(tree: Tree) -> None:
    """Write the same identity into two patients' files."""
    for number in (0, 2):
        made = spec(number)
        patient = "A17-22 F 02-MAY-1951 Miller_Mary"
        tree.write(replace(made, header=replace(made.header, patient=patient)), STEMS[number])


@add("recording of six seconds", "FILE-SHORT")
def short(tree: Tree) -> None:
    """Keep the first six seconds."""
    tree.write(spec(2, signal(2)[:, : 6 * RATE]))
    tree.json(RecordingDuration=6)
    tree.rows("_events.tsv", lambda rows: rows[:2])


quick(
    "names in the recording field of a plain EDF file",
    "ID-HEAD",
    lambda tree: tree.write(replace(spec(2), header=Header(recording="seen by Dr. Nobody", reserved=""))),
)

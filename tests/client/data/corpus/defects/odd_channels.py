"""A second look at channels, headers, samples and formats: what a stranger would plant there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.defects.channels import _positions as place_electrodes
from tests.client.data.corpus.defects.channels import column, named, rows
from tests.client.data.corpus.defects.formats import header as vhdr
from tests.client.data.corpus.defects.formats import line
from tests.client.data.corpus.defects.headers import changed, clocked, every_signal, field, gap, signal_field
from tests.client.data.corpus.defects.values import band, channel, copy_of_first, spoiled, values
from tests.client.data.corpus.tree import CHANNELS, RATE, SECONDS, STEMS, Tree, numbers, signal, spec, write_eeglab
from tests.client.data.recordings.edf_writer import Header, Written, write_edf

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
BV, SET, BDF = {"kind": "brainvision"}, {"kind": "eeglab"}, {"kind": "bdf"}
COPY = {"place": "sub-0"}

quick("gap of one and a half samples", "GAP-FOUND", clocked(gap(1.5 / RATE)))
quick("first data record 100 s after the start", "GAP-FOUND", clocked([100.0 + k for k in range(SECONDS)]))
quick("a clock that drifts by 1 % under EDF+C", "GAP-HIDDEN", clocked([k * 1.01 for k in range(SECONDS)], "EDF+C"))
quick(
    "a data record whose time is NaN",
    "FILE-HEAD",
    clocked([float(k) if k != 5 else float("nan") for k in range(SECONDS)]),
)
quick("data records twice as long as their times say", "GAP-BACK", field(244, "2"))
quick("duration of data records with a decimal comma", "FILE-HEAD", field(244, "1,0"))
quick("number of data records with a fraction", "FILE-HEAD", field(236, "24.5"))
quick("no sample of one channel in a record", "FILE-HEAD", signal_field(216, 8, "0"))
quick(
    "10,000 signals declared", "FILE-HEAD", lambda tree: (field(252, "9999", 4)(tree), field(184, "2560000")(tree))[0]
)
quick("reserved field that no format knows", "FILE-HEAD", field(192, "EDF+X", 44))
quick("a label of another alphabet", "CH-NAME", changed(lambda made: made.change(3, label="F4\xb5")))
quick("every label empty", "CH-NAME", every_signal(label=""))
quick("unit mv in small letters", "CH-UNIT", every_signal(unit="mv"))
quick("filters in a form that nobody knows", "FILT-MIX", changed(lambda made: made.change(4, prefilter="bessel 4th")))
quick("a filter of the mains in one channel", "FILT-MIX", changed(lambda made: made.change(4, prefilter="N:60Hz")))
quick("recorder's low-pass with a decimal comma", "FILT-CUT", every_signal(prefilter="HP:0,1Hz LP:30,0Hz"))
quick("recorder's low-pass in words", "FILT-CUT", every_signal(prefilter="Highpass 0.1 Hz Lowpass 30 Hz"))
quick("date of a day that February has not", "DATE-BAD", field(168, "31.02.10"))
quick(
    "two dates in one header",
    "DATE-BAD",
    lambda tree: (field(168, "01.03.02")(tree), field(88, "Startdate 05-MAY-2002 X X X", 80)(tree))[0],
)


@add("one person by name and birth date under two codes", "SAME-PERSON", place="sub-0")
def two_codes(tree: Tree) -> None:
    """Give the same person two hospital numbers."""
    for number in (2, 3):
        made = spec(number)
        patient = f"{number}23 F 02-MAY-1951 Haagse_Harry"
        tree.write(replace(made, header=replace(made.header, patient=patient)), STEMS[number])


quick("channels.tsv with line ends of Windows", "SIDE-TABLE", lambda tree: windows(tree.path("_channels.tsv")))
quick("every type n/a", "CH-TYPE", column(1, lambda _: "n/a"))
quick("every channel marked bad", "CH-MANY", column(4, lambda _: "bad"))
quick("no column units", "CH-UNIT2", rows(lambda found: [[row[0], row[1], row[3], row[4]] for row in found]))
quick("units uv in small letters", "CH-UNIT2", column(2, lambda _: "uv"))
quick("sampling_frequency with a decimal comma", "SIDE-RATE", column(3, lambda _: "128,0"))
quick(
    "channels with two references",
    "CH-REF",
    rows(lambda found: [[*row, "reference" if not k else "Cz" if k < 4 else "A1"] for k, row in enumerate(found)]),
)
quick(
    "a low-pass of 10 Hz in channels.tsv",
    "FILT-CUT",
    rows(lambda found: [[*row, "10" if k else "high_cutoff"] for k, row in enumerate(found)]),
)
quick("names in small letters", "CH-ALIAS", named([name.lower() for name in CHANNELS]))
quick("names with numbers before them", "CH-NAME", named([f"{k}-{name}" for k, name in enumerate(CHANNELS)]))
quick("every channel called Cz", "CH-DUP", named(["Cz"] * 10))
quick(
    "bipolar names with blanks around the hyphen",
    "CH-BIP",
    named([f"{a} - {b}" for a, b in zip(CHANNELS, (*CHANNELS[1:], "Fz"), strict=True)]),
)
quick("channels called EEG 001 to EEG 010", "CH-NAME", named([f"EEG {k:03d}" for k in range(1, 11)]))


def windows(path: Path) -> None:
    """End lines as Windows does."""
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def electrodes(change: Callable[[list[list[str]]], list[list[str]]]) -> Callable[[Tree], None]:
    """Return a defect of electrodes.tsv."""

    def plant(tree: Tree) -> None:
        place_electrodes(tree, CHANNELS, 0.09)
        tree.table(tree.root / "sub-02" / "eeg" / "sub-02_electrodes.tsv", change)

    return plant


quick(
    "no electrode has a position",
    "SIDE-POS",
    electrodes(lambda old: [old[0], *[[r[0], *["n/a"] * 3] for r in old[1:]]]),
)
quick("two electrodes at one place", "SIDE-POS", electrodes(lambda old: [*old[:2], [old[2][0], *old[1][1:]], *old[3:]]))
quick("an electrode listed twice", "SIDE-POS", electrodes(lambda old: [*old, old[3]]))
quick("positions of eight of ten channels", "SIDE-POS", electrodes(lambda old: old[:-2]))


@add("left and right exchanged", "SIDE-POS")
def mirrored(tree: Tree) -> None:
    """Put odd numbers on the right."""
    side = {name: (0.0 if name.endswith("z") else 0.06 if int(name[-1]) % 2 else -0.06) for name in CHANNELS}
    electrodes(lambda old: [old[0], *[[r[0], str(side[r[0]]), f"0.0{k}", "0.05"] for k, r in enumerate(old[1:])]])(tree)


@add("positions without a coordinate system", "SIDE-POS")
def no_system(tree: Tree) -> None:
    """Remove what says it."""
    place_electrodes(tree, CHANNELS, 0.09)
    (tree.root / "sub-02" / "eeg" / "sub-02_coordsystem.json").unlink()


def held(found: np.ndarray, begin: int, end: int, value: float) -> np.ndarray:
    """Set all channels to one value for a while."""
    found[:, begin:end] = value
    return found


quick(
    "a code for missing in all channels for four seconds", "VAL-HOLD", values(lambda old: held(old, 500, 1012, -999.9))
)
quick("zeros in all channels for 0.8 seconds", "VAL-HOLD", values(lambda old: held(old, 500, 602, 0.0)))
quick(
    "one channel held for ten seconds",
    "CH-FLAT",
    channel(3, lambda row: np.where(np.arange(len(row)) > 14 * RATE, row[0], row)),
)
quick("clipped at one side", "VAL-CLIP", values(lambda old: np.minimum(old, 1.5 * old.std(axis=1, keepdims=True))))
quick("a single value of 1e30", "VAL-SPIKE", spoiled(1e30, slice(100, 101)), **BV)
quick("the last sample NaN", "VAL-NAN", spoiled(np.nan, slice(RATE * SECONDS - 1, RATE * SECONDS)), **BV)
quick("values ten times as large as those of the others", "VAL-UNIT", values(lambda old: 10 * old))
quick("values a hundred times too small", "VAL-UNIT", every_signal(physical=("-32.768", "32.767")))
quick(
    "copy of the middle sixteen seconds", "COPY-PROB", copy_of_first(lambda old: old[:, 4 * RATE : 20 * RATE]), **COPY
)
quick("copy with steps of 5 uV", "COPY-PROB", copy_of_first(lambda old: np.round(old / 5) * 5), **COPY)
quick("copy filtered between 8 and 30 Hz", "COPY-PROB", copy_of_first(band(8, 30)), **COPY)

quick("BrainVision header cut in two", "BV-SIZE", lambda tree: cut(tree.recording, 2), **BV)
quick("resolution zero", "CH-CAL", vhdr(lambda old: old.replace(",1,µV", ",0,µV")), **BV)
quick("resolution with a decimal comma", "CH-CAL", vhdr(lambda old: old.replace(",1,µV", ",0,1,µV")), **BV)
quick("resolution below zero", "CH-POL", vhdr(lambda old: old.replace(",1,µV", ",-1,µV")), **BV)
quick("unit that lost its letter (?V)", "CH-UNIT", vhdr(lambda old: old.replace("µV", "?V")), **BV)
quick("orientation that the format does not know", "FILE-HEAD", line("DataOrientation", "SIDEWAYS"), **BV)
quick("orientation VECTORIZED without DataPoints", "BV-SIZE", line("DataOrientation", "VECTORIZED"), **BV)
quick("samples declared as text", "FILE-HEAD", line("DataFormat", "ASCII"), **BV)
quick(
    "segments declared in the header",
    "FILE-EPOCH",
    vhdr(lambda old: old.replace("DataFormat=", "SegmentationType=MARKERBASED\nDataFormat=")),
    **BV,
)
quick("numbers of channels that leave one out", "BV-SIZE", vhdr(lambda old: old.replace("Ch4=", "Ch14=")), **BV)
quick("a reference that is a channel as well", "CH-REF", vhdr(lambda old: old.replace(",,1,", ",Cz,1,")), **BV)
quick("data file of another patient", "COPY-SAME", line("DataFile", f"../../{STEMS[0]}_eeg.eeg"), **BV, **COPY)
quick("marker file of another patient", "BV-MARK", line("MarkerFile", f"../../{STEMS[0]}_eeg.vmrk"), **BV)
quick("the data file named as marker file", "BV-MARK", line("MarkerFile", "sub-02_task-mi_eeg.eeg"), **BV)
quick(
    "ending .VHDR in capitals", "FILE-CASE", lambda tree: (tree.recording.rename(tree.path("_eeg.VHDR")), None)[1], **BV
)
quick(
    "a marker without a position",
    "EV-ONSET",
    lambda tree: tree.text("_eeg.vmrk", lambda old: old.replace(",257,", ",,")),
    **BV,
)


@add("markers in Latin-1 under Codepage=UTF-8", "EV-ENC", **BV)
def latin_markers(tree: Tree) -> None:
    """Write an umlaut as one byte."""
    path = tree.path("_eeg.vmrk")
    path.write_bytes(path.read_bytes().replace(b"left_hand", "müde".encode("latin-1")))


quick(
    "sampling rate zero in .set",
    "FILE-HEAD",
    lambda tree: write_eeglab(tree.recording, signal(2), fdt=True, srate=0.0),
    **SET,
)
quick(
    "values in volts in .set", "VAL-UNIT", lambda tree: write_eeglab(tree.recording, signal(2) * 1e-6, fdt=True), **SET
)
quick("empty .fdt file", "FILE-EMPTY", lambda tree: (tree.path("_eeg.fdt").write_bytes(b""), None)[1], **SET)


@add("BDF file without a status channel", "CH-ORDER", **BDF)
def no_status(tree: Tree) -> None:
    """Leave it out."""
    limits = ("-8388608", "8388607")
    stored = zip(CHANNELS, numbers(signal(2)), strict=True)
    signals = [Written(name, row, RATE, "uV", ("-838860.8", "838860.7"), limits) for name, row in stored]
    write_edf(tree.recording, signals, Header(reserved="24BIT", bdf=True))


def cut(path: Path, parts: int) -> None:
    """Keep the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // parts])

"""Defects of BrainVision, EEGLAB and BDF recordings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import (
    CHANNELS,
    NAMES,
    ONSETS,
    RATE,
    STEMS,
    Tree,
    signal,
    write_bdf,
    write_brainvision,
    write_eeglab,
)

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
BV = {"kind": "brainvision"}
SET = {"kind": "eeglab"}
BDF = {"kind": "bdf"}


def header(change: Callable[[str], str]) -> Callable[[Tree], None]:
    """Return a defect of a BrainVision header as text."""
    return lambda tree: tree.text("_eeg.vhdr", change)


def line(key: str, value: str) -> Callable[[Tree], None]:
    """Return a defect of one line of a BrainVision header."""

    def change(old: str) -> str:
        return "\n".join(f"{key}={value}" if one.startswith(f"{key}=") else one for one in old.splitlines())

    return header(change)


def gone(ending: str) -> Callable[[Tree], None]:
    """Return a defect that removes a part of a recording."""
    return lambda tree: tree.path(ending).unlink()


quick("no marker file", "BV-MARK", gone("_eeg.vmrk"), **BV)
quick(
    "no line MarkerFile",
    "BV-MARK",
    header(lambda old: "\n".join(one for one in old.splitlines() if "MarkerFile" not in one)),
    **BV,
)
quick("marker file of another name", "BV-MARK", line("MarkerFile", "other.vmrk"), **BV)
quick("empty marker file", "BV-MARK", lambda tree: (tree.path("_eeg.vmrk").write_text(""), None)[1], **BV)
quick("no data file", "FILE-PART", gone("_eeg.eeg"), **BV)
quick("data file of another name", "FILE-PART", line("DataFile", "before-renaming.eeg"), **BV)
quick(
    "no line DataFile",
    "FILE-PART",
    header(lambda old: "\n".join(one for one in old.splitlines() if "DataFile" not in one)),
    **BV,
)
quick("data file without its header", "FILE-PART", gone("_eeg.vhdr"), **BV)
quick(
    "data file is a pointer",
    "FILE-PTR",
    lambda tree: (tree.path("_eeg.eeg").write_text("version https://git-lfs.github.com/spec/v1\n"), None)[1],
    **BV,
)
quick(
    "data file cut by 1001 bytes",
    "BV-SIZE",
    lambda tree: (tree.path("_eeg.eeg").write_bytes(tree.path("_eeg.eeg").read_bytes()[:-1001]), None)[1],
    **BV,
)
quick("number of channels one too small", "BV-SIZE", line("NumberOfChannels", str(len(CHANNELS) - 1)), **BV)
quick(
    "DataPoints of another recording",
    "BV-SIZE",
    header(lambda old: old.replace("NumberOfChannels", "DataPoints=99\nNumberOfChannels")),
    **BV,
)
quick("float samples declared as 16-bit integers", "SIDE-RATE", line("BinaryFormat", "INT_16"), **BV)
quick("unknown binary format", "FILE-HEAD", line("BinaryFormat", "IEEE_FLOAT_64"), **BV)
quick("SamplingInterval in words", "FILE-HEAD", line("SamplingInterval", "fast"), **BV)
quick("SamplingInterval of another recording", "SIDE-RATE", line("SamplingInterval", "3906.25"), **BV)
quick("channel names twice in the header", "CH-DUP", header(lambda old: old.replace("=Fp2,", "=Fp1,")), **BV)
quick(
    "Latin-1 under Codepage=UTF-8",
    "EV-ENC",
    lambda tree: (tree.recording.write_bytes(tree.recording.read_text().encode("latin-1")), None)[1],
    **BV,
)
quick("unit of the header mV", "VAL-UNIT", header(lambda old: old.replace("µV", "mV")), **BV)
quick("header of another program", "FILE-HEAD", header(lambda old: old.replace("Brain Vision", "Brainstorm")), **BV)
quick(
    "a second segment after a pause",
    "GAP-FOUND",
    lambda tree: tree.text(
        "_eeg.vmrk", lambda old: old + f"Mk8=New Segment,,{12 * RATE + 1},1,0,20200101000500000000\n"
    ),
    **BV,
)
quick(
    "data file cut by whole samples",
    "SIDE-RATE",
    lambda tree: (tree.path("_eeg.eeg").write_bytes(tree.path("_eeg.eeg").read_bytes()[: -40 * RATE * 4]), None)[1],
    **BV,
)


@add("three files renamed without their header", "FILE-PART", **BV)
def triplet(tree: Tree) -> None:
    """Write under another name, then rename."""
    for part in (".eeg", ".vmrk", ".vhdr"):
        tree.path(f"_eeg{part}").unlink()
    other = tree.recording.with_name("patient7.vhdr")
    write_brainvision(other, signal(2))
    for part in (".vhdr", ".eeg", ".vmrk"):
        other.with_suffix(part).rename(tree.path(f"_eeg{part}"))


quick("no .fdt file", "FILE-PART", gone("_eeg.fdt"), **SET)
quick(
    ".fdt file cut",
    "FILE-CUT",
    lambda tree: (tree.path("_eeg.fdt").write_bytes(tree.path("_eeg.fdt").read_bytes()[:-4000]), None)[1],
    **SET,
)
quick(
    ".fdt file of a longer recording",
    "FILE-CUT",
    lambda tree: (tree.path("_eeg.fdt").write_bytes(tree.path("_eeg.fdt").read_bytes() * 2), None)[1],
    **SET,
)
quick(".fdt file without its .set", "FILE-PART", gone("_eeg.set"), **SET)
quick(
    ".set file cut",
    "FILE-CUT",
    lambda tree: (tree.recording.write_bytes(tree.recording.read_bytes()[:-700]), None)[1],
    **SET,
)
quick(
    ".set file that is no MATLAB file",
    "FILE-HEAD",
    lambda tree: (tree.recording.write_bytes(b"EEGLAB" * 100), None)[1],
    **SET,
)
quick(
    "sampling rate of another recording in .set",
    "SIDE-RATE",
    lambda tree: write_eeglab(tree.recording, signal(2), fdt=True, srate=500.0),
    **SET,
)


@add("EEGLAB recording cut into trials", "FILE-EPOCH", **SET)
def trials(tree: Tree) -> None:
    """Write three trials of eight seconds."""
    values = signal(2)[:, : 24 * RATE].reshape(len(CHANNELS), 3, -1).transpose(0, 2, 1)
    epochs = np.array([(k,) for k in range(1, 4)], dtype=[("event", object)])
    write_eeglab(
        tree.recording, values, trials=3.0, pnts=float(values.shape[1]), data=values.astype(np.float32), epoch=epochs
    )
    tree.path("_eeg.fdt").unlink()


@add("EEGLAB recording with a boundary", "GAP-FOUND", **SET)
def boundary(tree: Tree) -> None:
    """Add an event that says that a part was cut out."""
    rows = [(name, round(onset * RATE) + 1.0, 0.0) for onset, name in zip(ONSETS, NAMES, strict=True)]
    event = np.array(
        [*rows, ("boundary", 7.5 * RATE, 3.0)], dtype=[("type", object), ("latency", object), ("duration", object)]
    )
    write_eeglab(tree.recording, signal(2), fdt=True, event=event)


def coded(codes: list[int]) -> Callable[[Tree], None]:
    """Return a defect of the status channel, the only place where the events are."""

    def plant(tree: Tree) -> None:
        write_bdf(tree.recording, 2, codes)
        tree.path("_events.tsv").unlink()

    return plant


quick("status codes above eight bits", "EV-BITS", coded([257, 65281] * 3), **BDF)
quick("status channel with the bit of a new epoch", "EV-BITS", coded([65536 + 1, 65536 + 2] * 3), **BDF)
quick("events in the status channel only", "EV-FILE", coded([1, 2] * 3), **BDF)
quick(
    "BDF file cut",
    "FILE-CUT",
    lambda tree: (tree.recording.write_bytes(tree.recording.read_bytes()[:-9000]), None)[1],
    **BDF,
)
quick(
    "EDF file named .bdf",
    "FILE-KIND",
    lambda tree: (tree.recording.write_bytes(b"0       " + tree.recording.read_bytes()[8:]), None)[1],
    **BDF,
)


@add("events nowhere", "EV-NONE")
def nowhere(tree: Tree) -> None:
    """Remove the table; the recording has no marks."""
    tree.path("_events.tsv").unlink()


@add("every recording of another format than BIDS allows", "FILE-KNOWN", place="")
def every_format(tree: Tree) -> None:
    """Rename all to .rec."""
    for stem in STEMS:
        path = tree.path("_eeg.edf", stem)
        path.rename(path.with_suffix(".rec"))


quick(
    "EEGLAB structure with a wrong number of channels",
    "FILE-HEAD",
    lambda tree: write_eeglab(tree.recording, signal(2), nbchan=9.0),
    kind="eeglab",
)
quick(
    "EEGLAB structure with a wrong number of channels beside a data file",
    "FILE-HEAD",
    lambda tree: write_eeglab(tree.recording, signal(2), fdt=True, nbchan=11.0),
    kind="eeglab",
)
quick(
    "patient's name in the comment of a BrainVision header",
    "ID-HEAD",
    lambda tree: (
        tree.recording.write_text(tree.recording.read_text() + "\n[Comment]\nPatient name: A. Nobody\nAmplifier: B\n"),
        None,
    )[1],
    kind="brainvision",
)
quick(
    "EEGLAB structure with a wrong number of samples",
    "FILE-HEAD",
    lambda tree: write_eeglab(tree.recording, signal(2), pnts=1000.0),
    kind="eeglab",
)

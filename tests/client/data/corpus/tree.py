"""Small sound data sets in four formats, written byte by byte, that single defects are planted in."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat
from tests.client.data.recordings.edf_writer import Annotated, Header, Written, write_edf

TASK = "mi"
RATE, SECONDS = 128, 24
CHANNELS = ("Fp1", "Fp2", "F3", "F4", "C3", "Cz", "C4", "P3", "P4", "O1")
ONSETS = (2.0, 5.5, 9.0, 12.5, 16.0, 19.5)
NAMES = ("left_hand", "right_hand") * 3
STEMS = (
    "sub-01/eeg/sub-01_task-mi_run-1",
    "sub-01/eeg/sub-01_task-mi_run-2",
    "sub-02/eeg/sub-02_task-mi",
    "sub-03/ses-1/eeg/sub-03_ses-1_task-mi",
    "sub-03/ses-2/eeg/sub-03_ses-2_task-mi",
)
SUB02 = STEMS[2]
STEP = 0.1
"""Microvolts of a stored number."""


@cache
def signal(number: int) -> NDArray[np.float64]:
    """Return one recording in microvolts (channels, samples): mixed rhythms that come and go, noise, 50 Hz."""
    rng = np.random.default_rng([7, number])
    samples = RATE * SECONDS
    time = np.arange(samples) / RATE
    axis = np.fft.rfftfreq(samples, 1 / RATE)
    sources = []
    for _ in range(14):
        shape = (axis + 1.0) ** -0.7 * np.exp(1j * rng.uniform(0, 2 * np.pi, len(axis))) * rng.rayleigh(size=len(axis))
        waxing = np.interp(time, np.arange(0, SECONDS + 2, 1.0), rng.lognormal(0, 0.7, SECONDS + 2))
        source = np.fft.irfft(shape, samples) * waxing
        sources.append(source / source.std())
    mixing = rng.normal(size=(len(CHANNELS), len(sources)))
    noise = rng.normal(size=(len(CHANNELS), samples))
    line = 3.0 * np.sin(2 * np.pi * 50 * time + rng.uniform(0, 6))
    return 6.0 * mixing @ np.stack(sources) / 3.0 + 2.0 * noise + line


def numbers(microvolts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return values as stored numbers."""
    return np.round(microvolts / STEP).astype(np.int64)


@dataclass(frozen=True)
class Spec:
    """What an EDF recording of the tree is made of."""

    signals: tuple[Written, ...]
    header: Header = field(default_factory=Header)
    annotated: Annotated | None = None

    def change(self, index: int, **fields: object) -> Spec:
        """Return it with one signal changed."""
        signals = list(self.signals)
        signals[index] = replace(signals[index], **fields)  # type: ignore[arg-type]  # fields of Written
        return replace(self, signals=tuple(signals))

    def each(self, change: Callable[[Written], Written]) -> Spec:
        """Return it with every signal changed."""
        return replace(self, signals=tuple(change(one) for one in self.signals))


def spec(number: int, values: NDArray[np.float64] | None = None, labels: Sequence[str] = CHANNELS) -> Spec:
    """Return a sound recording."""
    stored = numbers(signal(number) if values is None else values)
    written = tuple(Written(name, row, RATE) for name, row in zip(labels, stored, strict=True))
    return Spec(written, Header(), Annotated([float(k) for k in range(stored.shape[1] // RATE)]))


@dataclass(frozen=True)
class Tree:
    """A BIDS folder that a test may damage."""

    root: Path
    ending: str = ".edf"

    def path(self, ending: str, stem: str = SUB02) -> Path:
        """Return a file of a recording, such as ``_events.tsv``."""
        return self.root / f"{stem}{ending}"

    @property
    def recording(self) -> Path:
        """The recording of the second patient, in which most defects are planted."""
        return self.path(f"_eeg{self.ending}")

    def write(self, made: Spec, stem: str = SUB02) -> None:
        """Write an EDF recording anew."""
        write_edf(self.path("_eeg.edf", stem), made.signals, made.header, made.annotated)

    def bytes_at(self, at: int, content: bytes) -> None:
        """Overwrite bytes of the recording."""
        old = self.recording.read_bytes()
        self.recording.write_bytes(old[:at] + content + old[at + len(content) :])

    def text(self, ending: str, change: Callable[[str], str], stem: str = SUB02) -> None:
        """Change a text file beside a recording."""
        path = self.path(ending, stem)
        path.write_text(change(path.read_text()))

    def rows(self, ending: str, change: Callable[[list[list[str]]], list[list[str]]], stem: str = SUB02) -> None:
        """Change the cells of a table beside a recording, its header among them."""
        self.table(self.path(ending, stem), change)

    def table(self, path: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> None:
        """Change the cells of a table."""
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        path.write_text("".join("\t".join(row) + "\n" for row in change(rows)))

    def json(self, ending: str = "_eeg.json", stem: str = SUB02, **changes: object) -> None:
        """Change keys of a sidecar; None removes one."""
        path = self.path(ending, stem)
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def write_tree(root: Path, kind: str) -> Tree:
    """Write a sound data set of one kind of recording: edf, bdf, brainvision or eeglab."""
    root.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "sound", "BIDSVersion": "1.9.0"}')
    people = ["participant_id\tage\tsex", "sub-01\t34\tF", "sub-02\t61\tM", "sub-03\t47\tF"]
    (root / "participants.tsv").write_text("\n".join(people) + "\n")
    ending = {"edf": ".edf", "bdf": ".bdf", "brainvision": ".vhdr", "eeglab": ".set"}[kind]
    tree = Tree(root, ending)
    for number, stem in enumerate(STEMS):
        tree.path("", stem).parent.mkdir(parents=True, exist_ok=True)
        _WRITERS[kind](tree, number, stem)
        _sidecars(tree, stem)
    (root / "sub-03" / "sub-03_sessions.tsv").write_text(
        "session_id\tacq_time\nses-1\t1925-03-01T10:00:00\nses-2\t1925-09-01T10:00:00\n"
    )
    (root / "sub-02" / "sub-02_scans.tsv").write_text(
        f"filename\tacq_time\neeg/sub-02_task-mi_eeg{ending}\t1925-03-01T10:00:00\n"
    )
    return tree


def _sidecars(tree: Tree, stem: str) -> None:
    channels = ["name\ttype\tunits\tsampling_frequency\tstatus"]
    channels += [f"{name}\tEEG\tuV\t{RATE}\tgood" for name in CHANNELS]
    if tree.ending == ".bdf":
        channels.append(f"Status\tTRIG\tn/a\t{RATE}\tgood")
    tree.path("_channels.tsv", stem).write_text("\n".join(channels) + "\n")
    events = ["onset\tduration\ttrial_type\tvalue\tsample"]
    events += [
        f"{onset}\t0\t{name}\t{1 + NAMES.index(name)}\t{round(onset * RATE)}"
        for onset, name in zip(ONSETS, NAMES, strict=True)
    ]
    tree.path("_events.tsv", stem).write_text("\n".join(events) + "\n")
    content = {
        "TaskName": TASK,
        "SamplingFrequency": RATE,
        "PowerLineFrequency": 50,
        "EEGReference": "average",
        "RecordingDuration": SECONDS,
        "RecordingType": "continuous",
    }
    tree.path("_eeg.json", stem).write_text(json.dumps(content))
    tree.path("_events.json", stem).write_text('{"trial_type": {"Description": "imagined hand"}}')


def _edf(tree: Tree, number: int, stem: str) -> None:
    tree.write(spec(number), stem)


def _bdf(tree: Tree, number: int, stem: str) -> None:
    write_bdf(tree.path("_eeg.bdf", stem), number, [1, 2] * 3)


def write_bdf(path: Path, number: int, codes: Sequence[int]) -> None:
    """Write a BDF recording with these codes in its status channel."""
    limits = ("-8388608", "8388607")
    stored = numbers(signal(number))
    signals = [
        Written(name, row, RATE, "uV", ("-838860.8", "838860.7"), limits)
        for name, row in zip(CHANNELS, stored, strict=True)
    ]
    status = np.zeros(RATE * SECONDS, dtype=np.int64)
    for onset, code in zip(ONSETS, codes, strict=True):
        status[round(onset * RATE) : round(onset * RATE) + 10] = code
    status = np.where(status >= 1 << 23, status - (1 << 24), status)
    signals.append(Written("Status", status, RATE, "Boolean", limits, limits))
    write_edf(path, signals, Header(reserved="24BIT", bdf=True))


def write_brainvision(path: Path, values: NDArray[np.float64], labels: Sequence[str] = CHANNELS, **fields: str) -> None:
    """Write a BrainVision recording; fields replace those of the header."""
    stem = path.with_suffix("").name
    values.T.astype("<f4").tofile(path.with_suffix(".eeg"))
    infos = {
        "Codepage": "UTF-8",
        "DataFile": f"{stem}.eeg",
        "MarkerFile": f"{stem}.vmrk",
        "DataFormat": "BINARY",
        "DataOrientation": "MULTIPLEXED",
        "NumberOfChannels": str(len(labels)),
        "SamplingInterval": str(1e6 / RATE),
        "BinaryFormat": "IEEE_FLOAT_32",
        **fields,
    }
    binary = f"\n[Binary Infos]\nBinaryFormat={infos.pop('BinaryFormat')}\n"
    common = "".join(f"{key}={value}\n" for key, value in infos.items())
    channels = "".join(f"Ch{index}={name},,1,µV\n" for index, name in enumerate(labels, start=1))
    head = "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\n"
    path.write_text(f"{head}{common}{binary}\n[Channel Infos]\n{channels}", encoding="utf-8")
    marks = ["Mk1=New Segment,,1,1,0,20200101000000000000"]
    marks += [
        f"Mk{index}=Stimulus,{name},{round(onset * RATE) + 1},1,0"
        for index, (onset, name) in enumerate(zip(ONSETS, NAMES, strict=True), start=2)
    ]
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\n\n[Marker Infos]\n" + "\n".join(marks) + "\n"
    )


def _brainvision(tree: Tree, number: int, stem: str) -> None:
    write_brainvision(tree.path("_eeg.vhdr", stem), signal(number))


def write_eeglab(path: Path, values: NDArray[np.float64], *, fdt: bool = False, **fields: object) -> None:
    """Write an EEGLAB recording, its samples in a file of their own if wanted; fields go into the structure."""
    location = np.array([(name,) for name in CHANNELS], dtype=[("labels", object)])
    event = np.array(
        [(name, round(onset * RATE) + 1.0, 0.0) for onset, name in zip(ONSETS, NAMES, strict=True)],
        dtype=[("type", object), ("latency", object), ("duration", object)],
    )
    if fdt:
        values.T.astype("<f4").tofile(path.with_suffix(".fdt"))
    structure = {
        "setname": "x",
        "nbchan": float(len(values)),
        "pnts": float(values.shape[1]),
        "trials": 1.0,
        "srate": float(RATE),
        "xmin": 0.0,
        "xmax": values.shape[1] / RATE,
        "data": path.with_suffix(".fdt").name if fdt else values.astype(np.float32),
        "chanlocs": location,
        "event": event,
        "epoch": np.zeros((0, 0)),
        "ref": "average",
        **fields,
    }
    savemat(path, {"EEG": structure}, appendmat=False)


def _eeglab(tree: Tree, number: int, stem: str) -> None:
    write_eeglab(tree.path("_eeg.set", stem), signal(number), fdt=True)


_WRITERS: dict[str, Callable[[Tree, int, str], None]] = {
    "edf": _edf,
    "bdf": _bdf,
    "brainvision": _brainvision,
    "eeglab": _eeglab,
}

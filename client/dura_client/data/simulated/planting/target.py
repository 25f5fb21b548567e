"""One patient of a simulated data set, and the ways in which files of that patient are changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.recordings.edf_header import read_header

Rows = list[list[str]]
Numbers = NDArray[np.float64]
"""Stored numbers (channels, samples) of one recording."""
ENDINGS = (".edf", ".vhdr", ".fif")
STORED = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}


@dataclass(frozen=True)
class Target:
    """A patient in whose files one defect is planted."""

    root: Path
    subject: str
    """With ``sub-``."""
    recording: Path | None
    """None where the data set holds no recordings."""
    other: Path | None
    """The recording of another patient, for copies."""
    rng: np.random.Generator

    @property
    def place(self) -> str:
        """The recording below the folder, or the table of patients."""
        return "participants.tsv" if self.recording is None else str(self.recording.relative_to(self.root))

    def beside(self, ending: str) -> Path:
        """Return a file beside the recording, such as ``_events.tsv``."""
        if self.recording is None:
            raise ValueError("there is no recording")
        return self.recording.with_name(self.recording.stem.rpartition("_")[0] + ending)

    @property
    def described(self) -> Path:
        """The JSON sidecar of the recording."""
        if self.recording is None:
            raise ValueError("there is no recording")
        return self.recording.with_suffix(".json")

    def table(self, path: Path, change: Callable[[Rows], Rows]) -> None:
        """Change the cells of a table, its header among them."""
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()]
        path.write_text("".join("\t".join(row) + "\n" for row in change(rows)), encoding="utf-8")

    def cells(self, path: Path, column: str, change: Callable[[int, str], str]) -> None:
        """Change the cells of one column, by their row."""

        def changed(rows: Rows) -> Rows:
            at = rows[0].index(column)
            return [rows[0], *[[*r[:at], change(k, r[at]), *r[at + 1 :]] for k, r in enumerate(rows[1:])]]

        self.table(path, changed)

    def own_cell(self, column: str, value: str) -> None:
        """Write one cell of the patient's row of participants.tsv; a column that is not there is added."""

        def changed(rows: Rows) -> Rows:
            if column not in rows[0]:
                rows = [[*row, column if not k else "n/a"] for k, row in enumerate(rows)]
            at = rows[0].index(column)
            return [[*r[:at], value, *r[at + 1 :]] if r[0] == self.subject else r for r in rows]

        self.table(self.root / "participants.tsv", changed)

    def json(self, **changes: object) -> None:
        """Change keys of the sidecar; None removes one."""
        content = {**json.loads(self.described.read_text(encoding="utf-8-sig")), **changes}
        kept = {key: value for key, value in content.items() if value is not None}
        self.described.write_text(json.dumps(kept), encoding="utf-8")

    @contextmanager
    def samples(self) -> Iterator[Numbers]:
        """Give the stored numbers of the recording to be changed in place, and write them back."""
        if self.recording is None:
            raise ValueError("there is no recording")
        if self.recording.suffix == ".edf":
            with _edf_samples(self.recording) as values:
                yield values
        else:
            with _brainvision_samples(self.recording) as values:
                yield values


@contextmanager
def _edf_samples(path: Path) -> Iterator[Numbers]:
    header, _ = read_header(path)
    content = bytearray(path.read_bytes())
    raw = np.frombuffer(content, "<i2", offset=header.header_bytes).reshape(header.records, -1)
    data = [index for index, signal in enumerate(header.signals) if not signal.is_annotations]
    begins = np.cumsum([0, *(signal.samples for signal in header.signals)])
    parts = [raw[:, begins[index] : begins[index + 1]] for index in data]
    values = np.stack([part.reshape(-1).astype(np.float64) for part in parts])
    yield values
    for part, row in zip(parts, values, strict=True):
        part[:] = np.clip(np.rint(row), -32768, 32767).reshape(part.shape)
    path.write_bytes(bytes(content))


@contextmanager
def _brainvision_samples(path: Path) -> Iterator[Numbers]:
    fields = dict(line.partition("=")[::2] for line in path.read_text(encoding="utf-8-sig").splitlines())
    data = path.parent / fields["DataFile"].strip()
    kind = STORED[fields["BinaryFormat"].strip()]
    count = int(fields["NumberOfChannels"])
    raw = np.fromfile(data, kind)
    multiplexed = fields["DataOrientation"].strip().upper() == "MULTIPLEXED"
    values = (raw.reshape(-1, count).T if multiplexed else raw.reshape(count, -1)).astype(np.float64)
    yield values
    (values.T if multiplexed else values).astype(kind).tofile(data)

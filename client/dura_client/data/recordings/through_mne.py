"""Recordings that MNE reads, with everything it says turned into notes; samples are read in blocks.

``verbose="error"`` is never passed: it silences MNE's warnings as well. What MNE says is caught and looked up in
:data:`SAYINGS`; a sentence that is not known becomes a note of its own.
"""

from __future__ import annotations

import itertools
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.findings.finding import counted
from dura_client.data.recordings.source import Mark, Note, Piece, Signal, Unreadable, volts_of

SAYINGS: tuple[tuple[str, str], ...] = (
    (r"Omitted \d+ annotation|Limited \d+ annotation", "EV-END"),
    (r"Number of records from the header|Invalid tag with only", "FILE-CUT"),
    (r"Channel names are not unique", "CH-DUP"),
    (r"Scaling factor will not be defined|Physical range is not defined", "CH-CAL"),
    (r"Channels contain different (high|low)pass|Highpass cutoff frequency|Low-?pass|High-?pass", "FILT-MIX"),
    (r"Loading an EDF with mixed sampling", "RATE-MIX"),
    (r"Invalid measurement date", "DATE-BAD"),
    (r"Invalid patient information", "ID-HEAD"),
    (r"Header information is incorrect for record length", "HYP-ONLY"),
    (r"MarkerFile .* not found", "BV-MARK"),
    (r"n_channels|number of channels", "BV-SIZE"),
    (r"This filename .* does not conform", "FILE-KNOWN"),
    (r"Data file name in EEG\.data .* is incorrect", "FILE-PART"),
    (r"Online software filter|coordinate information|Not setting positions|impedance", ""),
    (r"[Ee]stimation of montage|The data contains 'boundary' events", ""),
    (r"Could not (parse|find|determine) .*(impedance|reference|measurement date)", ""),
)
"""Beginning of what MNE warns of, and the kind of finding; empty where another check says it better."""
JOINTS = ("boundary", "EDGE boundary", "BAD_ACQ_SKIP")
SEGMENT = "New Segment/"
_PATH = re.compile(r"(/[^\s'\"]+)+/?")


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what MNE warns of while the block runs; process-wide, so never in two threads."""
    said: list[str] = []
    silent = _Silent()
    logger = logging.getLogger("mne")
    old = list(logger.handlers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logger.handlers = [silent]
        try:
            yield said
        finally:
            logger.handlers = old
            said += [str(item.message) for item in caught]


class _Silent(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Drop a message of progress."""


def notes_of(said: Sequence[str]) -> list[Note]:
    """Return what a reader said as notes, without paths."""
    notes = []
    for sentence in said:
        known = next((code for pattern, code in SAYINGS if re.search(pattern, sentence)), "READER-SAID")
        if known:
            first = _PATH.sub("...", " ".join(sentence.split()))[:300]
            notes.append(Note(known, f"the reader says: {first}"))
    return notes


@dataclass(frozen=True)
class MneSource:
    """A recording that MNE has opened and not loaded."""

    raw: Any
    signals: tuple[Signal, ...]
    marks: tuple[Mark, ...]
    notes: tuple[Note, ...]
    joints: tuple[int, ...] = field(default=())
    """Samples before which something is missing."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Names of header fields that may identify a person."""
        subject = self.raw.info["subject_info"] or {}
        telling = ("his_id", "first_name", "middle_name", "last_name", "birthday")
        found = [f"subject_info.{key}" for key in telling if subject.get(key)]
        return (*found, *(name for name in ("experimenter", "description") if self.raw.info[name]))

    @property
    def person(self) -> str:
        """What the header says of the patient, for comparing."""
        subject = self.raw.info["subject_info"] or {}
        words = [str(subject.get(key) or "") for key in ("his_id", "first_name", "last_name", "birthday")]
        return " ".join(word for word in words if word).lower()

    def pieces(self, rate: float) -> tuple[Piece, ...]:
        """Return the stretches between joints; the clock of these formats stops in a gap."""
        edges = [0, *self.joints, self.raw.n_times]
        return tuple(Piece(begin, end - begin, begin / rate) for begin, end in itertools.pairwise(edges) if end > begin)

    def read(self, channels: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        """Return samples in volts."""
        with listening():
            found: NDArray[np.float64] = self.raw.get_data(picks=list(channels), start=start, stop=stop, verbose="info")
        return found


def open_with_mne(
    path: Path, reader: Callable[..., Any] = mne.io.read_raw, units: Sequence[str] = (), notes: Sequence[Note] = ()
) -> MneSource:
    """Open a recording with one of MNE's readers.

    Args:
        path: of the recording.
        reader: of MNE.
        units: of the channels, where the header was read before; otherwise those that MNE knows.
        notes: what was noticed in the header.

    Raises:
        Unreadable: the reader failed; its words are kept without paths.
    """
    with listening() as said:
        try:
            raw = reader(path, preload=False, verbose="info")
        except Exception as error:  # readers raise many kinds for broken files
            raise _translated(error) from error
    if not raw.n_times or not raw.ch_names:
        raise Unreadable("VAL-NONE", "it holds no sample")
    rate = float(raw.info["sfreq"])
    onsets = [float(onset) - raw.first_time for onset in raw.annotations.onset]
    texts = [str(text) for text in raw.annotations.description]
    joints = sorted(
        {
            round(onset * rate)
            for onset, text in zip(onsets, texts, strict=True)
            if (text in JOINTS or text.startswith(SEGMENT)) and 0 < round(onset * rate) < raw.n_times
        }
    )
    marks = tuple(
        Mark(onset, float(duration), text)
        for onset, duration, text in zip(onsets, raw.annotations.duration, texts, strict=True)
    )
    gaps = [Note("GAP-FOUND", f"{counted(len(joints), 'place')} where the recording was interrupted")] if joints else []
    return MneSource(raw, _signals(raw, rate, units), marks, (*notes, *notes_of(said), *gaps), tuple(joints))


def _signals(raw: Any, rate: float, units: Sequence[str]) -> tuple[Signal, ...]:
    known = list(units) if len(units) == len(raw.ch_names) else [raw._orig_units.get(name, "") for name in raw.ch_names]  # noqa: SLF001  # MNE keeps the file's units nowhere else
    kinds = {"eeg": "", "stim": "TRIG", "eog": "EOG", "ecg": "ECG", "emg": "EMG", "misc": ""}
    return tuple(
        Signal(
            label=name,
            rate=rate,
            unit=unit,
            volts=volts_of(unit) if unit else 1.0,
            kind=kinds.get(kind, kind.upper()),
        )
        for name, kind, unit in zip(raw.ch_names, raw.get_channel_types(), known, strict=True)
    )


def _translated(error: Exception) -> Unreadable:
    words = _PATH.sub("...", " ".join(str(error).split()))[:300]
    if isinstance(error, FileNotFoundError):
        return Unreadable("FILE-PART", f"the reader misses a file: {words}")
    if "trials" in words or "epochs" in words:
        return Unreadable("FILE-EPOCH", f"the reader says: {words}")
    if (
        "could not read bytes" in words
        or "truncated" in words
        or "reshape" in words
        or "buffer" in words
        or "No data in this range" in words
    ):
        return Unreadable("FILE-CUT", f"the file ends too early; the reader says: {words}")
    return Unreadable("FILE-READ", f"the reader says: {type(error).__name__}: {words}")

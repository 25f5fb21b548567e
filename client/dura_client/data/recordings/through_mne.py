"""Recordings that MNE reads, with everything it says turned into notes; samples are read in blocks.

``verbose="error"`` is never passed: it silences MNE's warnings as well. What MNE says is caught and looked up in
:data:`SAYINGS`; of a sentence that is not known, a note says what it is about.
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

SAYINGS: tuple[tuple[str, str, str], ...] = (
    (r"Omitted \d+ annotation", "EV-END", "marks lie outside the recording and were left out"),
    (r"Limited \d+ annotation", "EV-END", "marks reach beyond the recording's end and were cut there"),
    (r"Number of records from the header", "FILE-CUT", "the header declares another length than the file has"),
    (r"Invalid tag with only", "FILE-CUT", "the file ends in the middle of a block"),
    (r"Channel names are not unique", "CH-DUP", "several channels have one name; the reader numbered them"),
    (r"Scaling factor will not be defined|Physical range is not defined", "CH-CAL", "a channel has no calibration"),
    (
        r"Channels contain different (high|low)pass|Highpass cutoff frequency|Low-?pass|High-?pass",
        "FILT-MIX",
        "the recorder's filters differ between channels, or contradict each other",
    ),
    (r"Loading an EDF with mixed sampling", "RATE-MIX", "channels have different sampling rates"),
    (r"Invalid measurement date", "DATE-BAD", "the date of the recording is not valid"),
    (r"Invalid patient information", "ID-HEAD", "the patient field of the header holds free text"),
    (r"Header information is incorrect for record length", "HYP-ONLY", "the header gives data records no length"),
    (r"MarkerFile .* not found", "BV-MARK", "the marker file that the header names is not there"),
    (r"n_channels|number of channels", "BV-SIZE", "header and data do not have the same number of channels"),
    (r"This filename .* does not conform", "FILE-KNOWN", "the file's name has not the form that its format asks for"),
    (
        r"Data file name in EEG\.data .* is incorrect",
        "FILE-PART",
        "the header names another data file; the one beside it was read",
    ),
    (r"complex|imaginary", "VAL-UNIT", "samples are complex numbers, of which the real part was read"),
    (r"DataPoints", "", ""),
    (r"Online software filter|coordinate information|Not setting positions|impedance", "", ""),
    (r"[Ee]stimation of montage|The data contains 'boundary' events", "", ""),
    (r"Could not (parse|find|determine) .*(impedance|reference|measurement date)", "", ""),
)
"""What MNE warns of, the kind of finding, and what it means in dura's words; empty where another check says it better.

A reader's own sentence may hold what stands in a header, such as a name or a path, so it is never repeated.
"""
TOPICS: tuple[tuple[str, str], ...] = (
    (r"annotation|event|trigger|marker|stim", "events"),
    (r"channel|electrode|montage|reference|digit|position|location", "channels or their positions"),
    (r"date|time zone|timestamp|subject|patient|birth", "dates or the person"),
    (r"unit|scal|calib|gain|range", "units or calibration"),
    (r"record|byte|file|header|version|block|sample|truncat|tag", "the file's structure"),
    (r"filter|freq|rate", "filters or rates"),
)
"""Words of a sentence that is not known, and what it is about."""
SKIPPED = "BAD_ACQ_SKIP"
NO_LOW_PASS = 0.49
"""Share of the sampling rate from which a low-pass is what the rate itself cuts."""
JOINTS = ("boundary", "EDGE boundary", SKIPPED)
SEGMENT = "New Segment/"
TYPES = {
    "eeg": "",
    "misc": "",
    "stim": "TRIG",
    "mag": "MEGMAG",
    "grad": "MEGGRADPLANAR",
    "ref_meg": "MEGREFMAG",
}
"""BIDS type of each of MNE's types, where it is another word; empty where only a name can tell."""
MAGNETIC_UNITS = {"MEGMAG": "T", "MEGREFMAG": "T", "MEGGRADPLANAR": "T/m"}
"""MNE gives these in tesla, and gradients in tesla per metre, whatever the file's own scale."""


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
    """Return what a reader said as notes in dura's own words."""
    notes = []
    for sentence in said:
        known = next(((code, words) for pattern, code, words in SAYINGS if re.search(pattern, sentence)), None)
        code, words = known or ("READER-SAID", f"it is about {_topic(sentence)}")
        if code:
            notes.append(Note(code, f"the reader noticed: {words}" if known else f"the reader warned, and {words}"))
    return list(dict.fromkeys(notes))


def _topic(sentence: str) -> str:
    """Say what a sentence is about, without a word of it."""
    return next((topic for pattern, topic in TOPICS if re.search(pattern, sentence.lower())), "something else")


@dataclass(frozen=True)
class MneSource:
    """A recording that MNE has opened and not loaded."""

    raw: Any
    signals: tuple[Signal, ...]
    marks: tuple[Mark, ...]
    notes: tuple[Note, ...]
    joints: tuple[int, ...] = field(default=())
    """Samples before which something is missing."""
    skipped: tuple[tuple[int, int], ...] = ()
    """Begin and end, in samples, of what the recorder did not store; MNE gives zeros there."""
    trigger: int | None = None
    """Channel of the codes that a stimulus computer sent, if it is to be read."""

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
        """Return the stretches between joints; only what a recorder skipped takes time by the clock."""
        edges = [0, *self.joints, self.raw.n_times]
        return tuple(
            Piece(begin, end - begin, begin / rate)
            for begin, end in itertools.pairwise(edges)
            if end > begin and not any(first <= begin and end <= last for first, last in self.skipped)
        )

    def read(self, channels: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        """Return samples in volts, tesla or tesla per metre.

        Raises:
            Unreadable: they are not there, and why.
        """
        picks = list(channels)
        try:
            with listening():
                found: NDArray[np.float64] = self.raw.get_data(picks=picks, start=start, stop=stop, verbose="info")
        except Exception as error:  # of a file whose header promises more than it holds, readers raise many kinds
            raise _translated(error) from error
        return found

    def digits(self, channel: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the whole numbers (samples,) of a channel of codes."""
        found: NDArray[np.int64] = np.rint(self.read([channel], start, stop)[0]).astype(np.int64)
        return found


def open_with_mne(
    path: Path, reader: Callable[..., Any] | None = None, units: Sequence[str] = (), notes: Sequence[Note] = ()
) -> MneSource:
    """Open a recording with one of MNE's readers.

    Args:
        path: of the recording.
        reader: of MNE; by default the one that the name asks for.
        units: of the channels, where the header was read before; otherwise those that MNE knows.
        notes: what was noticed in the header.

    Raises:
        Unreadable: the reader failed, and why, in dura's words.
    """
    read = mne.io.read_raw if reader is None else reader
    with listening() as said:
        try:
            raw = read(path, preload=False, verbose="info")
        except Exception as error:  # readers raise many kinds for broken files
            raise _translated(error) from error
    if not raw.n_times or not raw.ch_names:
        raise Unreadable("VAL-NONE", "it holds no sample")
    rate = float(raw.info["sfreq"])
    onsets = [float(onset) - raw.first_time for onset in raw.annotations.onset]
    texts = [str(text) for text in raw.annotations.description]
    samples = [round(onset * rate) for onset in onsets]
    ends = [round((onset + float(more)) * rate) for onset, more in zip(onsets, raw.annotations.duration, strict=True)]
    skipped = tuple((at, end) for at, end, text in zip(samples, ends, texts, strict=True) if text == SKIPPED)
    edges = [at for at, text in zip(samples, texts, strict=True) if text in JOINTS or text.startswith(SEGMENT)]
    joints = sorted({at for at in (*edges, *(end for _, end in skipped)) if 0 < at < raw.n_times})
    marks = tuple(
        Mark(onset, float(duration), text)
        for onset, duration, text in zip(onsets, raw.annotations.duration, texts, strict=True)
    )
    gaps = [Note("GAP-FOUND", f"{counted(len(joints), 'place')} where the recording was interrupted")] if joints else []
    return MneSource(raw, _signals(raw, rate, units), marks, (*notes, *notes_of(said), *gaps), tuple(joints), skipped)


def _signals(raw: Any, rate: float, units: Sequence[str]) -> tuple[Signal, ...]:
    known = list(units) if len(units) == len(raw.ch_names) else [raw._orig_units.get(name, "") for name in raw.ch_names]  # noqa: SLF001  # MNE keeps the file's units nowhere else
    high, low = float(raw.info["highpass"] or 0.0), float(raw.info["lowpass"] or 0.0)
    band = (high or None, low if 0 < low < NO_LOW_PASS * rate else None)
    types = [TYPES.get(kind, kind.upper()) for kind in raw.get_channel_types()]
    bad = set(raw.info["bads"])
    return tuple(
        Signal(
            label=name,
            rate=rate,
            unit=MAGNETIC_UNITS.get(kind, unit),
            volts=None if kind in MAGNETIC_UNITS else volts_of(unit) if unit else 1.0,
            kind=kind,
            bad=name in bad,
            band=band,
        )
        for name, kind, unit in zip(raw.ch_names, types, known, strict=True)
    )


def _translated(error: Exception) -> Unreadable:
    """Return why a reader failed, by what it looked for; its own words may hold what stands in a header."""
    words = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError):
        return Unreadable("FILE-PART", "a file that belongs to the recording, by its header, is not there")
    if "Internal Active Shielding" in words:
        return Unreadable(
            "MEG-SHIELD", "it was recorded with internal active shielding and has not been through MaxFilter"
        )
    if re.search(r"[Ss]plit raw file|next file", words):
        return Unreadable("FILE-PART", "it is continued in a file that is not there under the name that it gives")
    if "trials" in words or "epochs" in words:
        return Unreadable("FILE-EPOCH", "it holds trials that were cut out before, and no continuous recording")
    if re.search(r"could not read bytes|truncated|reshape|buffer|No data in this range", words):
        return Unreadable("FILE-CUT", "the file ends too early")
    return Unreadable("FILE-READ", f"the reader ended with {type(error).__name__}, about {_topic(words)}")

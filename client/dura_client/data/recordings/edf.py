"""EDF and BDF files as a source of samples, read in blocks at each channel's own rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.recordings.content import require_kind
from dura_client.data.recordings.edf_clock import Clock, gap_notes, pieces_of, read_clock
from dura_client.data.recordings.edf_header import EdfHeader, EdfSignal, read_header
from dura_client.data.recordings.edf_text import date_note, identity_of, person_of
from dura_client.data.recordings.source import Mark, Note, Piece, Signal, Unreadable, volts_of

STATUS = "status"
"""Label of the channel of triggers in BDF files."""


@dataclass(frozen=True)
class EdfSource:
    """An opened EDF or BDF file; nothing of it stays in memory but its header and annotations."""

    path: Path
    header: EdfHeader
    clock: Clock
    notes: tuple[Note, ...]

    @cached_property
    def places(self) -> tuple[int, ...]:
        """Index in the header of each signal that holds samples."""
        return tuple(index for index, signal in enumerate(self.header.signals) if not signal.is_annotations)

    @cached_property
    def signals(self) -> tuple[Signal, ...]:
        """Signals that hold samples."""
        return tuple(self._signal(self.header.signals[index]) for index in self.places)

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Annotations."""
        return self.clock.marks

    @property
    def trigger(self) -> int | None:
        """Channel of the codes that a stimulus computer sent."""
        return next((index for index, signal in enumerate(self.signals) if signal.kind == "TRIG"), None)

    @property
    def identity(self) -> tuple[str, ...]:
        """Header fields that may identify a person."""
        return identity_of(self.header)

    @property
    def person(self) -> str:
        """The patient field, if it says anything."""
        return person_of(self.header)

    def pieces(self, rate: float) -> tuple[Piece, ...]:
        """Return the stretches without a gap."""
        return pieces_of(self.header, self.clock.onsets, rate)

    def read(self, channels: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        """Return samples of channels of one rate, in volts."""
        chosen = [self.header.signals[self.places[index]] for index in channels]
        in_record = chosen[0].samples if chosen else 1
        if any(signal.samples != in_record for signal in chosen):
            raise ValueError("channels of one rate are expected")
        first, last = start // in_record, -(-stop // in_record)
        raw = self._records(first, last)
        values = np.empty((len(chosen), (last - first) * in_record))
        for row, (index, signal) in enumerate(zip(channels, chosen, strict=True)):
            values[row] = self._digits(raw, self.places[index]).reshape(-1)
            _calibrate(values[row], signal)
        offset = first * in_record
        return values[:, start - offset : stop - offset]

    def digits(self, channel: int, start: int, stop: int) -> NDArray[np.int64]:
        """Return the stored numbers of one channel: what a status channel means."""
        in_record = self.header.signals[self.places[channel]].samples
        first, last = start // in_record, -(-stop // in_record)
        numbers = self._digits(self._records(first, last), self.places[channel]).reshape(-1)
        return numbers[start - first * in_record : stop - first * in_record].astype(np.int64)

    def _records(self, first: int, last: int) -> NDArray[np.uint8]:
        header = self.header
        last = min(last, header.records)
        with self.path.open("rb") as stream:
            stream.seek(header.header_bytes + first * header.record_bytes)
            raw = np.fromfile(stream, dtype=np.uint8, count=(last - first) * header.record_bytes)
        if len(raw) < (last - first) * header.record_bytes:
            raise Unreadable("FILE-CUT", "the file became shorter while it was read")
        return raw.reshape(-1, header.record_bytes)

    def _digits(self, raw: NDArray[np.uint8], place: int) -> NDArray[np.int32] | NDArray[np.int16]:
        """Return the stored numbers (records, samples) of one signal."""
        width = self.header.sample_bytes
        begin = width * sum(signal.samples for signal in self.header.signals[:place])
        part = np.ascontiguousarray(raw[:, begin : begin + width * self.header.signals[place].samples])
        if width == 2:  # noqa: PLR2004  # bytes of an EDF sample
            return part.view("<i2")
        wide = np.zeros((len(part), part.shape[1] // 3, 4), dtype=np.uint8)
        wide[..., 1:] = part.reshape(len(part), -1, 3)
        return wide.view("<i4")[..., 0] >> 8

    def _signal(self, signal: EdfSignal) -> Signal:
        kind = "TRIG" if self.header.bdf and signal.label.lower() == STATUS else ""
        return Signal(
            label=signal.label,
            rate=self.header.rate(signal),
            unit=signal.unit,
            volts=volts_of(signal.unit),
            kind=kind,
            fault=signal.fault,
            inverted=signal.is_inverted,
            band=signal.band,
            filter_text=signal.prefilter,
            filter_told=signal.is_filter_told,
        )


def _calibrate(values: NDArray[np.float64], signal: EdfSignal) -> None:
    """Turn stored numbers into volts (or the signal's own unit), in place."""
    low, high = signal.digital
    if high == low:
        values[:] = np.nan
        return
    gain = (signal.physical[1] - signal.physical[0]) / (high - low)
    factor = volts_of(signal.unit)
    values -= low
    values *= gain
    values += signal.physical[0]
    values *= 1.0 if factor is None else factor


def open_edf(path: Path) -> EdfSource:
    """Open an EDF or BDF file.

    Raises:
        Unreadable: damaged, cut to nothing, annotations only, or with times that go back.
    """
    require_kind(path, "BDF" if path.suffix.lower() == ".bdf" else "EDF")
    header, notes = read_header(path)
    clock = read_clock(path, header, fits=not any(note.code == "FILE-CUT" for note in notes))
    data = [signal for signal in header.signals if not signal.is_annotations]
    if not data:
        spans = f"{len(clock.marks)} annotations, such as stages of sleep"
        raise Unreadable("HYP-ONLY", f"it has {spans}, and no channel")
    odd = [signal.label for signal in header.signals if signal.is_annotations and not _usual(signal.label)]
    found = [*notes, *clock.notes, *date_note(header)]
    if odd:
        found.append(Note("CH-ALIAS", f"the annotation signal is written {odd[0]!r}; it was read as annotations"))
    rate = max(header.rate(signal) for signal in data)
    if rate <= 0:
        raise Unreadable("FILE-HEAD", "no signal has a sampling rate above zero")
    found += gap_notes(header, pieces_of(header, clock.onsets, rate), rate)
    return EdfSource(path, header, clock, tuple(found))


def read_annotations(path: Path) -> tuple[EdfHeader, tuple[Mark, ...]] | None:
    """Return header and annotations of a file that holds annotations alone, such as a hypnogram; None for others."""
    try:
        require_kind(path, "EDF", "BDF")
        header, _ = read_header(path)
        if any(not signal.is_annotations for signal in header.signals):
            return None
        return header, read_clock(path, header, fits=True).marks
    except (Unreadable, OSError):
        return None


def _usual(label: str) -> bool:
    return label in {"EDF Annotations", "BDF Annotations"}

"""What every opened recording offers, whatever its format: channels, stretches without a gap, marks, samples in blocks.

Times are seconds by the recorder's clock from the first sample. In a recording with gaps the clock runs on while
samples do not, so a time is turned into a sample by :func:`sample_at` only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_client.data.findings.grade import Grade


@dataclass(frozen=True, slots=True)
class Note:
    """What was noticed in a recording; who knows the recording's place makes a finding of it."""

    code: str
    cause: str
    remedy: str | None = None
    grade: Grade | None = None


class Unreadable(Exception):
    """A recording cannot be used, and why."""

    def __init__(self, code: str, cause: str, remedy: str | None = None) -> None:
        super().__init__(cause)
        self.note = Note(code, cause, remedy)


@dataclass(frozen=True, slots=True)
class Mark:
    """An annotation of the file itself."""

    onset: float
    """Seconds by the clock from the first sample."""
    duration: float
    """Seconds."""
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of samples without a gap."""

    first: int
    """Index of its first sample among all samples of the recording."""
    samples: int
    clock: float
    """Seconds by the clock of its first sample."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One channel as the file names it."""

    label: str
    rate: float
    """Hz."""
    unit: str
    """As the file writes it; empty if it does not."""
    volts: float | None
    """Factor from the unit to volts; None if the unit is none of a voltage."""
    kind: str = ""
    """BIDS type that the file itself declares, such as EEG or TRIG; empty if it does not."""
    fault: str = ""
    """Why its samples mean nothing, such as a missing calibration; empty if they do."""
    bad: bool = False
    """Whether the file itself marks the channel as bad."""
    inverted: bool = False
    """Whether the header turns the scale upside down; the samples are read as the header says."""
    filter_text: str = ""
    """What the file says of the recorder's filter."""
    filter_told: bool = True
    """Whether all of it was understood."""
    band: tuple[float | None, float | None] = (None, None)
    """High-pass and low-pass of the recorder in Hz, where the file says so."""


class Source(Protocol):
    """An opened recording."""

    @property
    def signals(self) -> tuple[Signal, ...]:
        """All channels in the order of the file, without those that hold annotations."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """What was noticed while it was opened."""

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Annotations of the file, in the order of the file."""

    @property
    def identity(self) -> tuple[str, ...]:
        """Names of header fields that may identify a person; never their values."""

    @property
    def person(self) -> str:
        """What the header says of the patient, for comparing within the site and never shown; empty if nothing."""

    def pieces(self, rate: float) -> tuple[Piece, ...]:
        """Return the stretches without a gap, for channels of this rate."""

    def read(self, channels: Sequence[int], start: int, stop: int) -> NDArray[np.float64]:
        """Return samples ``start`` to ``stop`` (channels, samples) of channels of one rate, in volts.

        A channel whose unit is no voltage comes in its own unit.
        """


def length(pieces: Sequence[Piece]) -> int:
    """Return the number of samples of all pieces."""
    return pieces[-1].first + pieces[-1].samples if pieces else 0


def sample_at(seconds: float, rate: float, pieces: Sequence[Piece]) -> int | None:
    """Return the sample at a time by the clock, or None in a gap, before the start or beyond the end."""
    index = bisect_right(pieces, seconds + 0.5 / rate, key=lambda piece: piece.clock) - 1
    if index < 0:
        return None
    piece = pieces[index]
    offset = round((seconds - piece.clock) * rate)
    return piece.first + offset if 0 <= offset < piece.samples else None


MICRO = {"uV": 1e-6, "µV": 1e-6, "μV": 1e-6, "microV": 1e-6, "uVolt": 1e-6, "µVolt": 1e-6, "μVolt": 1e-6}
MAGNETIC = ("T", "T/m")
"""Units of magnetometers and of gradiometers."""
UNITS = {**MICRO, "mV": 1e-3, "mVolt": 1e-3, "V": 1.0, "Volt": 1.0, "nV": 1e-9}
"""Unit texts that say a voltage, exactly as they are written; ``UV`` and the like are not guessed."""


def volts_of(unit: str) -> float | None:
    """Return the factor from a unit to volts, or None if its text is no voltage."""
    return UNITS.get(unit.strip())

"""Writes a CTF system's folder byte by byte: description (.res4) and samples (.meg4), in trials, with its clock."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAMES = ("MLC11-2908", "MLC12-2908", "MRC11-2908", "MRC12-2908", "BG1-2908", "UPPT001", "SCLK01-177")
TYPES = (5, 5, 5, 5, 0, 11, 17)
"""Gradiometers, a reference, the codes of a stimulus computer, the system's clock."""
GRADIOMETER = 5
FIRST_GRADE = 0x47314252
STEP = 1e-15
"""Tesla of a stored number."""
TICK = 1e-6
"""Seconds of a stored number of the clock."""
RUN_DESCRIPTION = 1844
"""Place of the text that follows the fixed part of a .res4 file."""


def write_ctf(
    folder: Path, values: NDArray[np.float64], codes: NDArray[np.int64], starts: Sequence[float], rate: float
) -> None:
    """Write a recording of trials of one length.

    Args:
        folder: with the ending .ds; it is made.
        values: of the four gradiometers (sensors, samples), tesla.
        codes: (samples,).
        starts: seconds by the clock at which each trial begins.
        rate: Hz.
    """
    folder.mkdir(parents=True)
    size = values.shape[1] // len(starts)
    clock = np.concatenate([start + np.arange(size) / rate for start in starts])
    reference = np.zeros_like(clock)
    stored = np.vstack([values / STEP, reference, codes, clock / TICK]).round().astype(">i4")
    trials = [stored[:, at : at + size].tobytes() for at in range(0, stored.shape[1], size)]
    (folder / f"{folder.stem}.meg4").write_bytes(b"MEG41CP\0" + b"".join(trials))
    (folder / f"{folder.stem}.res4").write_bytes(_description(size, len(starts), rate))


def _description(size: int, trials: int, rate: float) -> bytes:
    head = struct.pack(">8s256s256s256sh255s255s", b"MEG42RS", b"", b"", b"", 0, b"12:00", b"01-Jan-2000")
    head += struct.pack(">ih", size, len(NAMES))
    head += bytes(-len(head) % 8) + struct.pack(">ddh", rate, size / rate, trials)
    head += bytes(RUN_DESCRIPTION - len(head)) + struct.pack(">h", 0)
    names = b"".join(struct.pack("32s", name.encode()) for name in NAMES)
    channels = b"".join(_channel(kind, number) for number, kind in enumerate(TYPES))
    sensors = [name for name, kind in zip(NAMES, TYPES, strict=True) if kind == GRADIOMETER]
    return head + names + channels + struct.pack(">h", len(sensors)) + b"".join(map(_compensation, sensors))


def _compensation(sensor: str) -> bytes:
    """Return what a reference takes from a sensor in the first grade of compensation; the grade is not in use."""
    references = b"".join([struct.pack("31s", b"BG1-2908"), bytes(49 * 31)])
    return struct.pack(">32siih", sensor.encode(), FIRST_GRADE, 0, 1) + references + struct.pack(">50d", *([0.0] * 50))


def _channel(kind: int, number: int) -> bytes:
    step = {11: 1.0, 17: TICK}.get(kind, STEP)
    coils = 2 if kind == GRADIOMETER else 1
    places = [_coil(number, 5.0 * coil, turn) for coil, turn in ((0, 1.0), (1, -1.0))][:coils]
    empty = _coil(0, 0.0, 0.0)
    coil = b"".join(places) + empty * (8 - coils)
    return struct.pack(">hhidddd", kind, 0, 0, 1.0, 1 / step, 1.0, 0.0) + struct.pack(">hhi", coils, 0, 0) + coil * 2


def _coil(number: int, above: float, turn: float) -> bytes:
    """Return a coil at a place of its own, in centimetres, that looks upwards or downwards."""
    return struct.pack(">3dd3ddhihd", 2.0 * number, 0.0, 12.0 + above, 0.0, 0.0, 0.0, turn, 0.0, 1, 0, 0, 1.0)

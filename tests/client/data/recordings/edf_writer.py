"""EDF and BDF files byte by byte, with whatever a header can be wrong about. Independent of the reader under test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Written:
    """One signal to write: stored numbers, and what the header says of them."""

    label: str
    numbers: NDArray[np.int64]
    in_record: int
    unit: str = "uV"
    physical: tuple[str, str] = ("-3276.8", "3276.7")
    digital: tuple[str, str] = ("-32768", "32767")
    prefilter: str = ""


@dataclass(frozen=True)
class Annotated:
    """Times of records and annotations to write."""

    onsets: Sequence[float]
    marks: Sequence[tuple[float, float, str]] = ()
    label: str = "EDF Annotations"
    size: int = 200
    """Bytes of a record's annotations."""
    encoding: str = "utf-8"


@dataclass(frozen=True)
class Header:
    """The fixed part."""

    patient: str = "X X X X"
    recording: str = "Startdate X X X X"
    date: str = "01.01.85"
    time: str = "00.00.00"
    reserved: str = "EDF+C"
    records: int | None = None
    """As declared; as many as there are by default."""
    seconds: str = "1"
    bdf: bool = False
    extra: dict[str, str] = field(default_factory=dict)


def write_edf(path: Path, signals: Sequence[Written], header: Header, annotated: Annotated | None = None) -> None:
    """Write a file."""
    width = 3 if header.bdf else 2
    records = len(signals[0].numbers) // signals[0].in_record if signals else len(annotated.onsets if annotated else ())
    fields = [
        (
            one.label,
            "",
            one.unit,
            *one.physical,
            *one.digital,
            one.prefilter,
            str(one.in_record),
            "",
        )
        for one in signals
    ]
    if annotated is not None:
        low, high = ("-8388608", "8388607") if header.bdf else ("-32768", "32767")
        fields.append((annotated.label, "", "", "-1", "1", low, high, "", str(-(-annotated.size // width)), ""))
    count = len(fields)
    declared = records if header.records is None else header.records
    head = (b"\xffBIOSEMI" if header.bdf else b"0       ") + b"".join(
        text.encode("latin-1").ljust(size)[:size]
        for text, size in (
            (header.patient, 80),
            (header.recording, 80),
            (header.date, 8),
            (header.time, 8),
            (str(256 * (count + 1)), 8),
            (header.reserved, 44),
            (str(declared), 8),
            (header.seconds, 8),
            (str(count), 4),
        )
    )
    for index, size in enumerate((16, 80, 8, 8, 8, 8, 8, 80, 8, 32)):
        head += b"".join(one[index].encode("latin-1").ljust(size)[:size] for one in fields)
    body = []
    for record in range(records):
        for one in signals:
            part = one.numbers[record * one.in_record : (record + 1) * one.in_record]
            wide = np.ascontiguousarray(part.astype("<i4")).view(np.uint8).reshape(-1, 4)[:, :width]
            body.append(wide.tobytes())
        if annotated is not None:
            body.append(_texts(record, records, annotated, width))
    path.write_bytes(head + b"".join(body))


def _texts(record: int, records: int, annotated: Annotated, width: int) -> bytes:
    """Return one record's annotations; all marks are spread over the records in order."""
    share = -(-len(annotated.marks) // max(records, 1))
    text = f"+{annotated.onsets[record]:.10g}\x14\x14\0"
    for onset, duration, name in annotated.marks[record * share : (record + 1) * share]:
        lasting = f"\x15{duration:.10g}" if duration else ""
        text += f"+{onset:.10g}{lasting}\x14{name}\x14\0"
    size = width * -(-annotated.size // width)
    content = text.encode(annotated.encoding)
    assert len(content) <= size
    return content.ljust(size, b"\0")

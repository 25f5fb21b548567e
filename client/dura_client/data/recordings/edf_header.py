"""The header of EDF and BDF files, read field by field, and whether the file has the size that it declares.

Sources: Kemp et al. 1992 (EDF), Kemp and Olivan 2003 (EDF+), biosemi.com (BDF). Text is Latin-1 at worst: every byte
has a meaning there, so a header never fails for an umlaut.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import Note, Unreadable

FIXED = 256
MOST_SIGNALS = 4096
_RESERVED = {False: {"", "EDF+C", "EDF+D"}, True: {"", "24BIT", "BDF+C", "BDF+D"}}
ANNOTATIONS = ("edf annotations", "bdf annotations")
_SIGNAL_FIELDS = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical minimum", 8),
    ("physical maximum", 8),
    ("digital minimum", 8),
    ("digital maximum", 8),
    ("prefilter", 80),
    ("samples in a record", 8),
    ("reserved", 32),
)


@dataclass(frozen=True, slots=True)
class EdfSignal:
    """One signal as the header describes it."""

    label: str
    unit: str
    physical: tuple[float, float]
    digital: tuple[float, float]
    prefilter: str
    samples: int
    """In one data record."""

    @property
    def is_annotations(self) -> bool:
        """Whether it holds text instead of samples."""
        return self.label.lower() in ANNOTATIONS

    @property
    def fault(self) -> str:
        """Why there is no calibration; empty if there is one."""
        if self.digital[0] == self.digital[1]:
            return "digital minimum = maximum"
        return "physical minimum = maximum" if self.physical[0] == self.physical[1] else ""

    @property
    def is_inverted(self) -> bool:
        """Whether a larger number means a lower voltage."""
        return (self.digital[1] - self.digital[0]) * (self.physical[1] - self.physical[0]) < 0

    @property
    def band(self) -> tuple[float | None, float | None]:
        """High-pass and low-pass in Hz, where the prefilter field has the usual form ``HP:0.1Hz LP:75Hz``."""
        found = [re.search(rf"\b{edge}{_EDGE}", self.prefilter, re.IGNORECASE) for edge in (_HIGH, _LOW)]
        high, low = (None if one is None else _plain(one[1]) * (1000 if one[2] else 1) for one in found)
        return high or None, low or None

    @property
    def is_filter_told(self) -> bool:
        """Whether everything that the prefilter field says was understood."""
        known = rf"\b({_HIGH}|{_LOW}|N|notch)({_EDGE}|[:=\s]*(DC|none|off))"
        rest = re.sub(known, "", self.prefilter, flags=re.IGNORECASE)
        return not re.sub(r"[\s;,./-]|none|n/a|DC|0", "", rest, flags=re.IGNORECASE)


_EDGE = r"[:=\s]*([0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)\s*(k?)(?:Hz)?"
_HIGH, _LOW = r"(?:HP|high[\s-]*pass)", r"(?:LP|low[\s-]*pass)"


def _plain(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


@dataclass(frozen=True, slots=True)
class EdfHeader:
    """The whole header; ``records`` is the number of complete data records that can be used."""

    bdf: bool
    patient: str
    recording: str
    date: str
    time: str
    header_bytes: int
    plus: str
    """``EDF+C``, ``EDF+D``, ``BDF+C``, ``BDF+D`` or empty."""
    records: int
    seconds: float
    """Length of a data record."""
    signals: tuple[EdfSignal, ...]

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 3 if self.bdf else 2

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return self.sample_bytes * sum(signal.samples for signal in self.signals)

    def rate(self, signal: EdfSignal) -> float:
        """Return a signal's sampling rate in Hz."""
        return signal.samples / self.seconds if self.seconds else 0.0


def read_header(path: Path) -> tuple[EdfHeader, tuple[Note, ...]]:
    """Return the header of a file and what is remarkable in it.

    Raises:
        Unreadable: a field has no meaning, or the file was damaged by a conversion of line ends.
    """
    with path.open("rb") as stream:
        fixed = stream.read(FIXED)
        if len(fixed) < FIXED:
            raise Unreadable("FILE-HEAD", f"the file ends after {len(fixed)} bytes, inside its header")
        header, count = _fixed(fixed)
        rest = stream.read(FIXED * count)
    if len(rest) < FIXED * count:
        raise Unreadable("FILE-HEAD", f"the file ends inside its header, which describes {count} signals")
    header = replace(header, signals=_signals(rest, count))
    if not header.record_bytes:
        raise Unreadable("FILE-HEAD", "the header declares signals without a sample")
    data = [signal for signal in header.signals if not signal.is_annotations]
    if data and not header.seconds:
        raise Unreadable("FILE-HEAD", "the header declares data records of 0 seconds")
    records, notes = _size(path, header)
    reserved = fixed[192:236].decode("latin-1").strip(" \0")
    if reserved[:5] not in _RESERVED[header.bdf]:
        cause = "the reserved field of the header is none that the format knows; the file was read without EDF+ or BDF+"
        remedy = "Nothing needs to be done if channels and times are right."
        notes = (*notes, Note("FILE-HEAD", cause, remedy, Grade.KNOW))
    return replace(header, records=records), notes


def _fixed(fixed: bytes) -> tuple[EdfHeader, int]:
    text = [fixed[a:b].decode("latin-1").strip(" \0") for a, b in ((8, 88), (88, 168), (168, 176), (176, 184))]
    count = _whole(fixed[252:256], "number of signals")
    header_bytes = _whole(fixed[184:192], "number of bytes in the header")
    if not 0 < count <= MOST_SIGNALS:
        raise Unreadable("FILE-HEAD", f"the field number of signals holds {count}")
    if header_bytes != FIXED * (count + 1):
        raise Unreadable(
            "FILE-HEAD",
            (
                f"the field number of bytes in the header holds {header_bytes}, "
                f"and {count} signals need {FIXED * (count + 1)}"
            ),
        )
    seconds = _number(fixed[244:252], "duration of a data record")
    if not 0 <= seconds < math.inf:
        raise Unreadable("FILE-HEAD", f"the field duration of a data record holds {seconds:g}")
    plus = fixed[192:197].decode("latin-1")
    header = EdfHeader(
        bdf=fixed[0] == 0xFF,  # noqa: PLR2004  # the first byte of BDF
        patient=text[0],
        recording=text[1],
        date=text[2],
        time=text[3],
        header_bytes=header_bytes,
        plus=plus if plus in {"EDF+C", "EDF+D", "BDF+C", "BDF+D"} else "",
        records=_whole(fixed[236:244], "number of data records"),
        seconds=seconds,
        signals=(),
    )
    return header, count


def _signals(rest: bytes, count: int) -> tuple[EdfSignal, ...]:
    columns: dict[str, list[bytes]] = {}
    at = 0
    for name, width in _SIGNAL_FIELDS:
        columns[name] = [rest[at + index * width : at + (index + 1) * width] for index in range(count)]
        at += width * count
    found = []
    for index in range(count):
        label = columns["label"][index].decode("latin-1").strip(" \0")
        annotations = label.lower() in ANNOTATIONS

        def number(name: str, index: int = index, annotations: bool = annotations, label: str = label) -> float:
            if annotations:
                return 0.0  # nobody needs them there, and some programs leave them empty
            return _number(columns[name][index], f"{name} of the signal {label}")

        samples = _whole(columns["samples in a record"][index], f"samples in a record of the signal {label}")
        if samples < 0:
            raise Unreadable("FILE-HEAD", f"the field samples in a record of the signal {label} is below zero")
        found.append(
            EdfSignal(
                label=label,
                unit=_unit(columns["unit"][index]),
                physical=(number("physical minimum"), number("physical maximum")),
                digital=(number("digital minimum"), number("digital maximum")),
                prefilter=columns["prefilter"][index].decode("latin-1").strip(" \0"),
                samples=samples,
            )
        )
    return tuple(found)


def _unit(field: bytes) -> str:
    for encoding in ("utf-8", "latin-1"):
        try:
            return field.decode(encoding).strip(" \0")
        except UnicodeDecodeError:
            continue
    return ""


def _number(field: bytes, name: str) -> float:
    text = field.decode("latin-1").strip(" \0")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise Unreadable("FILE-HEAD", f"the field {name} is not a number")
    return value


def _whole(field: bytes, name: str) -> int:
    value = _number(field, name)
    if value != int(value):
        raise Unreadable("FILE-HEAD", f"the field {name} is not a whole number")
    return int(value)


def _size(path: Path, header: EdfHeader) -> tuple[int, tuple[Note, ...]]:
    """Return the number of complete data records, and what the file's size says."""
    body = path.stat().st_size - header.header_bytes
    whole, rest = divmod(body, header.record_bytes)
    declared = header.records
    if declared == -1:
        if not whole:
            raise Unreadable("FILE-CUT", "the file holds no complete data record")
        partly = f", the last record is not complete ({rest} bytes)" if rest else ""
        return whole, (Note("FILE-OPEN", f"the header declares no number of records; the file holds {whole}{partly}"),)
    if declared < 1:
        raise Unreadable("FILE-HEAD", f"the field number of data records holds {declared}")
    if whole == declared and not rest:
        return declared, ()
    surplus = body - declared * header.record_bytes
    if surplus > 0 and _converted(path, surplus):
        raise Unreadable(
            "FILE-CRLF", f"every line feed has become carriage return and line feed: {surplus} bytes too many"
        )
    lost = (declared - whole) * header.seconds
    if whole < declared:
        cause = f"the file ends after {whole} of {declared} data records: the last {lost:g} s are missing"
        if not whole:
            raise Unreadable("FILE-CUT", cause)
        return whole, (Note("FILE-CUT", cause),)
    cause = f"the file is {surplus} bytes longer than the header declares ({declared} data records)"
    remedy = "Find out which is right. The part that the header declares was used."
    return declared, (Note("FILE-CUT", cause, remedy, Grade.LOSES),)


def _converted(path: Path, surplus: int) -> bool:
    content = path.read_bytes()
    return content.count(b"\n") == content.count(b"\r\n") == surplus

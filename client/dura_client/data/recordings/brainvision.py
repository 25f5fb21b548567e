"""The three files of a BrainVision recording: whether they belong together and hold what the header declares.

Readers stay silent where the data file is cut or the number of channels is wrong: samples then move from channel to
channel. So sizes are compared before any sample is read.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dura_client.data.findings.finding import listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.content import kind_of, require_kind
from dura_client.data.recordings.source import Note, Unreadable

BYTES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
"""Of one sample in each binary format."""


@dataclass(frozen=True, slots=True)
class BrainVisionChannel:
    """One line of the section Channel Infos."""

    label: str
    unit: str


@dataclass(frozen=True, slots=True)
class BrainVisionHeader:
    """What the header says, as far as it was checked."""

    channels: tuple[BrainVisionChannel, ...]
    notes: tuple[Note, ...]


def check_brainvision(path: Path) -> BrainVisionHeader:
    """Check a header file against its data file and its marker file.

    Raises:
        Unreadable: parts are missing, or the data file cannot hold what is declared.
    """
    require_kind(path, "BrainVision header")
    text, notes = _text(path)
    fields = _fields(text)
    if fields.get("dataformat", "BINARY").upper() != "BINARY":
        return BrainVisionHeader(_channels(text, fields), tuple(notes))  # text: the reader counts for itself
    data = _part(path, fields, "datafile", ".eeg")
    channels = _channels(text, fields)
    names = Counter(channel.label for channel in channels)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise Unreadable("CH-DUP", f"the header lists {listed(twice)} more than once, which no reader accepts")
    _sizes(data, fields, len(channels))
    notes += _markers(path, fields)
    return BrainVisionHeader(channels, tuple(notes))


def parts_of(path: Path) -> list[Path]:
    """Return the files that a header names, wherever they lie; none if it cannot be read."""
    try:
        text, _ = _text(path)
    except (Unreadable, OSError):
        return []
    names = [_fields(text).get(key, "").replace("$b", path.stem) for key in ("datafile", "markerfile")]
    return [path.parent / name for name in names if name]


def _text(path: Path) -> tuple[str, list[Note]]:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        declared = re.search(rb"codepage\s*=\s*(\S+)", content, re.IGNORECASE)
        if declared and declared[1].upper() == b"UTF-8":
            raise Unreadable(
                "EV-ENC",
                "the header declares Codepage=UTF-8 and holds other bytes, so that no reader opens it",
                "Save the .vhdr file as UTF-8, or remove the line Codepage.",
            ) from None
        return content.decode("latin-1"), []


def _fields(text: str) -> dict[str, str]:
    settings = text.partition("[Comment]")[0]
    found: dict[str, str] = {}
    for line in settings.splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            found.setdefault(key.strip().lower(), value.strip())
    return found


def _channels(text: str, fields: dict[str, str]) -> tuple[BrainVisionChannel, ...]:
    section = re.search(r"\[Channel Infos\](.*?)(?:\n\[|\Z)", text, re.DOTALL | re.IGNORECASE)
    found = []
    for line in re.findall(r"^Ch\d+=(.*)$", section[1] if section else "", re.MULTILINE):
        parts = [part.strip().replace("\\1", ",") for part in line.split(",")]
        unit = parts[3] if len(parts) > 3 else ""  # noqa: PLR2004  # name, reference, resolution, unit
        found.append(BrainVisionChannel(parts[0], unit or "µV"))  # the format's own default
    declared = fields.get("numberofchannels", "")
    if declared != str(len(found)):
        raise Unreadable(
            "BV-SIZE", f"the header declares {declared or 'no number of'} channels and describes {len(found)}"
        )
    return tuple(found)


def _part(path: Path, fields: dict[str, str], key: str, ending: str) -> Path:
    name = fields.get(key, "").replace("$b", path.stem)
    if not name:
        raise Unreadable("FILE-PART", f"the header names no {ending} file")
    part = path.parent / name
    if part.is_symlink() or part.exists():
        kind_of(part)
        return part
    beside = path.with_suffix(ending)
    other = f"; beside it lies {beside.name}" if beside.exists() else ""
    raise Unreadable("FILE-PART", f"the header names the file {name}, which is not there{other}")


def _sizes(data: Path, fields: dict[str, str], channels: int) -> None:
    width = BYTES.get(fields.get("binaryformat", "").upper())
    if width is None:
        raise Unreadable("FILE-HEAD", f"the field BinaryFormat holds none of {', '.join(BYTES)}")
    try:
        interval = float(fields.get("samplinginterval", ""))
    except ValueError:
        interval = 0.0
    if not 0 < interval < 1e9:  # noqa: PLR2004  # microseconds; a sample in 1000 s is no recording
        raise Unreadable("FILE-HEAD", "the field SamplingInterval is not a number above zero")
    size = data.stat().st_size
    points, rest = divmod(size, width * channels)
    if rest or not points:
        raise Unreadable(
            "BV-SIZE",
            f"{data.name} has {size} bytes, which are not a whole number of samples of {channels} channels in "
            f"{width} bytes: it was cut, or the header is of another recording",
        )
    declared = fields.get("datapoints", "")
    if declared and declared != str(points):
        raise Unreadable("BV-SIZE", f"the header declares {declared} samples, {data.name} holds {points}")


def _markers(path: Path, fields: dict[str, str]) -> list[Note]:
    name = fields.get("markerfile", "").replace("$b", path.stem)
    if not name:
        return [Note("BV-MARK", "the header names no marker file: the recording itself has no events")]
    marker = path.parent / name
    try:
        if marker.exists() or marker.is_symlink():
            require_kind(marker, "BrainVision markers")
            return []
    except Unreadable as error:
        return [Note("BV-MARK", f"the marker file {name} cannot be used: {error}", grade=Grade.LOSES)]
    return [Note("BV-MARK", f"the header names the marker file {name}, which is not there")]

"""The three files of a BrainVision recording: whether they belong together and hold what the header declares.

Readers stay silent where the data file is cut or the number of channels is wrong: samples then move from channel to
channel. So sizes are compared before any sample is read.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dura_client.data.findings.finding import counted, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.content import kind_of, require_kind
from dura_client.data.recordings.edf_text import is_identifying
from dura_client.data.recordings.source import Note, Unreadable

BYTES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
"""Of one sample in each binary format."""


@dataclass(frozen=True, slots=True)
class BrainVisionChannel:
    """One line of the section Channel Infos."""

    label: str
    unit: str
    reference: str
    resolution: float
    """Unit of one stored number."""


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
    _readable(text, fields)
    if fields.get("dataformat", "BINARY").upper() != "BINARY":
        return BrainVisionHeader(_channels(text, fields), tuple(notes))  # text: the reader counts for itself
    data = _part(path, fields, "datafile", ".eeg")
    channels = _channels(text, fields)
    names = Counter(channel.label for channel in channels)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise Unreadable("CH-DUP", f"the header lists {listed(twice)} more than once, which no reader accepts")
    _sizes(data, fields, len(channels))
    notes += [*_scales(channels, fields), *_markers(path, fields), *_identity(text)]
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
    found, numbers = [], []
    for number, line in re.findall(r"^Ch(\d+)=(.*)$", section[1] if section else "", re.MULTILINE):
        numbers.append(int(number))
        parts = [part.strip().replace("\\1", ",") for part in line.split(",")]
        unit = parts[3] if len(parts) > 3 else ""  # noqa: PLR2004  # name, reference, resolution, unit
        resolution = _resolution(parts)
        if resolution is None:
            cause = f"the resolution of the channel {parts[0]} is not a number other than zero"
            raise Unreadable("CH-CAL", cause, "Write it with a decimal point; a comma parts two fields of the line.")
        reference = parts[1] if len(parts) > 1 else ""
        found.append(BrainVisionChannel(parts[0], unit or "µV", reference, resolution))  # the format's own default
    declared = fields.get("numberofchannels", "")
    if declared != str(len(found)):
        raise Unreadable(
            "BV-SIZE", f"the header declares {declared or 'no number of'} channels and describes {len(found)}"
        )
    if sorted(numbers) != list(range(1, len(found) + 1)):
        last = f"Ch{len(found)}"
        raise Unreadable("BV-SIZE", f"the lines of its {len(found)} channels are not numbered from Ch1 to {last}")
    return tuple(found)


def _resolution(parts: list[str]) -> float | None:
    text = parts[2] if len(parts) > 2 else ""  # noqa: PLR2004  # name, reference, resolution
    try:
        value = float(text) if text else 1.0  # the format's own default
    except ValueError:
        return None
    unit = parts[3] if len(parts) > 3 else ""  # noqa: PLR2004
    return value if math.isfinite(value) and value != 0 and not re.fullmatch(r"[\d.]+", unit) else None


def _readable(text: str, fields: dict[str, str]) -> None:
    """Refuse what no reader of continuous recordings can use, by its true reason.

    Raises:
        Unreadable: it is such a file.
    """
    orientation = fields.get("dataorientation", "MULTIPLEXED").upper()
    if orientation not in {"MULTIPLEXED", "VECTORIZED"}:
        raise Unreadable("FILE-HEAD", "the field DataOrientation holds neither MULTIPLEXED nor VECTORIZED")
    data_format = fields.get("dataformat", "BINARY").upper()
    if data_format not in {"BINARY", "ASCII"}:
        raise Unreadable("FILE-HEAD", "the field DataFormat holds neither BINARY nor ASCII")
    if data_format == "ASCII" and "[ascii infos]" not in text.lower():
        raise Unreadable("FILE-HEAD", "it declares samples as text (ASCII) and has no section that describes the text")
    if fields.get("datatype", "TIMEDOMAIN").upper() != "TIMEDOMAIN":
        raise Unreadable("FILE-KIND", "it holds a spectrum or averages (DataType), and no recording over time")
    if fields.get("segmentationtype", "NOTSEGMENTED").upper() not in {"NOTSEGMENTED", ""}:
        raise Unreadable("FILE-EPOCH", "its header declares segments (SegmentationType)")


def _scales(channels: tuple[BrainVisionChannel, ...], fields: dict[str, str]) -> list[Note]:
    """Return what is odd in how channels are scaled and referenced."""
    notes = []
    if fields.get("dataorientation", "").upper() == "VECTORIZED" and "datapoints" not in fields:
        cause = "it declares channels one after the other (VECTORIZED) and no DataPoints, by which they are parted"
        notes.append(Note("BV-SIZE", cause, "Look at the recording: if all channels look alike, the order is wrong."))
    inverted = [channel.label for channel in channels if channel.resolution < 0]
    if inverted:
        cause = f"{len(inverted)} of {len(channels)} channels ({listed(inverted)}): the resolution is below zero"
        notes.append(Note("CH-POL", cause))
    references = sorted({channel.reference for channel in channels if channel.reference})
    if len(references) > 1:
        notes.append(Note("CH-REF", f"the header gives the references {listed(references)}"))
    elif references and any(channel.label == references[0] for channel in channels):
        notes.append(Note("CH-REF", f"the header names {references[0]} as the reference, and it is a channel as well"))
    return notes


def _identity(text: str) -> list[Note]:
    """Say which lines of the header, its comment among them, tell who the patient is; never what they say."""
    keys = dict(re.findall(r"^\s*([A-Za-z][\w .-]*?)\s*[:=]\s*(\S.*)$", text, re.MULTILINE))
    telling = sorted(key for key, value in keys.items() if is_identifying(key) and key.lower() != "name")
    return [Note("ID-HEAD", f"the header fills in: {', '.join(telling)}")] if telling else []


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


def _positions(text: str, name: str) -> None:
    """Refuse markers without a position, with which no reader opens the recording.

    Raises:
        Unreadable: there is one.
    """
    lines = re.findall(r"^Mk\d+=(.*)$", text, re.MULTILINE)
    cells = [line.split(",") for line in lines]
    broken = sum(len(row) < 3 or not re.fullmatch(r"\s*-?\d+\s*", row[2]) for row in cells)  # noqa: PLR2004
    if broken:
        cause = f"{counted(broken, 'marker')} of {len(lines)} without a position that is a whole number"
        raise Unreadable("EV-ONSET", cause, f"Mend or remove these lines of {name}; no reader opens the recording.")


def _whose(path: Path, fields: dict[str, str], name: str, text: str) -> list[Note]:
    """Say where the markers are, by their names, those of another recording."""
    own = _fields(text).get("datafile", "").replace("$b", path.stem)
    wanted = fields.get("datafile", "").replace("$b", path.stem)
    if Path(name).name != name or (Path(name).stem != path.stem and path.with_suffix(".vmrk").exists()):
        cause = f"the header names {name}, the marker file of another recording; it was read"
    elif own and own != wanted:
        cause = f"the marker file {name} names the data file {own}, and the header {wanted}"
    else:
        return []
    return [Note("BV-MARK", cause, "Check that marks and recording belong together, and write the right name.")]


def _markers(path: Path, fields: dict[str, str]) -> list[Note]:
    name = fields.get("markerfile", "").replace("$b", path.stem)
    if not name:
        return [Note("BV-MARK", "the header names no marker file: the recording itself has no events")]
    marker = path.parent / name
    notes = []
    try:
        if marker.exists() or marker.is_symlink():
            require_kind(marker, "BrainVision markers")
            text, _ = _text(marker)
            _positions(text, name)
            notes += _whose(path, fields, name, text)
            return notes
    except Unreadable as error:
        if error.note.code in {"EV-ENC", "EV-ONSET", "FILE-KIND", "FILE-HEAD"}:
            code = "BV-MARK" if error.note.code.startswith("FILE") else error.note.code
            raise Unreadable(code, f"in the marker file {name}: {error}", error.note.remedy) from error
        return [Note("BV-MARK", f"the marker file {name} cannot be used: {error}", grade=Grade.LOSES)]
    return [Note("BV-MARK", f"the header names the marker file {name}, which is not there")]

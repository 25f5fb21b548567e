"""What the description of a recording (``_eeg.json``, ``_meg.json``) says, held against the recording."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.edf_text import is_identifying
from dura_client.data.recordings.source import Note
from dura_client.data.recordings.tables import MISSING

RATE_TOLERANCE = 1e-3
HIGHEST_LINE = 100.0
TYPES = {"continuous", "discontinuous", "epoched"}
LOW_PASS = re.compile(r"low[\s_-]*pass|\blp\b|high[\s_-]*cut|anti[\s_-]*alias", re.IGNORECASE)
HIGH_PASS = re.compile(r"high[\s_-]*pass|\bhp\b|low[\s_-]*cut", re.IGNORECASE)
NO_EDGE = re.compile(r"order|slope|roll|gain|dB|taps|type", re.IGNORECASE)
Band = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the recording itself is."""

    task: str
    rate: float
    seconds: float
    pieces: int
    channels: int | None
    """EEG channels by channels.tsv; None if it does not tell."""


def description_notes(content: Mapping[str, Any], name: str, measured: Measured) -> list[Note]:
    """Return where a description disagrees with its recording, or leaves out what BIDS demands."""
    notes = [*_identity(content, name), *_numbers(content, name, measured), *_type(content, name, measured)]
    demanded = ("SamplingFrequency", "EEGReference") if name == "_eeg.json" else ("SamplingFrequency",)
    absent = [key for key in demanded if key not in content]
    if absent:
        notes.append(Note("SIDE-NONE", f"{name} does not say {' and '.join(absent)}", grade=Grade.KNOW))
    task = content.get("TaskName")
    if task is not None and not _same_task(task, measured.task):
        cause = f"{name} says TaskName {shown(task)}, and the recording's name says {measured.task}"
        notes.append(Note("SIDE-RATE", cause, grade=Grade.KNOW))
    if "bipolar" in str(content.get("EEGReference", "")).lower():
        cause = f"{name} says that the reference is bipolar, although the channels have names of single electrodes"
        notes.append(Note("CH-BIP", cause, grade=Grade.LOSES))
    low, high = declared_band(content)
    if low is not None and high is not None and low >= high:
        cause = f"{name} declares a high-pass of {low:g} Hz above its low-pass of {high:g} Hz"
        notes.append(Note("SIDE-RATE", cause))
    return notes


def _identity(content: Mapping[str, Any], name: str) -> list[Note]:
    fields = sorted(
        {key for key, value in _pairs(content) if is_identifying(key) and value not in ("", None, *MISSING)}
    )
    return [Note("ID-HEAD", f"{name} fills in: {', '.join(fields)}")] if fields else []


def _pairs(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _pairs(value)
        elif not isinstance(value, list):
            yield key, value


def _numbers(content: Mapping[str, Any], name: str, measured: Measured) -> list[Note]:
    notes = []
    for key, value, unit, tolerance in (
        ("SamplingFrequency", measured.rate, " Hz", RATE_TOLERANCE * measured.rate),
        ("RecordingDuration", measured.seconds, " s", max(1.0, 0.01 * measured.seconds)),
        ("EEGChannelCount", measured.channels, " EEG channels", 0.0),
    ):
        said = content.get(key)
        if said is None or value is None or _close(said, value, tolerance):
            continue
        grade = Grade.KNOW if key == "EEGChannelCount" else None
        cause = f"{name} says {key} {shown(said)}, the recording has {value:g}{unit}"
        notes.append(Note("SIDE-RATE", cause, grade=grade))
    return notes


def _type(content: Mapping[str, Any], name: str, measured: Measured) -> list[Note]:
    said = content.get("RecordingType")
    plain = said.lower() if isinstance(said, str) else said
    if said is not None and plain not in {*TYPES, *MISSING}:
        cause = f"{name} says RecordingType {shown(said)}, which is none of {', '.join(sorted(TYPES))}"
        return [Note("SIDE-RATE", cause, grade=Grade.KNOW)]
    if plain == "discontinuous" and measured.pieces == 1:
        cause = f"{name} says RecordingType discontinuous, and the recording has no gap"
        return [Note("SIDE-RATE", cause, grade=Grade.KNOW)]
    if content.get("EpochLength") not in {None, 0, *MISSING}:
        cause = f"{name} gives an EpochLength, and the recording is continuous"
        return [Note("SIDE-RATE", cause, grade=Grade.KNOW)]
    return []


def _same_task(said: object, task: str) -> bool:
    """Tell whether a name in words may be that of a label, as ``Motor imagery`` may of ``mi``, and ``rest`` not."""
    if not isinstance(said, str):
        return False
    words = re.findall(r"[a-z0-9]+", said.lower())
    joined, initials, label = "".join(words), "".join(word[0] for word in words), task.lower()
    return bool(words) and (joined in label or label in joined or label in initials or initials == label)


def line_of(content: Mapping[str, Any]) -> tuple[float | None, str]:
    """Return the declared line frequency, or why there is none."""
    said = content.get("PowerLineFrequency")
    if said is None or said == "n/a":
        return None, "PowerLineFrequency is not declared"
    if isinstance(said, bool) or not isinstance(said, int | float) or not math.isfinite(said):
        return None, f"PowerLineFrequency is {shown(said)}, no number"
    if not 0 < said <= HIGHEST_LINE:
        return None, f"PowerLineFrequency is {said:g} Hz, which no mains has"
    return float(said), ""


def declared_band(content: Mapping[str, Any]) -> Band:
    """Return high-pass and low-pass in Hz that a description declares, the narrowest of all its filters."""
    lows, highs = [], []
    for key in ("HardwareFilters", "SoftwareFilters"):
        for path, value in _leaves(content.get(key), ""):
            if NO_EDGE.search(path) or not 0 < value < math.inf:
                continue
            if LOW_PASS.search(path):
                highs.append(value)
            elif HIGH_PASS.search(path):
                lows.append(value)
    return max(lows, default=None), min(highs, default=None)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path} {key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
    elif isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:Hz)?\s*", value)):
        yield path, float(match[1])


def narrowest(*bands: Band) -> Band:
    """Return what all filters let pass."""
    return (
        max((band[0] for band in bands if band[0] is not None), default=None),
        min((band[1] for band in bands if band[1] is not None), default=None),
    )


def _close(said: Any, value: float, tolerance: float) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool) and abs(said - value) <= tolerance


def shown(value: Any) -> str:
    """Return a value of a description as a finding shows it."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)[:40]

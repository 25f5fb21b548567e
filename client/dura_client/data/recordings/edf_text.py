"""What the texts of headers say of a person and of the date. Values are compared and never shown."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from dura_client.data.recordings.edf_header import EdfHeader
from dura_client.data.recordings.source import Note

NOTHING = {"", "X", "0", "x", "mne_anonymize", "xxxxx", "anonymous", "Anonymous"}
_PATIENT = ("patient code", "sex", "birth date", "name")
_RECORDING = ("start date", "hospital code", "technician", "equipment")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_HIDDEN = {"01.01.85"}
"""What programs write that take dates away."""
IDENTIFYING = re.compile(
    r"(first|last|sur|family|given|full|middle|patients?|subjects?|persons?|vor|nach)?(name|names|initials)"
    r"|(date|day|datum)?(of)?(birth|geburts?)(day|date|datum|stag|s?tag)?|dob|ssn|mrn|nhs(number)?|insurance.*"
    r"|address|street|zip(code)?|post(al)?code|plz|e?mail|tel(ephone)?|phone|mobile"
    r"|(patient|hospital|medicalrecord|record|case)(number|nr|no|id)|(hospital|medical)id"
)
"""Names of fields and columns, in small letters and without blanks and signs, that tell who a person is."""
OF_WHOM = re.compile(r"(patient|subject|participant|person|proband|case|technician|operator|physician|doctor)s?")
"""What may stand before such a name."""
_PIVOT = 85
"""Years of two digits from here on are of the 20th century (EDF)."""


def is_identifying(name: str) -> bool:
    """Tell whether a field of this name says who a person is; what it holds is not looked at."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return any(IDENTIFYING.fullmatch(text) for text in (plain, OF_WHOM.sub("", plain, count=1)) if text)


def identity_of(header: EdfHeader) -> tuple[str, ...]:
    """Return the names of fields that may say who the patient is."""
    if not header.plus:
        texts = {"patient field": header.patient, "recording field": header.recording}
        return tuple(name for name, text in texts.items() if _is_filled(text))
    fields = []
    words = header.patient.split()
    for name, word in zip(_PATIENT, words, strict=False):
        if word not in NOTHING and name != "sex":
            fields.append(name)
    if any(word not in NOTHING for word in words[len(_PATIENT) :]):
        fields.append("other words of the patient field")
    recording = header.recording.split()[1:]  # the first word is always "Startdate"
    if any(word not in NOTHING for word in recording[len(_RECORDING) :]):
        fields.append("other words of the recording field")
    for name, word in zip(_RECORDING, recording, strict=False):
        if word not in NOTHING and name in {"hospital code", "technician"}:
            fields.append(name)
    return tuple(fields)


def _is_filled(text: str) -> bool:
    """Tell whether a free field holds more than a date and words that stand for nothing."""
    words = [word for word in text.split() if word not in NOTHING and word != "Startdate"]
    return any(re.search(r"[^\W\d_]", word) and not re.fullmatch(r"\d\d-[A-Z]{3}-\d{4}", word) for word in words)


def person_of(header: EdfHeader) -> str:
    """Return what identifies the patient in the header, for comparing; empty if nothing does."""
    words = header.patient.split()
    born_and_called = words[2 : len(_PATIENT)] if header.plus else []
    if len(born_and_called) > 1 and not NOTHING & set(born_and_called):
        return " ".join(born_and_called).lower()
    telling = [word for word in words if word not in NOTHING and len(word) > 1]
    return " ".join(words).lower() if telling else ""


def date_note(header: EdfHeader) -> list[Note]:
    """Return notes if the start is no date or no time, or if the header names two dates."""
    return [*_start(header), *_two_dates(header)]


def _two_dates(header: EdfHeader) -> list[Note]:
    """Compare the date with the one that EDF+ writes in words, such as ``Startdate 02-MAR-2002``."""
    words = header.recording.split()
    match = re.fullmatch(r"(\d\d)-([A-Z]{3})-\d\d(\d\d)", words[1].upper()) if len(words) > 1 else None
    if match is None or match[2] not in _MONTHS or not re.fullmatch(r"\d\d\.\d\d\.\d\d", header.date):
        return []
    said = f"{match[1]}.{_MONTHS.index(match[2]) + 1:02d}.{match[3]}"
    if said == header.date or header.date in _HIDDEN:
        return []
    return [Note("DATE-BAD", "the header names one date as the start and another one in the recording field")]


def _start(header: EdfHeader) -> list[Note]:
    day = re.fullmatch(r"(\d\d)\.(\d\d)\.(\d\d)", header.date)
    clock = re.fullmatch(r"([01]\d|2[0-3])\.([0-5]\d)\.([0-5]\d)", header.time)
    if day is not None:
        century = 1900 if int(day[3]) >= _PIVOT else 2000
        try:
            when = date(century + int(day[3]), int(day[2]), int(day[1]))
        except ValueError:
            day = None
        else:
            if when > datetime.now(tz=UTC).date():
                return [Note("DATE-BAD", "the recording's date lies in the future")]
    if day is None:
        return [Note("DATE-BAD", "the recording's date is missing or is not a date")]
    return [] if clock else [Note("DATE-BAD", "the recording's start time is not a time of day")]

"""What event codes mean, where the data set itself says so: ``Levels`` in its events sidecars (BIDS).

Meanings belong to a recording: the same code may stand for the left hand in one run and for both fists in another.
Only a description that is plainly one name counts ("left hand", "Left_Hand", "LH"); a sentence is not interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dura_client.data.dataset import KNOWN_LABELS
from dura_client.data.findings.finding import listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import Note
from dura_common.study import WORD

MAX_WORDS = 3
"""A description with more words is a sentence."""


def meanings(content: Mapping[str, Any]) -> dict[str, str]:
    """Return event code to class name as the merged events sidecar of one recording declares it."""
    labels: dict[str, str] = {}
    for column in ("trial_type", "value"):
        for code, text in _levels(content.get(column)):
            name = class_name(text)
            if name and name != code:
                labels.setdefault(code, name)
    return labels


def level_notes(content: Mapping[str, Any], codes: set[str]) -> list[Note]:
    """Return what is odd in how one recording's sidecar describes the codes that the recording has."""
    notes = []
    described: dict[str, str] = {}
    for column in ("trial_type", "value"):
        said = content.get(column)
        levels = said.get("Levels") if isinstance(said, Mapping) else None
        if said is not None and not isinstance(said, Mapping):
            notes.append(Note("SIDE-JSON", f"_events.json describes {column} by something else than an object"))
        elif levels is not None and not isinstance(levels, Mapping):
            notes.append(Note("SIDE-JSON", f"the Levels of {column} in _events.json are no object; they were not used"))
        described |= dict(_levels(said))
    if described and (absent := sorted(codes - set(described))) and len(absent) < len(codes):
        notes.append(Note("EV-MAP", f"the Levels of _events.json do not describe: {listed(absent)}", grade=Grade.KNOW))
    own = meanings(content)
    turned = sorted(code for code in codes & set(own) if own[code] in codes and own[code] != code)
    if turned:
        pairs = listed(f"{code} as {own[code]}" for code in turned)
        cause = f"_events.json calls one event by the name of another: {pairs}"
        remedy = "Find out which is right; `--label CODE=CLASS` settles it for all recordings."
        notes.append(Note("EV-RUN", cause, remedy))
    return notes


def class_name(description: str) -> str:
    """Return a description as a class name, or an empty string if it is not plainly one."""
    words = re.findall(r"[A-Za-z0-9.-]+", description)
    name = "_".join(words).lower()
    if not 0 < len(words) <= MAX_WORDS or not re.match(WORD, name):
        return ""
    return KNOWN_LABELS.get(name, name)


def _levels(column: Any) -> Iterator[tuple[str, str]]:
    levels = column.get("Levels") if isinstance(column, Mapping) else None
    if not isinstance(levels, Mapping):
        return
    for code, value in levels.items():
        text = value.get("Description") if isinstance(value, Mapping) else value
        if isinstance(text, str):
            yield str(code), text

"""Whether the marks that a recording holds itself say the same as its events.tsv, which goes before."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from dura_client.data.eeg.events import Events, from_marks
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import Note, Piece, Source

APART = 0.05
"""Seconds between an event and a mark of the same moment, at most."""


def mark_notes(events: Events, source: Source, rate: float, pieces: Sequence[Piece]) -> list[Note]:
    """Return what the marks of a recording say against its events."""
    if not source.marks:
        return []
    own = from_marks(source, rate, pieces).events
    near = math.ceil(APART * rate)
    table: dict[int, set[str]] = defaultdict(set)
    for event in events.events:
        for at in range(event.sample - near, event.sample + near + 1):
            table[at].add(event.code)
    known = {event.code for event in events.events}
    alone = [event for event in own if event.sample not in table]
    shared = bool(own) and {event.code for event in own} <= known
    against = [event for event in own if event.sample in table and shared and event.code not in table[event.sample]]
    notes = []
    if against:
        cause = f"{len(against)} of {len(own)} marks of the recording itself name another event than events.tsv"
        remedy = "Find out which is right and mend the other; events.tsv was used."
        notes.append(Note("EV-FILE", cause, remedy, Grade.LOSES))
    if alone:
        cause = f"{len(alone)} of {len(own)} marks of the recording itself are not in events.tsv, which was used"
        remedy = "Nothing needs to be done if events.tsv holds the events of the study."
        notes.append(Note("EV-FILE", cause, remedy))
    return notes

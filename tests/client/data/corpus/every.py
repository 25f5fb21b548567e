"""All defects of the corpus."""

from __future__ import annotations

from tests.client.data.corpus.defects import (
    channels,
    events,
    files,
    formats,
    headers,
    odd_channels,
    odd_events,
    odd_files,
    people,
    sidecars,
    study,
    values,
)

DEFECTS = [
    *files.DEFECTS,
    *headers.DEFECTS,
    *events.DEFECTS,
    *sidecars.DEFECTS,
    *channels.DEFECTS,
    *values.DEFECTS,
    *people.DEFECTS,
    *formats.DEFECTS,
    *study.DEFECTS,
    *odd_files.DEFECTS,
    *odd_channels.DEFECTS,
    *odd_events.DEFECTS,
]

"""Recordings of a few seconds hold too few envelopes to tell a copy by: they are compared exactly, and no further."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dura_client.data.doctor.compared.copies import Sketched, find_copies
from dura_client.data.doctor.compared.sketch import PER_SECOND
from dura_client.data.recordings.folder import Recording


def sketched(number: int, seconds: float, digest: bytes | None = None, streams: int = 30) -> Sketched:
    """Return a recording of a patient of its own, with random envelopes."""
    rng = np.random.default_rng([3, number])
    sketch = rng.standard_normal((streams, round(seconds * PER_SECOND))).astype(np.float32)
    place = f"sub-{number}/meg/sub-{number}_task-x_meg.fif"
    return Sketched(Recording(Path(place), f"{number}"), place, digest or bytes([number]), sketch)


def test_short_recordings_are_not_taken_for_copies() -> None:
    """Four envelopes correlate by chance: fifty different recordings of a second, of two systems, are no copies."""
    recordings = [sketched(number, 1.0, streams=30 + 30 * (number % 2)) for number in range(50)]
    assert find_copies(recordings) == ()


def test_short_recordings_with_the_same_samples_are_copies() -> None:
    """Equal samples are equal, however few."""
    assert [item.code for item in find_copies([sketched(1, 1.0, b"x"), sketched(2, 1.0, b"x")])] == ["COPY-SAME"]

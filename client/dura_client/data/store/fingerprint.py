"""Which recordings are the same one, held twice: a fingerprint of a recording's samples.

A copy keeps its samples when its name, format or event codes change, so the fingerprint is over samples in
microvolts, of the study's channels in its order, before anything is filtered or interpolated. Two details keep it
equal from format to format:

- Values are cut at 0.1 microvolt on a grid that lies beside the steps of usual amplifiers (0.5, 0.1, 0.05, 0.01
  microvolt, 50/1024, ...). On the plain grid every value of such an amplifier would lie on a border between two
  cells, and the last bit of a float would decide.
- It looks at 512 values spread over the whole recording instead of all of them. With finely graded values a copy in
  single precision moves about one value in 20,000 over a border; among millions some would always move.

Recordings of plausible amplitude that are not copies differ in nearly all of the 512; where the unit is wrong by a
thousand, all values lie in one cell, so amplitudes are checked first. A copy that was trimmed, filtered,
resampled, re-referenced or stored in coarser steps has another fingerprint and is not found.

What is stored is keyed by the site's own secret; the plain digest is kept of public data sets only.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

BYTES = 32
POINTS = 512
"""Values that are looked at."""
CELL_MICROVOLTS = 0.1
OFFSET = 0.31830989
"""Of the grid, in cells (1/pi): far from every simple fraction."""
MOST_CELLS = 2.0**52
"""Beyond that, float64 knows no cells; broken values count as this."""
LABEL = b"dura recording v1\0"


def points(channels: int, times: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return channel and sample of each value that is looked at: all channels in turn, all times."""
    turns = np.arange(POINTS if times else 0)
    # In turn, so that a channel that is flat in every recording never makes up the whole fingerprint.
    return turns % max(channels, 1), turns * max(times - 1, 0) // (POINTS - 1)


def digest_of(names: Sequence[str], times: int, values: NDArray[np.float64]) -> bytes:
    """Return the plain digest, 32 bytes, of the values at the points of a recording.

    Args:
        names: of the channels that were looked at, in order, lower case.
        times: number of samples of the whole recording.
        values: in volts, one for each point.
    """
    hasher = hashlib.sha256(LABEL + f"{times}\0{' '.join(names)}\0".encode())
    cells = np.floor(values * 1e6 / CELL_MICROVOLTS + OFFSET)
    finite = np.nan_to_num(cells, nan=MOST_CELLS, posinf=MOST_CELLS, neginf=-MOST_CELLS)
    hasher.update(np.clip(finite, -MOST_CELLS, MOST_CELLS).astype("<i8").tobytes())
    return hasher.digest()


def keyed(digest: bytes, key: bytes) -> bytes:
    """Return what a site may store of a plain digest, 32 bytes: without the key it says nothing."""
    return hmac.new(key, LABEL + digest, hashlib.sha256).digest()


def as_rows(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return digests as an array (recordings, 32) to store."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, BYTES)


def from_rows(rows: NDArray[np.uint8]) -> tuple[bytes, ...]:
    """Return stored digests; the inverse of :func:`as_rows`."""
    return tuple(row.tobytes() for row in rows)


def held_by_several(patients: Iterable[Iterable[bytes]]) -> int:
    """Return how many distinct recordings lie under more than one patient; each patient comes as fingerprints."""
    holders = Counter(fingerprint for patient in patients for fingerprint in set(patient))
    return sum(count > 1 for count in holders.values())

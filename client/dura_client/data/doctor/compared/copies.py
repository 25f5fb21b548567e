"""Which recordings are copies of one another: exactly, by their fingerprint, or probably, by their sketches.

Thresholds come from measurements on real recordings: copies that were cut, scaled, inverted, resampled, filtered or
re-referenced correlate at .79 and more, no two of 8,533 pairs of different recordings above .45.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dura_client.data.doctor.compared.sketch import FLOOR, PER_SECOND
from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.recordings.folder import Recording

PROBABLE, CERTAIN = 0.70, 0.95
SUSPECT = 0.45
"""Correlation of averaged sketches from which two recordings are compared in full."""
LEAST_SECONDS = 15.0
"""Of a common stretch."""
LEAST_SHARE = 0.6
"""Of the shorter recording that the common stretch must cover."""
SHORT_SHARE = 0.9
"""The same for recordings shorter than that."""
LOOP_SECONDS, LONGEST_LOOP = 10.0, 3600.0
"""Seconds that a recording must repeat of itself, and the longest recording that is held against itself."""
FEWEST_SECONDS = 6.0
"""Of a recording; fewer envelopes correlate by chance."""


@dataclass(frozen=True)
class Sketched:
    """A recording with what it is compared by."""

    recording: Recording
    place: str
    digest: bytes
    sketch: NDArray[np.float32]


def find_copies(recordings: Sequence[Sketched]) -> tuple[Finding, ...]:
    """Return a finding for each group of equal recordings and each pair of probable copies."""
    groups: dict[bytes, list[Sketched]] = defaultdict(list)
    for item in recordings:
        groups[item.digest].append(item)
    findings = [_exact(group) for group in groups.values() if len(group) > 1]
    first = [group[0] for group in groups.values()]
    findings += [finding for item in first for finding in _repeated(item)]
    for one, other in _suspects(first):
        r, shift = correlation(one.sketch, other.sketch)
        back, _ = correlation(one.sketch, other.sketch[:, ::-1])
        if max(r, back) >= PROBABLE:
            findings.append(_probable(one, other, r, shift) if r >= back else _backwards(one, other, back))
    return tuple(findings)


def _repeated(item: Sketched) -> list[Finding]:
    """Say that a recording repeats itself, as a file that was filled up with a copy of its own begin."""
    least, time = round(LOOP_SECONDS * PER_SECOND), item.sketch.shape[1]
    silent = (item.sketch < np.log(FLOOR) + 1).any()  # pauses resemble one another
    if time > LONGEST_LOOP * PER_SECOND or silent:
        return []
    r, shift = correlation(item.sketch, item.sketch, np.arange(least, time - least + 1))
    if r < CERTAIN:
        return []
    cause = f"from {shift:g} s on it repeats what it held before (its envelopes correlate at {r:.2f})"
    remedy = "Export the recording again: until then the windows of that part count twice."
    return [found("COPY-OWN", item.place, cause, remedy=remedy)]


def _exact(group: Sequence[Sketched]) -> Finding:
    others = listed((item.place for item in group[1:]), 20)
    same_patient = len({item.recording.subject for item in group}) == 1
    if same_patient:
        return found(
            "COPY-OWN", group[0].place, f"{others} hold the same samples: one recording counts {len(group)} times"
        )
    people = len({item.recording.subject for item in group})
    return found(
        "COPY-SAME",
        group[0].place,
        f"{others} hold the same samples: one person counts as {people} patients, and studies with noise are refused",
    )


def _probable(one: Sketched, other: Sketched, r: float, shift: float) -> Finding:
    degree = "is a copy" if r >= CERTAIN else "is probably a copy"
    moved = f", shifted by {abs(shift):g} s" if abs(shift) >= 1 / PER_SECOND else ""
    cause = (
        f"{other.place} {degree}{moved}: cut, filtered, resampled, rescaled or "
        f"re-referenced (their envelopes correlate at {r:.2f})"
    )
    code = "COPY-OWN" if one.recording.subject == other.recording.subject else "COPY-PROB"
    return found(code, one.place, cause)


def _backwards(one: Sketched, other: Sketched, r: float) -> Finding:
    cause = f"{other.place} is probably a copy that runs backwards in time (their envelopes correlate at {r:.2f})"
    return found("COPY-OWN" if one.recording.subject == other.recording.subject else "COPY-PROB", one.place, cause)


def _suspects(recordings: Sequence[Sketched]) -> list[tuple[Sketched, Sketched]]:
    """Return pairs worth a full comparison, by their averages over channels."""
    usable = [item for item in recordings if item.sketch.shape[1] >= FEWEST_SECONDS * PER_SECOND]
    averages: Mapping[int, NDArray[np.float64]] = {id(item): _averaged(item.sketch) for item in usable}
    spectra: dict[tuple[int, int, int], NDArray[np.complex128]] = {}

    def spectrum(item: Sketched, size: int, step: int = 1) -> NDArray[np.complex128]:
        key = (id(item), size, step)
        if key not in spectra:
            spectra[key] = np.fft.rfft(_standard(averages[id(item)])[:, ::step], n=size, axis=1)
        return spectra[key]

    found_pairs = []
    for one, other in combinations(usable, 2):
        lengths = one.sketch.shape[1], other.sketch.shape[1]
        size = 1 << (sum(lengths) - 1).bit_length()
        lags = _lags(*lengths)
        if not len(lags):
            continue
        overlaps = _overlap(lags, *lengths)
        best = 0.0
        for step in (1, -1):  # the other forwards, and backwards
            crossed = (spectrum(one, size) * spectrum(other, size, step).conj()).sum(axis=0)
            best = max(best, float((np.fft.irfft(crossed, n=size)[lags] / overlaps).max()))
        if best / len(averages[id(one)]) >= SUSPECT:
            found_pairs.append((one, other))
    return found_pairs


def _averaged(sketch: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean over channels of each band (bands, time)."""
    average: NDArray[np.float64] = sketch.reshape(3, -1, sketch.shape[1]).astype(np.float64).mean(axis=1)
    return average


def _standard(streams: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = streams - streams.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    standard: NDArray[np.float64] = centred / np.where(deviation > 0, deviation, 1.0)
    return standard


def _lags(one: int, other: int) -> NDArray[np.int64]:
    """Return the shifts at which enough of the shorter recording is covered."""
    shorter = min(one, other)
    least = max(LEAST_SHARE * shorter, LEAST_SECONDS * PER_SECOND)
    if shorter < LEAST_SECONDS * PER_SECOND:
        least = SHORT_SHARE * shorter
    lags = np.arange(-other + 1, one)
    return lags[_overlap(lags, one, other) >= least]


def _overlap(lags: NDArray[np.int64], one: int, other: int) -> NDArray[np.int64]:
    found_overlap: NDArray[np.int64] = np.minimum(one, other + lags) - np.maximum(0, lags)
    return found_overlap


def correlation(
    one: NDArray[np.float32], other: NDArray[np.float32], lags: NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """Return the best mean correlation of two sketches over all shifts, or some, and the shift in seconds.

    Streams are compared one by one where both have as many, otherwise by their averages over channels.
    """
    a, b = (one, other) if len(one) == len(other) else (_averaged(one), _averaged(other))
    a, b = (streams - streams.mean(axis=1, keepdims=True) for streams in (a.astype(np.float64), b.astype(np.float64)))
    lags = _lags(a.shape[1], b.shape[1]) if lags is None else lags
    if not len(lags):
        return 0.0, 0.0
    size = 1 << (a.shape[1] + b.shape[1] - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(a, n=size, axis=1) * np.fft.rfft(b, n=size, axis=1).conj(), n=size, axis=1)[
        :, lags
    ]
    count = _overlap(lags, a.shape[1], b.shape[1])
    begin_a, begin_b = np.maximum(0, lags), np.maximum(0, -lags)
    sums = [_sums(streams, begin, count) for streams, begin in ((a, begin_a), (b, begin_b))]
    squares = [_sums(streams**2, begin, count) for streams, begin in ((a, begin_a), (b, begin_b))]
    variances = [square / count - (total / count) ** 2 for total, square in zip(sums, squares, strict=True)]
    covariance = products / count - sums[0] * sums[1] / count**2
    scale = np.sqrt(np.maximum(variances[0] * variances[1], 1e-12))
    r = (covariance / scale).mean(axis=0)
    best = int(np.argmax(r))
    return float(r[best]), float(lags[best]) / PER_SECOND


def _sums(streams: NDArray[np.float64], begin: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    total = np.concatenate([np.zeros((len(streams), 1)), np.cumsum(streams, axis=1)], axis=1)
    found_sums: NDArray[np.float64] = total[:, begin + count] - total[:, begin]
    return found_sums

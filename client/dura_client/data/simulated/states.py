"""Recordings whose rhythms change with a state: stages of sleep, seizures, rest with a diagnosis.

A state makes rhythms stronger or weaker. Stretches of states follow each other and are written as annotations with a
duration, one per stretch and not one per window. An answer of a patient (a diagnosis, an age) shifts the patient's
rhythms for the whole recording. Sources and equipment are those of the motor-imagery simulation.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np
from mne_bids import BIDSPath
from numpy.typing import NDArray

from dura_client.data.simulated.equipment import fields_of, raw_of, recorded, write_recording
from dura_client.data.simulated.hospitals import Hospital
from dura_client.data.simulated.simulate import describe, pink, rhythm
from dura_common.errors import HostError

BANDS = ((2.0, 0.8), (5.5, 0.9), (10.0, 0.9), (13.5, 0.8), (21.0, 2.5))
"""Centre and width in Hz of delta, theta, alpha, sigma and beta."""
SOURCES = ("left", "right", "occipital")
MISSED = 0.04
"""Share of stretches that the person who scored the recording took for another state."""


@dataclass(frozen=True, slots=True)
class State:
    """One state of a recording."""

    code: str
    """As the hospital writes it; empty for a state that is not annotated."""
    share: float
    """Of the time, roughly."""
    boosts: tuple[float, ...]
    """Factor on the amplitude of each band."""


@dataclass(frozen=True, slots=True)
class Course:
    """What happens in the recordings of a hospital."""

    task: str
    seconds: float
    stretch: tuple[float, float]
    """Shortest and longest stretch of one state, in seconds."""
    states: tuple[State, ...]
    column: str = ""
    """Of participants.tsv or sessions.tsv, with the answer; empty if patients have none."""
    answers: tuple[tuple[str, tuple[float, ...]], ...] = ()
    """Cell and factor on each band for each class; empty if the answer is a value."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """Of a value."""
    visits: int = 0
    """Number of visits with an answer each; none for an answer of the patient."""


def write_states(
    out: Path,
    what: str,
    profile: Hospital,
    course: Course,
    people: Mapping[int, np.random.SeedSequence],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the patients of one hospital.

    Raises:
        HostError: the disk is full or the folder cannot be written.
    """
    rows: dict[str, str] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            describe(out, what)
            for done, (number, seed) in enumerate(people.items(), start=1):
                rng = np.random.default_rng(seed)
                label, cells = f"{number:03d}", []
                for visit in range(max(course.visits, 1)):
                    cell, shift = _answer(course, rng, number + visit)
                    cells.append(cell)
                    path = BIDSPath(root=out, subject=label, task=course.task, datatype=profile.source)
                    if course.visits:
                        path.update(session=f"{visit + 1}")
                    raw = _record(profile, course, rng, shift)
                    write_recording(raw, path, profile)
                rows[label] = cells[0]
                if course.visits:
                    write_sessions(out, label, course.column, cells)
                if progress is not None:
                    progress(done, len(people))
            if course.column and not course.visits:
                add_column(out, course.column, rows)
    except OSError as error:
        raise HostError(
            f"cannot write the recordings to {out}: {error.strerror}", hint="Check free space and permissions."
        ) from error


def _answer(course: Course, rng: np.random.Generator, turn: int) -> tuple[str, NDArray[np.float64]]:
    """Return the cell of a patient or visit, and what it does to the bands; classes take turns, so none is absent."""
    flat = np.ones(len(BANDS))
    if not course.column:
        return "", flat
    if course.answers:
        cell, factors = course.answers[turn % len(course.answers)]
        return cell, np.array(factors) ** rng.normal(1.0, 0.25)
    place = rng.uniform(-1, 1)
    low, high = course.bounds
    shift = np.exp(place * np.array([0.0, -0.6, 0.6, 0.0, 0.3]))
    return f"{low + (place + 1) / 2 * (high - low):.1f}", shift


def _record(profile: Hospital, course: Course, rng: np.random.Generator, shift: NDArray[np.float64]) -> mne.io.RawArray:
    samples = round(course.seconds * profile.rate)
    times, states = _stretches(course, rng)
    moments = np.arange(samples) / profile.rate
    at = np.clip(np.searchsorted(times, moments, side="right") - 1, 0, len(states) - 1)
    banks = fields_of(profile.channels, 0, profile.source)
    fields, sources = [], []
    for name in SOURCES:
        for band, (centre, width) in enumerate(BANDS):
            factors = np.array([state.boosts[band] for state in course.states])[states][at]
            own = shift[band] * rng.lognormal(0, 0.2)
            fields.append(banks[name][rng.integers(len(banks[name]))])
            sources.append(0.9e-8 * own * factors * rhythm(rng, samples, profile.rate, centre, width))
    for field in banks["noise"]:
        fields.append(field)
        sources.append(1.5e-8 * pink(rng, samples))
    signal = recorded(profile, rng, np.stack(fields, axis=1) @ np.stack(sources))
    raw = raw_of(profile, signal)
    raw.set_annotations(_annotations(course, rng, times, states))
    return raw


def _stretches(course: Course, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return begin and state of each stretch; every state comes at least once, no state twice in a row."""
    shares = np.array([state.share for state in course.states])
    order: list[int] = []
    times, now = [], 0.0
    first = list(rng.permutation(len(shares)))
    while now < course.seconds:
        other = shares.copy()
        if order and len(shares) > 1:
            other[order[-1]] = 0.0
        state = first.pop(0) if first else int(rng.choice(len(shares), p=other / other.sum()))
        if order and order[-1] == state and len(shares) > 1:
            continue
        order.append(state)
        times.append(now)
        longer = shares[state] * len(shares)
        now += rng.uniform(*course.stretch) * max(longer, 0.5)
    return np.array(times), np.array(order, dtype=np.int64)


def _annotations(
    course: Course, rng: np.random.Generator, times: NDArray[np.float64], states: NDArray[np.int64]
) -> mne.Annotations:
    ends = np.append(times[1:], course.seconds)
    onsets, durations, codes = [], [], []
    for begin, end, state in zip(times, ends, states, strict=True):
        seen = int(rng.integers(len(course.states))) if rng.random() < MISSED else int(state)
        if course.states[seen].code:
            onsets.append(begin)
            durations.append(min(end, course.seconds) - begin)
            codes.append(course.states[seen].code)
    return mne.Annotations(onsets, durations, codes)


def add_column(out: Path, column: str, cells: Mapping[str, str]) -> None:
    """Add a column to participants.tsv."""
    path = out / "participants.tsv"
    rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
    lines = ["\t".join([*rows[0], column])]
    lines += ["\t".join([*row, cells.get(row[0].removeprefix("sub-"), "n/a")]) for row in rows[1:]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_sessions(out: Path, label: str, column: str, cells: list[str]) -> None:
    """Write the sessions.tsv of one patient."""
    lines = [f"session_id\tacq_time\t{column}"]
    lines += [f"ses-{visit}\t{2010 + visit}-03-01T09:00:00\t{cell}" for visit, cell in enumerate(cells, start=1)]
    path = out / f"sub-{label}" / f"sub-{label}_sessions.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

"""Says what is in a data set and what is wrong with it, for the data manager's own eyes.

Every recording is opened through the same door as for a study and its samples are read once, in blocks. Whatever a
recording does, the others are still looked at: what cannot be read becomes a finding with its cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.against import against
from dura_client.data.doctor.around.of_vectors import vector_findings
from dura_client.data.doctor.around.people import people_findings
from dura_client.data.doctor.compared.copies import Sketched, find_copies
from dura_client.data.doctor.compared.exchanged import exchanged
from dura_client.data.doctor.look import Look, look
from dura_client.data.doctor.samples import findings_of
from dura_client.data.doctor.together import together
from dura_client.data.eeg.bids import example_of, folder_of
from dura_client.data.eeg.recording import SignalRecording, open_signals
from dura_client.data.eeg.sensors.amplitude import MEASURES, Measure
from dura_client.data.findings.finding import WHOLE, Finding, found, sorted_findings, stops
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.folder import BidsFolder, Recording
from dura_client.data.recordings.source import Unreadable
from dura_client.data.sources.counting import Counted, count_vectors
from dura_client.data.sources.fitting import other_task
from dura_common.errors import InputError
from dura_common.study import DataContract, SignalContract

MOVE = "Or move the recording out of the folder."


@dataclass(frozen=True)
class Seen:
    """What the page shows of one recording."""

    place: str
    subject: str
    rate: float
    seconds: float
    pieces: tuple[tuple[float, float], ...]
    """Begin by the clock and length of each stretch, seconds."""
    channels: tuple[str, ...]
    bad: tuple[str, ...]
    """Marked bad, flat, or unlike the others: what a study does not use as it is."""
    events: tuple[tuple[float, str], ...]
    """Seconds of recorded time, and class."""
    frequencies: NDArray[np.float64] = field(repr=False)
    spectrum: NDArray[np.float64] = field(repr=False)
    histogram: NDArray[np.int64] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a data set holds. Counts are live values: they stay at the site."""

    patients: int
    recordings: int
    readable: int
    events: dict[str, int]
    """Class name (or unmapped code) to number of events."""
    channels: dict[str, int]
    """Channel to number of recordings that have it."""
    rates: dict[float, int]
    line_frequencies: dict[str, int]
    windows: dict[str, dict[str, int]]
    """With a study: patient to class to number of windows that remain."""
    findings: tuple[Finding, ...]
    seen: tuple[Seen, ...] = field(default=(), repr=False)
    measure: Measure | None = None
    """What the channels measure; None of series, volumes and tables, which have no channels."""

    @property
    def stops(self) -> bool:
        """Whether something stops a study."""
        return stops(self.findings)


def diagnose(
    dataset: DataSet,
    contract: DataContract | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Read every recording once and gather what a study would meet, or what this study would.

    Raises:
        InputError: the folder is not there, or there is nothing in it that looks like a recording of the task.
    """
    root = Path(dataset.root)
    if not root.is_dir():
        raise InputError(
            f"the folder of the data set {dataset.name} is not there",
            hint=f"It was {root}. Bring it back, or `dura site data update {dataset.name} --folder FOLDER`.",
        )
    if dataset.source in {"fmri", "table"}:
        return _of_vectors(count_vectors(dataset, contract), vector_findings(dataset, contract))
    folder = folder_of(dataset)
    recordings = folder.recordings
    findings = [*folder.findings]
    if not recordings and not findings:
        raise InputError(
            f"the data set {dataset.name} has no recordings of the task {dataset.task!r}",
            hint=f"Expected files such as {example_of(folder)} below the folder.",
        )
    if not recordings:
        findings.append(
            found(
                "FILE-KNOWN",
                WHOLE,
                f"there is no recording of the task {dataset.task} that can be used",
                grade=Grade.STOPS,
            )
        )
    findings += people_findings(folder)
    opened, looks = _all(folder, dataset, recordings, findings, progress)
    findings += together(dataset, opened, looks, contract.classes if contract is not None else ())
    findings += exchanged(opened, looks)
    plausible = [
        Sketched(item.recording, item.place, seen.digest, seen.sketch)
        for item, seen in zip(opened, looks, strict=True)
        if item.measure.is_plausible(seen.amplitude)
    ]
    findings += find_copies(plausible)
    windows: dict[str, dict[str, int]] = {}
    if contract is not None:
        if isinstance(contract, SignalContract):
            more, windows = against(dataset, contract, opened, looks)
        else:
            more = other_task(dataset, contract)
        findings += more
    classes = Counter(dataset.class_of(event.code, item.levels) for item in opened for event in item.events)
    return Diagnosis(
        patients=len({item.subject for item in recordings}),
        recordings=len(recordings),
        readable=len(opened),
        events=dict(classes.most_common()),
        channels=dict(Counter(channel.name for item in opened for channel in item.channels).most_common()),
        rates=dict(Counter(item.rate for item in opened)),
        line_frequencies=dict(Counter(f"{item.line:g}" if item.line else "not declared" for item in opened)),
        windows=windows,
        findings=sorted_findings(findings),
        seen=tuple(_seen(dataset, item, one) for item, one in zip(opened, looks, strict=True)),
        measure=MEASURES[dataset.source],
    )


def _of_vectors(counted: Counted, more: Sequence[Finding]) -> Diagnosis:
    """Return what a data set of connectomes or rows holds."""
    return Diagnosis(
        patients=counted.patients,
        recordings=counted.examples,
        readable=counted.usable,
        events={},
        channels={},
        rates={},
        line_frequencies={},
        windows=counted.windows,
        findings=sorted_findings([*counted.findings, *more]),
    )


def _all(
    folder: BidsFolder,
    dataset: DataSet,
    recordings: Sequence[Recording],
    findings: list[Finding],
    progress: Callable[[int, int], None] | None,
) -> tuple[list[SignalRecording], list[Look]]:
    """Open and look at every recording; what cannot be used becomes a finding."""
    opened, looks = [], []
    for done, recording in enumerate(recordings, start=1):
        place = folder.place(recording.path)
        try:
            item = open_signals(folder, dataset, recording)
            seen = look(item)
        except Unreadable as error:
            findings.append(_unreadable(place, error))
        except Exception as error:  # noqa: BLE001  # whatever a broken file does to a reader, the others are looked at
            # The error's own words may hold what stands in the file, such as a name in its header.
            findings.append(_unreadable(place, Unreadable("FILE-READ", f"reading ended with {type(error).__name__}")))
        else:
            findings += item.findings
            findings += findings_of(item, seen, dataset.name)
            opened.append(item)
            looks.append(seen)
        if progress is not None:
            progress(done, len(recordings))
    return opened, looks


def _unreadable(place: str, error: Unreadable) -> Finding:
    """Return the finding for a recording that cannot be used: a study that meets it is refused."""
    note = found(error.note.code, place, error.note.cause, remedy=error.note.remedy)
    return found(note.code, place, note.cause, remedy=f"{note.remedy} {MOVE}", grade=Grade.STOPS)


def _seen(dataset: DataSet, item: SignalRecording, one: Look) -> Seen:
    bad = [channel.name for channel, odd in zip(item.channels, one.odd, strict=True) if channel.bad or odd]
    return Seen(
        place=item.place,
        subject=item.recording.subject,
        rate=item.rate,
        seconds=item.seconds,
        pieces=tuple((piece.clock, piece.samples / item.rate) for piece in item.pieces),
        channels=tuple(channel.name for channel in item.channels),
        bad=tuple(bad),
        events=tuple((event.sample / item.rate, dataset.class_of(event.code, item.levels)) for event in item.events),
        frequencies=one.frequencies,
        spectrum=one.spectrum,
        histogram=one.histogram,
    )

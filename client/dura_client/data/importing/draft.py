"""Proposes a mapping file for a clinic's folder: what is certain is filled in, what a person must say is asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dura_client.data.dataset import KNOWN_LABELS
from dura_client.data.eeg.events import MAX_WORDS, TECHNICAL, from_marks
from dura_client.data.eeg.mains import peaks, shown
from dura_client.data.eeg.names import Site, interpret
from dura_client.data.eeg.sensors.magnetic import SENSORS
from dura_client.data.findings.finding import Finding, counted, found
from dura_client.data.importing.layouts import Layout, layout_of
from dura_client.data.importing.mapping import UNKNOWN, Listed, as_toml, quoted
from dura_client.data.importing.opened import OpenedSource, opened
from dura_client.data.importing.search import find_sources
from dura_client.data.recordings.opening import parts_of
from dura_client.data.recordings.source import Source, Unreadable, length
from dura_common.errors import InputError

STAGES = {
    "sleep stage w": "W",
    "sleep stage 1": "N1",
    "sleep stage 2": "N2",
    "sleep stage 3": "N3",
    "sleep stage 4": "N3",
    "sleep stage n1": "N1",
    "sleep stage n2": "N2",
    "sleep stage n3": "N3",
    "sleep stage r": "REM",
    "sleep stage ?": "",
    "movement time": "",
    "seiz": "seizure",
    "bckg": "background",
    "seizure": "seizure",
}
"""Codes of the field: stages after the AASM (3 and 4 are one), and TUH's two terms."""
LINE_SECONDS, LINE_RECORDINGS = 30.0, 5
TASKS = {**dict.fromkeys(("chbmit", "siena", "tuh", "seizeit"), "seizure"), "sleepedf": "sleep"}
"""What was done in the recordings of a collection."""
ELECTRODES = 'Label in the files = electrode of the 10-05 system. "" leaves a channel out: only scalp EEG is imported.'
MAGNETIC = 'Sensors of the MEG are imported under their own names. A line with "" behind a label leaves one out.'
HEAD = """What the names in {source} mean. Proposed by `dura site data import --draft`.

Read every line. Where a value is "{unknown}", put the answer in its place. Then:
    dura site data import {source} OUT --mapping THIS_FILE
This file names patients as the clinic does. Keep it with the originals; nothing of it leaves."""


@dataclass
class Draft:
    """What was seen in a folder."""

    layout: Layout
    recordings: list[Listed] = field(default_factory=list)
    channels: dict[str, str] = field(default_factory=dict)
    units: set[str] = field(default_factory=set)
    codes: Counter[str] = field(default_factory=Counter)
    free_texts: int = 0
    lines: Counter[float] = field(default_factory=Counter)
    magnetic: int = 0
    """Recordings with sensors of an MEG."""
    hypnograms: set[str] = field(default_factory=set)
    """Files with the stages of a recording that lies beside them."""
    parts: dict[str, str] = field(default_factory=dict)
    """File that continues a recording to the file with its beginning."""
    findings: list[Finding] = field(default_factory=list)


def draft(root: Path, progress: Callable[[int, int], None] | None = None) -> Draft:
    """Look at every recording of a folder.

    Raises:
        InputError: there is none.
    """
    sources = find_sources(root)
    if not sources:
        raise InputError(
            f"there is no recording below {root}",
            hint="Formats: EDF, BDF, GDF, BrainVision, EEGLAB, FIF, CNT, Persyst, Nihon Kohden, EGI, CTF.",
        )
    made = Draft(layout_of(root))
    usable: list[Path] = []
    for done, path in enumerate(sources, start=1):
        place = str(path.relative_to(root))
        try:
            with opened(path) as item:
                _take(made, root, path, item)
        except Unreadable as error:
            made.findings.append(found(error.note.code, place, error.note.cause, remedy=error.note.remedy))
        except Exception as error:  # noqa: BLE001  # a broken file may do anything to a reader; the others go on
            made.findings.append(found("FILE-READ", place, f"reading ended with {type(error).__name__}"))
        else:
            usable.append(path)
        if progress is not None:
            progress(done, len(sources))
    _number(made, root, usable)
    made.findings = [item for item in made.findings if item.code != "HYP-ONLY" or item.place not in made.hypnograms]
    return made


def _number(made: Draft, root: Path, usable: Sequence[Path]) -> None:
    """List the recordings by patient and run; a file that continues another one is none."""
    runs: Counter[tuple[str, str | None]] = Counter()
    for path in usable:
        place = str(path.relative_to(root))
        if place in made.parts:
            made.findings.append(found("FILE-SPLIT", place, f"it continues {made.parts[place]} and is read with it"))
            continue
        owner = made.layout.owner(root, path)
        runs[owner.patient, owner.session] += 1
        run = runs[owner.patient, owner.session]
        made.recordings.append(Listed(file=place, patient=owner.patient, session=owner.session, run=run))


def _take(made: Draft, root: Path, path: Path, item: OpenedSource) -> None:
    source = item.source
    signals = source.signals
    if item.beside is not None:
        made.hypnograms.add(str(item.beside.relative_to(root)))
    made.magnetic += any(signal.kind in SENSORS for signal in signals)
    place = str(path.relative_to(root))
    made.parts |= {str(part.relative_to(root)): place for part in parts_of(source)[1:] if part.is_relative_to(root)}
    for signal, name in zip(signals, interpret([signal.label for signal in signals]), strict=True):
        electrode = name.name if name.site is Site.SCALP and signal.kind in {"", "EEG"} else ""
        made.channels.setdefault(signal.label.strip(), electrode)
        if electrode and signal.volts is None and not signal.fault:
            made.units.add(signal.unit)
    told = made.layout.events(root, path).marks
    rate = max(signal.rate for signal in signals)
    if told is None:
        told = item.hypnogram or None
    codes = (
        [event.code for event in from_marks(source, rate, source.pieces(rate)).events]
        if told is None
        else [mark.text for mark in told]
    )
    for code in codes:
        if len(code.split()) > MAX_WORDS and code.lower() not in STAGES:
            made.free_texts += 1
        else:
            made.codes[code] += 1
    if sum(made.lines.values()) < LINE_RECORDINGS:
        line = _line(source)
        if line:
            made.lines[line] += 1


def _line(source: Source) -> float | None:
    """Return 50 or 60 if the spectrum of a recording shows the mains there."""
    groups: dict[float, list[int]] = defaultdict(list)
    for index, signal in enumerate(source.signals):
        if signal.kind in SENSORS or (signal.volts is not None and not signal.fault and signal.kind in {"", "EEG"}):
            groups[signal.rate].append(index)
    if not groups:
        return None
    rate, indices = max(groups.items(), key=lambda item: len(item[1]))
    samples = min(length(source.pieces(rate)), round(LINE_SECONDS * rate))
    values = np.nan_to_num(source.read(indices, 0, samples))
    width = min(samples, round(4 * rate))
    if not width:
        return None
    parts = [values[:, begin : begin + width] * np.hanning(width) for begin in range(0, samples - width + 1, width)]
    power = np.median([np.abs(np.fft.rfft(part, axis=1)) ** 2 for part in parts], axis=(0, 1))
    return shown(peaks(np.fft.rfftfreq(width, 1 / rate).astype(np.float64), power))


def text_of(made: Draft, root: Path, task: str | None) -> str:
    """Return the mapping file that a draft proposes."""
    line = made.lines.most_common(1)
    seen = (
        f"  # the spectrum shows it in {counted(line[0][1], 'recording')}" if line else "  # 50 or 60: ask the clinic"
    )
    values = {
        "format": "1",
        "layout": quoted(made.layout.name),
        "source": quoted("meg" if made.magnetic else "eeg") + "  # what is imported: eeg (electrodes) or meg (sensors)",
        "task": quoted(task or TASKS.get(made.layout.name, UNKNOWN)) + "  # the BIDS label of what was done",
        "line_frequency": (f"{line[0][0]:g}" if line else quoted(UNKNOWN)) + seen,
        "reference": quoted("n/a") + "  # of the recording, such as A1 or average, if it is known",
        "cap": quoted("") + "  # such as biosemi128, if the labels are places of a cap",
        "columns": '[]  # of participants.tsv: any of "age", "sex"',
    }
    hidden = (
        f"\n{counted(made.free_texts, 'event')} with free text are not listed and not imported."
        if made.free_texts
        else ""
    )
    tables = {
        "channels": (
            MAGNETIC if made.magnetic else ELECTRODES,
            {} if made.magnetic else {label: quoted(name) for label, name in made.channels.items()},
        ),
        "units": (
            'Unit as the files write it = what it means: "uV", "mV", "V" or "nV". Usual units need no line.',
            {unit: quoted(UNKNOWN) for unit in sorted(made.units)},
        ),
        "events": (
            f'Code in the files = class, one word. "" leaves these events out.{hidden}',
            {code: quoted(_class(code)) for code, _ in made.codes.most_common()},
        ),
    }
    head = HEAD.format(source=root, unknown=UNKNOWN)
    return as_toml(head, values, tables, tuple(made.recordings))


def _class(code: str) -> str:
    lower = code.lower()
    if lower in STAGES:
        return STAGES[lower]
    if lower.startswith(TECHNICAL):
        return ""
    if code in KNOWN_LABELS.values():
        return code
    return KNOWN_LABELS.get(lower, UNKNOWN)  # a single word may be a surname: only a person can tell

"""What can be simulated: the built-in practice sets of the four hospitals, and what a study's own contract asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from dura_client.data.dataset import KNOWN_LABELS, DataSet
from dura_client.data.simulated.equipment import RNG_DOMAIN
from dura_client.data.simulated.hospitals import HOSPITALS, MEG_HOSPITALS
from dura_client.data.simulated.paradigm import hospital_for
from dura_client.data.simulated.scans import atlas_place
from dura_client.data.simulated.simulate import DEMO, simulate, simulate_events, write_events
from dura_client.data.simulated.states import BANDS, Course, State, write_states
from dura_client.data.simulated.vectors import Asked, write_rows, write_series
from dura_common.errors import InputError, StateError
from dura_common.study import ConnectomeContract, DataContract, SignalContract, TableContract

Progress = Callable[[int, int], None] | None
STAGES = ("W", "N1", "N2", "N3", "R")
STAGE_SHARES = (0.22, 0.1, 0.34, 0.18, 0.16)
STAGE_BOOSTS = (
    (0.7, 0.8, 2.0, 0.7, 1.5),
    (1.0, 1.7, 0.9, 0.8, 1.0),
    (1.5, 1.2, 0.6, 2.2, 0.8),
    (3.6, 1.1, 0.5, 0.9, 0.6),
    (0.8, 1.9, 0.8, 0.6, 1.2),
)
STAGE_CODES = {
    "north": STAGES,
    "east": tuple(f"Sleep stage {stage}" for stage in STAGES),
    "south": ("0", "1", "2", "3", "5"),
    "west": ("Wake", "S1", "S2", "S3", "REM"),
}
SEIZURE = (2.5, 3.5, 1.5, 1.0, 2.5)
SEIZURE_CODES = {"north": "seizure", "east": "sz", "south": "fnsz", "west": "Ictal"}
CALM = (1.0,) * len(BANDS)
DIAGNOSES = {
    "north": ("diagnosis", ("control", "dementia")),
    "east": ("group", ("HC", "AD")),
    "south": ("dx", ("1", "2")),
    "west": ("diagnosis", ("healthy", "demented")),
}
SLOWED = ((1.0, 0.85, 1.3, 1.0, 1.15), (1.25, 1.6, 0.75, 1.0, 0.85))
"""Control and dementia: theta for alpha."""
HANDS = ("left_hand", "right_hand")
"""Meaning of the two codes of imagined movements."""
REGIONS = 30
ATLAS = "Demo30"
VOLUMES = {
    "cortex_thickness": (1.5, 3.5),
    "hippocampus_left": (1000.0, 6000.0),
    "hippocampus_right": (1000.0, 6000.0),
    "ventricles": (2000.0, 150000.0),
    "amygdala": (500.0, 3000.0),
    "entorhinal_thickness": (1.0, 5.0),
}
KINDS = ("motor", "sleep", "seizures", "rest", "fmri", "table", "meg", "volumes")


@dataclass(frozen=True, slots=True)
class Wrote:
    """What was written, and how a data manager of that hospital registers it."""

    options: tuple[str, ...]
    """Of `dura site data add`."""


def simulate_kind(
    out: Path, kind: str, hospital: str, *, patients: int, trials: int, minutes: float, seed: int, progress: Progress
) -> Wrote:
    """Write one hospital's data of a kind; the same arguments write the same data.

    Raises:
        InputError: an unknown hospital or kind.
        StateError: the folder exists and is not empty.
        HostError: the disk is full or the folder cannot be written.
    """
    if kind not in KINDS or hospital not in HOSPITALS:
        raise InputError(f"known kinds: {', '.join(KINDS)}; known hospitals: {', '.join(HOSPITALS)}")
    if kind == "motor":
        simulate(out, hospital, patients=patients, trials=trials, seed=seed, progress=progress)
        return Wrote(("--task", "motorimagery"))
    if out.exists() and any(out.iterdir()):
        raise StateError(f"{out} exists and is not empty", hint="Choose another folder.")
    site = list(HOSPITALS).index(hospital)
    seeds = np.random.SeedSequence([RNG_DOMAIN, seed, site, 2 + KINDS.index(kind)]).spawn(patients)
    people = dict(enumerate(seeds, start=1))
    what = f"hospital {hospital}, {kind}, seed {seed}"
    if kind in {"fmri", "volumes"}:
        return _connectomes(out, kind, hospital, site, what, people, progress)
    if kind == "table":
        missing = "-9999" if hospital == "south" else "n/a"
        asked = Asked(DIAGNOSES[hospital][0], DIAGNOSES[hospital][1], visits=3)
        write_rows(out, what, asked, site=site, features=VOLUMES, people=people, missing=missing, progress=progress)
        return Wrote(("--source", "table", *_mapped(hospital)))
    if kind == "meg":
        profile = MEG_HOSPITALS[hospital]
        write_events(out, what, profile, DEMO, people, trials, progress)
        meanings = zip(profile.codes, HANDS, strict=True)
        unknown = [f"{code}={name}" for code, name in meanings if KNOWN_LABELS.get(code.lower(), code) != name]
        return Wrote(("--source", "meg", "--task", DEMO.task, *_labels(unknown)))
    course, options = _course(kind, hospital, minutes)
    write_states(out, what, replace(HOSPITALS[hospital], stored_scale=1.0), course, people, progress)
    return Wrote(("--task", course.task, *options))


def _connectomes(
    out: Path,
    kind: str,
    hospital: str,
    site: int,
    what: str,
    people: Mapping[int, np.random.SeedSequence],
    progress: Progress,
) -> Wrote:
    """Write series as a hospital keeps them, or volumes with their atlas."""
    column, cells = DIAGNOSES[hospital]
    layout: Literal["tables", "arrays", "volumes"] = "arrays" if hospital in {"south", "west"} else "tables"
    write_series(
        out,
        what,
        Asked(column, cells),
        site=site,
        task="rest",
        atlas=ATLAS,
        regions=REGIONS,
        people=people,
        layout="volumes" if kind == "volumes" else layout,
        progress=progress,
    )
    form = {
        "volumes": ("--atlas", f"{ATLAS}={atlas_place(ATLAS)}"),
        "fmri": ("--series", "series.tsv") if layout == "arrays" else (),
    }[kind]
    return Wrote(("--source", "fmri", "--task", "rest", *form, *_mapped(hospital)))


def _course(kind: str, hospital: str, minutes: float) -> tuple[Course, tuple[str, ...]]:
    seconds = 60 * minutes
    if kind == "sleep":
        codes = STAGE_CODES[hospital]
        states = tuple(map(State, codes, STAGE_SHARES, STAGE_BOOSTS))
        labels = [f"{code}={stage}" for code, stage in zip(codes, STAGES, strict=True) if code != stage]
        return Course("sleep", seconds, (90.0, 180.0), states), _labels(labels)
    if kind == "seizures":
        code = SEIZURE_CODES[hospital]
        states = (State("", 0.85, CALM), State(code, 0.15, SEIZURE))
        labels = [] if code == "seizure" else [f"{code}=seizure"]
        return Course("monitoring", seconds, (60.0, 130.0), states), _labels(labels)
    column, cells = DIAGNOSES[hospital]
    answers = tuple(zip(cells, SLOWED, strict=True))
    course = Course("rest", seconds, (seconds, seconds), (State("", 1.0, CALM),), column, answers)
    return course, _mapped(hospital)


def _mapped(hospital: str) -> tuple[str, ...]:
    """Return the options that say what the column and the cells of a hospital mean."""
    column, cells = DIAGNOSES[hospital]
    named = () if column == "diagnosis" else ("--column", f"diagnosis={column}")
    meanings = zip(cells, ("control", "dementia"), strict=True)
    return (*named, *_labels([f"{cell}={name}" for cell, name in meanings if cell != name]))


def _labels(pairs: list[str]) -> tuple[str, ...]:
    return tuple(word for pair in pairs for word in ("--label", pair))


def simulate_for(
    out: Path, contract: DataContract, site: int, *, first: int, patients: int, trials: int, seed: int
) -> None:
    """Write some patients of the ``site``-th site of a study as its contract needs them, numbered from ``first``.

    The same seed makes the same patients however they are divided over calls.

    Raises:
        InputError: the contract asks for channels that nobody knows.
        HostError: the disk is full or the folder cannot be written.
    """
    everybody = np.random.SeedSequence([RNG_DOMAIN, seed, site, 1])
    people: Mapping[int, np.random.SeedSequence] = {
        number: np.random.SeedSequence(everybody.entropy, spawn_key=(number,))
        for number in range(first, first + patients)
    }
    what = f"site {site}, seed {seed}"
    if isinstance(contract, SignalContract):
        if (contract.cut, contract.label) == ("events", "event"):
            simulate_events(out, contract, site, people, trials, what)
        else:
            profile = replace(hospital_for(contract, site), codes=())
            write_states(out, what, profile, _course_for(contract, trials), people)
        return
    visits = {"participant": 0, "session": 2, "next-session": 3}[contract.label]
    asked = Asked(contract.column or "", contract.classes, contract.bounds or (0.0, 1.0), visits)
    if isinstance(contract, ConnectomeContract):
        write_series(
            out,
            what,
            asked,
            site=site,
            task=contract.task,
            atlas=contract.atlas,
            regions=contract.regions,
            people=people,
        )
    elif isinstance(contract, TableContract):
        write_rows(out, what, asked, site=site, features=contract.features, people=people)


def _course_for(contract: SignalContract, trials: int) -> Course:
    """Return recordings that hold about so many windows for each patient."""
    step = contract.window_step or contract.window_length
    seconds = contract.window_length + trials * max(step, contract.window_length)
    if contract.label == "annotation":
        count = len(contract.classes)
        states = tuple(
            State("" if name == contract.background else name, 1 / count, _boosts(index, count))
            for index, name in enumerate(contract.classes)
        )
        stretch = (1.5 * contract.window_length, 3 * contract.window_length)
        return Course(contract.task, max(seconds, 4 * count * contract.window_length), stretch, states)
    names = contract.within or ("",)
    states = tuple(State(name, 1 / len(names), CALM) for name in names)
    answers = tuple((name, _boosts(index, len(contract.classes), 0.35)) for index, name in enumerate(contract.classes))
    visits = {"participant": 0, "session": 2, "next-session": 3}[contract.label]
    stretch = (seconds, seconds) if contract.cut == "segments" else (contract.window_length, 2 * contract.window_length)
    return Course(
        contract.task,
        seconds,
        stretch,
        states,
        contract.column or "",
        answers,
        contract.bounds or (0.0, 1.0),
        visits,
    )


def _boosts(index: int, count: int, strength: float = 0.8) -> tuple[float, ...]:
    """Return factors on the bands that tell one class from the others."""
    centre = index * (len(BANDS) - 1) / max(count - 1, 1)
    return tuple(float(np.exp(strength * (np.exp(-((band - centre) ** 2)) - 0.4))) for band in range(len(BANDS)))


def dataset_for(name: str, root: Path, contract: DataContract) -> DataSet:
    """Return the registration of what :func:`simulate_for` wrote."""
    task = getattr(contract, "task", None)
    return DataSet(name=name, root=str(root), source=contract.source, task=task, simulated=True)

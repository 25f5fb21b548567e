"""A hospital that does not exist: motor-imagery EEG or MEG with a real forward model, in BIDS, for practice.

Sources: both hand areas with mu and beta rhythms that weaken on the side opposite to the imagined hand, occipital
alpha, background of 1/f noise, blinks. Every patient has an own anatomy (positions), rhythm (frequency, depth), gain
and, of EEG, 0 to 2 bad channels. Hospitals differ as real ones do: see ``HOSPITALS``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import mne
import numpy as np
from mne_bids import BIDSPath, make_dataset_description
from numpy.typing import NDArray

from dura_client.data.dataset import SIMULATOR
from dura_client.data.eeg.signals import positions
from dura_client.data.simulated.equipment import (
    HAND_BANK,
    RNG_DOMAIN,
    fields_of,
    raw_of,
    recorded,
    write_recording,
)
from dura_client.data.simulated.hospitals import HOSPITALS, Hospital
from dura_client.data.simulated.paradigm import JITTER_SECONDS, Paradigm, hospital_for, paradigm_of
from dura_common.errors import HostError, InputError, StateError
from dura_common.runtime.files import SHARED_FILE, write_atomic
from dura_common.study import SignalContract

DEMO = Paradigm()


def simulate(
    out: Path,
    hospital: str,
    *,
    patients: int,
    trials: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write one hospital's BIDS folder; the same arguments write the same recordings.

    Raises:
        InputError: an unknown hospital.
        StateError: the folder exists and is not empty.
        HostError: the disk is full or the folder cannot be written.
    """
    if hospital not in HOSPITALS:
        raise InputError(f"unknown hospital {hospital!r}; known: {', '.join(HOSPITALS)}")
    if out.exists() and any(out.iterdir()):
        raise StateError(f"{out} exists and is not empty", hint="Choose another folder.")
    seeds = np.random.SeedSequence([RNG_DOMAIN, seed, list(HOSPITALS).index(hospital)]).spawn(patients)
    people = dict(enumerate(seeds, start=1))
    write_events(out, f"hospital {hospital}, seed {seed}", HOSPITALS[hospital], DEMO, people, trials, progress)


def simulate_events(
    out: Path,
    contract: SignalContract,
    site: int,
    people: Mapping[int, np.random.SeedSequence],
    trials: int,
    what: str,
) -> None:
    """Write patients with events as a contract needs them.

    Raises:
        InputError: the contract asks for channels that nobody knows.
        HostError: the disk is full or the folder cannot be written.
    """
    if contract.source == "eeg":
        positions(contract.channels)
    write_events(out, what, hospital_for(contract, site), paradigm_of(contract), people, trials, None)


def write_events(
    out: Path,
    what: str,
    profile: Hospital,
    paradigm: Paradigm,
    people: Mapping[int, np.random.SeedSequence],
    trials: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the patients of one hospital, who do a task.

    Raises:
        HostError: the disk is full or the folder cannot be written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            describe(out, what)  # before any recording
            for done, (number, seed) in enumerate(people.items(), start=1):
                raw = _patient(profile, paradigm, np.random.default_rng(seed), trials)
                path = BIDSPath(root=out, subject=f"{number:03d}", task=paradigm.task, datatype=profile.source)
                write_recording(raw, path, profile)
                if progress is not None:
                    progress(done, len(people))
    except OSError as error:
        raise HostError(
            f"cannot write the recordings to {out}: {error.strerror}", hint="Check free space and permissions."
        ) from error


def describe(out: Path, what: str) -> None:
    """Write the description of a simulated data set."""
    make_dataset_description(
        path=out, name=f"Simulated {what.partition(',')[0]}", authors=[SIMULATOR], overwrite=True, verbose="error"
    )
    description = out / "dataset_description.json"
    content = json.loads(description.read_text())
    content["GeneratedBy"] = [{"Name": SIMULATOR, "Description": what}]
    write_atomic(description, json.dumps(content, indent=2).encode(), mode=SHARED_FILE)


def _patient(profile: Hospital, paradigm: Paradigm, rng: np.random.Generator, trials: int) -> mne.io.RawArray:
    samples = round(trials * paradigm.trial_seconds * profile.rate)
    classes = rng.permutation(np.arange(trials) % len(paradigm.areas))
    cues = np.arange(trials) * paradigm.trial_seconds + paradigm.cue_seconds + rng.uniform(0, JITTER_SECONDS, trials)
    signal = _signal(profile, paradigm, rng, classes, cues, samples)
    raw = raw_of(profile, recorded(profile, rng, signal))
    raw.set_annotations(mne.Annotations(cues, np.zeros(trials), [profile.codes[index] for index in classes]))
    return raw


def _signal(
    profile: Hospital,
    paradigm: Paradigm,
    rng: np.random.Generator,
    classes: NDArray[np.int64],
    cues: NDArray[np.float64],
    samples: int,
) -> NDArray[np.float64]:
    """Return the noiseless sensors' view of one patient's sources, volts or tesla, (channels, samples)."""
    banks, rate = fields_of(profile.channels, paradigm.extra_areas, profile.source), profile.rate
    frequency = rng.normal(paradigm.rhythm, 0.9)
    weakening = np.clip(rng.normal(0.55, 0.18), 0.1, 0.9)
    attentive = rng.random(len(classes)) > 0.12  # noqa: PLR2004  # 12 % of trials are lapses
    fields, sources = [], []
    for name in ("left", "right", *paradigm.areas[2:]):
        mine = classes == paradigm.areas.index(name)
        envelope = _envelope(cues[mine & attentive], paradigm.active, samples, rate, weakening)
        beta = 0.4 * rhythm(rng, samples, rate, 2 * frequency, 2.0)
        fields.append(banks[name][rng.integers(HAND_BANK)])
        sources.append(2.4e-8 * envelope * (rhythm(rng, samples, rate, frequency, 1.0) + beta))
    for position in rng.choice(8, 2, replace=False):
        fields.append(banks["occipital"][position])
        sources.append(2.2e-8 * rhythm(rng, samples, rate, rng.normal(10.0, 0.7), 0.8))
    for field in banks["noise"]:
        fields.append(field)
        sources.append(1.5e-8 * pink(rng, samples))
    fields.append(banks["eyes"][0])
    sources.append(_blinks(rng, samples, rate))
    return np.stack(fields, axis=1) @ np.stack(sources)


def _envelope(
    cues: NDArray[np.float64], active: tuple[float, float], samples: int, rate: float, weakening: float
) -> NDArray[np.float64]:
    envelope = np.ones(samples)
    for cue in cues:
        begin, end = (round((cue + edge) * rate) for edge in active)
        envelope[begin:end] = 1 - weakening
    smooth = np.hanning(max(3, round(0.3 * rate)))
    padded: NDArray[np.float64] = np.pad(envelope, len(smooth) // 2, mode="edge")
    return np.convolve(padded, smooth / smooth.sum(), mode="same")[len(smooth) // 2 :][:samples]


def rhythm(rng: np.random.Generator, samples: int, rate: float, frequency: float, width: float) -> NDArray[np.float64]:
    """Return unit-variance noise around one frequency (Hz), Gaussian in the spectrum."""
    axis = np.fft.rfftfreq(samples, 1 / rate)
    return _shaped(rng, samples, np.exp(-0.5 * ((axis - frequency) / width) ** 2))


def pink(rng: np.random.Generator, samples: int) -> NDArray[np.float64]:
    """Return unit-variance noise whose amplitude falls with the frequency to the power of 0.6."""
    axis = np.arange(samples // 2 + 1, dtype=np.float64)
    axis[0] = np.inf
    return _shaped(rng, samples, axis**-0.6)


def _shaped(rng: np.random.Generator, samples: int, spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    phases = rng.standard_normal(len(spectrum)) + 1j * rng.standard_normal(len(spectrum))
    values: NDArray[np.float64] = np.fft.irfft(phases * spectrum, samples)
    scaled: NDArray[np.float64] = values / values.std()
    return scaled


def _blinks(rng: np.random.Generator, samples: int, rate: float) -> NDArray[np.float64]:
    signal = np.zeros(samples)
    shape = 1.2e-7 * np.hanning(max(3, round(0.35 * rate)))
    for begin in rng.integers(0, max(1, samples - len(shape)), max(1, round(samples / rate / 4))):
        signal[begin : begin + len(shape)] += shape[: samples - begin]
    return signal

"""A hospital that does not exist: motor-imagery EEG with a real forward model, in BIDS, for practice.

Sources: both hand areas with mu and beta rhythms that weaken on the side opposite to the imagined hand, occipital
alpha, background of 1/f noise, blinks. The field of each source at each electrode comes from MNE's spherical
head model, computed once per montage for a bank of positions. Every patient has an own anatomy (positions),
rhythm (frequency, depth), gain and 0 to 2 bad channels. Hospitals differ as real ones do: see ``HOSPITALS``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import mne
import numpy as np
from mne_bids import BIDSPath, make_dataset_description, write_raw_bids
from numpy.typing import NDArray

from dura_client.data.dataset import SIMULATOR
from dura_client.data.eeg.signals import positions
from dura_client.data.simulated.hospitals import HOSPITALS, Hospital
from dura_client.data.simulated.paradigm import JITTER_SECONDS, Paradigm, hospital_for, paradigm_of
from dura_common.errors import HostError, InputError, StateError
from dura_common.runtime.files import SHARED_FILE, write_atomic
from dura_common.study import SignalContract

DEMO = Paradigm()
HAND_BANK = 24
NOISE_SOURCES = 24
RNG_DOMAIN = 0xD0_2A


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
    _write(out, f"hospital {hospital}, seed {seed}", HOSPITALS[hospital], DEMO, people, trials, progress)


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
    positions(contract.channels)
    _write(out, what, hospital_for(contract, site), paradigm_of(contract), people, trials, None)


def _write(
    out: Path,
    what: str,
    profile: Hospital,
    paradigm: Paradigm,
    people: Mapping[int, np.random.SeedSequence],
    trials: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            describe(out, what)  # before any recording
            for done, (number, seed) in enumerate(people.items(), start=1):
                raw = _patient(profile, paradigm, np.random.default_rng(seed), trials)
                path = BIDSPath(root=out, subject=f"{number:03d}", task=paradigm.task, datatype="eeg")
                write_raw_bids(
                    raw, path, format=profile.file_format, allow_preload=True, overwrite=True, verbose="error"
                )
                _declare_reference(path, profile)
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


def _declare_reference(path: BIDSPath, profile: Hospital) -> None:
    """Say in the sidecar, as BIDS requires, what mne-bids cannot know."""
    sidecar = path.copy().update(suffix="eeg", extension=".json").fpath
    content = json.loads(sidecar.read_text())
    content["EEGReference"] = "mean of " + ", ".join(profile.reference) if profile.reference else "average"
    sidecar.write_text(json.dumps(content, indent=4))


@lru_cache(maxsize=8)
def fields_of(channels: tuple[str, ...], extra_areas: int) -> dict[str, NDArray[np.float64]]:
    """Return volts per ampere-metre at the channels for banks of sources: (positions, channels)."""
    info = mne.create_info(list(channels), 256.0, "eeg", verbose="error")
    info.set_montage(montage_of(channels), match_case=False, verbose="error")
    sphere = mne.make_sphere_model("auto", "auto", info, verbose="error")
    centre, radius = np.array(sphere["r0"]), float(sphere["layers"][0]["rad"])
    rng = np.random.default_rng(RNG_DOMAIN)  # positions of the bank: the same for every hospital
    banks = {
        "left": _near([-0.55, 0.0, 0.75], rng, HAND_BANK),
        "right": _near([0.55, 0.0, 0.75], rng, HAND_BANK),
        "occipital": _near([0.0, -0.9, 0.25], rng, 8),
        "eyes": _near([0.0, 0.95, -0.25], rng, 2),
        "noise": _unit(rng.normal(size=(NOISE_SOURCES, 3)) * [1, 1, 0.6] + [0, 0, 0.35]),
    }
    banks |= _extra_banks(extra_areas)  # last, and from a generator of their own: the others stay what they are
    directions = np.concatenate(list(banks.values()))
    depth = 0.72 * radius
    tilted = _unit(directions + 0.35 * rng.normal(size=directions.shape))
    dipoles = mne.Dipole(
        times=np.arange(len(directions)) / 1e3,
        pos=centre + depth * directions,
        amplitude=np.full(len(directions), 1e-8),
        ori=tilted,
        gof=np.full(len(directions), 100.0),
        verbose="error",
    )
    forward, _ = mne.make_forward_dipole(dipoles, sphere, info, verbose="error")
    fixed = mne.convert_forward_solution(forward, force_fixed=True, use_cps=False, verbose="error")
    field = fixed["sol"]["data"].T
    ends = np.cumsum([len(bank) for bank in banks.values()])[:-1]
    return dict(zip(banks, np.split(field, ends), strict=True))


def _extra_banks(count: int) -> dict[str, NDArray[np.float64]]:
    """Return places for classes beyond two: the foot area first, then spread from front to back."""
    rng = np.random.default_rng([RNG_DOMAIN, 2])
    banks = {}
    for number in range(count):
        turn = np.pi * number / max(count, 2)
        side, front = 0.75 * np.sin(2 * turn), 0.75 * (1 - np.cos(turn)) * (-1) ** number
        banks[f"extra-{number}"] = _near([side, front, 0.8], rng, HAND_BANK)
    return banks


def montage_of(channels: tuple[str, ...]) -> str:
    """Return the name of MNE's montage that has these channels."""
    small = {name.lower() for name in mne.channels.make_standard_montage("colin27_1020").ch_names}
    return "colin27_1020" if {name.lower() for name in channels} <= small else "colin27_1005"


def _near(direction: list[float], rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return _unit(_unit(np.array([direction])) + 0.12 * rng.normal(size=(count, 3)))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths


def _patient(profile: Hospital, paradigm: Paradigm, rng: np.random.Generator, trials: int) -> mne.io.RawArray:
    samples = round(trials * paradigm.trial_seconds * profile.rate)
    classes = rng.permutation(np.arange(trials) % len(paradigm.areas))
    cues = np.arange(trials) * paradigm.trial_seconds + paradigm.cue_seconds + rng.uniform(0, JITTER_SECONDS, trials)
    signal = _signal(profile, paradigm, rng, classes, cues, samples)
    signal = recorded(profile, rng, signal)
    info = mne.create_info(list(profile.channels), profile.rate, "eeg", verbose="error")
    raw = mne.io.RawArray(signal, info, verbose="error")
    raw.info["line_freq"] = profile.line
    raw.set_montage(montage_of(profile.channels), match_case=False, verbose="error")
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
    """Return the noiseless electrodes' view of one patient's sources, volts, (channels, samples)."""
    banks, rate = fields_of(profile.channels, paradigm.extra_areas), profile.rate
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


def recorded(profile: Hospital, rng: np.random.Generator, signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add what amplifier, cables and conventions add: noise, line, bad channels, gain, reference, unit."""
    channels, samples = signal.shape
    time = np.arange(samples) / profile.rate
    line = np.sin(2 * np.pi * profile.line * time + rng.uniform(0, 2 * np.pi))
    noise = rng.standard_normal((channels, samples), dtype=np.float32)
    signal = signal + 1.5e-6 * rng.lognormal(0, 0.3, (channels, 1)) * noise
    signal += 3e-6 * rng.lognormal(0, 0.5, (channels, 1)) * line
    for bad in rng.choice(channels, rng.integers(0, 3), replace=False):
        if profile.channels[bad] not in profile.reference:
            signal[bad] = 1.5e-4 * rng.standard_normal(samples)
    signal *= rng.lognormal(0, 0.15)
    rows = [profile.channels.index(name) for name in profile.reference] or list(range(channels))
    signal -= signal[rows].mean(axis=0)
    return signal * profile.stored_scale


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

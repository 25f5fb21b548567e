"""What a simulated hospital records with: the fields of sources at its sensors, its amplifiers, and its files.

The field of each source at each sensor comes from MNE's spherical head model, computed once per montage for a bank of
positions.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import mne
import numpy as np
from mne_bids import BIDSPath, write_raw_bids
from numpy.typing import NDArray

from dura_client.data.simulated.helmet import MIDDLE, info_of, is_magnetometer
from dura_client.data.simulated.hospitals import Hospital

HAND_BANK = 24
NOISE_SOURCES = 24
RNG_DOMAIN = 0xD0_2A
HEAD_RADIUS = 0.09
"""Metres, under the simulated helmet."""
MAGNETIC_NOISE, MAGNETIC_LINE = (3e-14, 3e-12), (6e-14, 5e-13)
"""Of magnetometers in tesla and of gradiometers in tesla per metre: standard deviation, and amplitude of the mains."""


def raw_of(profile: Hospital, signal: NDArray[np.float64]) -> mne.io.RawArray:
    """Return a recording of a hospital."""
    if profile.source == "meg":
        raw = mne.io.RawArray(signal, info_of(profile.channels, profile.rate), verbose="error")
    else:
        info = mne.create_info(list(profile.channels), profile.rate, "eeg", verbose="error")
        raw = mne.io.RawArray(signal, info, verbose="error")
        raw.set_montage(montage_of(profile.channels), match_case=False, verbose="error")
    raw.info["line_freq"] = profile.line
    return raw


def write_recording(raw: mne.io.RawArray, path: BIDSPath, profile: Hospital) -> None:
    """Write a recording with its sidecars.

    Raises:
        OSError: it cannot be written.
    """
    write_raw_bids(raw, path, format=profile.file_format, allow_preload=True, overwrite=True, verbose="error")
    if profile.source == "eeg":
        _declare_reference(path, profile)


def _declare_reference(path: BIDSPath, profile: Hospital) -> None:
    """Say in the sidecar, as BIDS requires, what mne-bids cannot know."""
    sidecar = path.copy().update(suffix="eeg", extension=".json").fpath
    content = json.loads(sidecar.read_text())
    content["EEGReference"] = "mean of " + ", ".join(profile.reference) if profile.reference else "average"
    sidecar.write_text(json.dumps(content, indent=4))


@lru_cache(maxsize=8)
def fields_of(channels: tuple[str, ...], extra_areas: int, source: str) -> dict[str, NDArray[np.float64]]:
    """Return volts (tesla, tesla per metre) per ampere-metre at the channels for banks of sources.

    Args:
        channels: electrodes, or sensors of the simulated helmet.
        extra_areas: places for classes beyond two.
        source: eeg or meg.

    Returns:
        For each bank (positions, channels).
    """
    info, sphere = _head(channels, source)
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
    tilt = rng.normal(size=directions.shape)
    tilted = _unit(directions + 0.35 * tilt)
    if source == "meg":  # what points outwards has no field outside of a sphere
        along = tilt - (tilt * directions).sum(axis=1, keepdims=True) * directions
        tilted = _unit(0.35 * directions + _unit(along))
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


def recorded(profile: Hospital, rng: np.random.Generator, signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add what amplifier, cables and conventions add: noise, line, bad channels, gain, reference, unit."""
    if profile.source == "meg":
        return _sensed(profile, rng, signal)
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


def _sensed(profile: Hospital, rng: np.random.Generator, signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add what sensors and room of an MEG add: noise, line, gain."""
    channels, samples = signal.shape
    time = np.arange(samples) / profile.rate
    kinds = [0 if is_magnetometer(name) else 1 for name in profile.channels]
    size, mains = (np.take(values, kinds)[:, None] for values in (MAGNETIC_NOISE, MAGNETIC_LINE))
    noise = rng.standard_normal((channels, samples), dtype=np.float32)
    line = np.sin(2 * np.pi * profile.line * time + rng.uniform(0, 2 * np.pi))
    signal = signal + size * rng.lognormal(0, 0.1, (channels, 1)) * noise
    signal += mains * rng.lognormal(0, 0.3, (channels, 1)) * line
    return signal * rng.lognormal(0, 0.15)


def _head(channels: tuple[str, ...], source: str) -> tuple[mne.Info, Any]:
    """Return sensors, and the sphere that stands for the head."""
    if source == "meg":
        return info_of(channels, 256.0), mne.make_sphere_model(MIDDLE, HEAD_RADIUS, verbose="error")
    info = mne.create_info(list(channels), 256.0, "eeg", verbose="error")
    info.set_montage(montage_of(channels), match_case=False, verbose="error")
    return info, mne.make_sphere_model("auto", "auto", info, verbose="error")

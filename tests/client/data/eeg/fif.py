"""Small BIDS-MEG data sets, written by MNE alone: rhythms and noise in two kinds of sensors, and a channel of codes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import mne
import numpy as np
from numpy.typing import NDArray

RATE, SECONDS, LINE = 500.0, 16.0, 50
NAMES = ("MEG 0113", "MEG 0112", "MEG 0111", "MEG 0122", "MEG 0123", "MEG 0121", "MEG 0132", "MEG 0133", "MEG 0131")
"""As a MEGIN system writes them: two gradiometers (2, 3) and a magnetometer (1) at each place."""
ONSETS = (1.0, 3.01, 5.2, 7.123, 9.0, 11.5, 13.3)
FIRST = 2500
"""Number of the first stored sample; recordings of MEGIN's systems rarely begin with 0."""


def is_magnetometer(name: str) -> bool:
    """Tell what a sensor is by its last digit."""
    return name.endswith("1")


def signal(seed: int, seconds: float = SECONDS) -> NDArray[np.float64]:
    """Return the sensors (sensors, samples) in tesla, of gradiometers in tesla per metre."""
    rng = np.random.default_rng([11, seed])
    samples = round(seconds * RATE)
    axis = np.fft.rfftfreq(samples, 1 / RATE)
    shape = (axis + 1.0) ** -0.8
    phases = rng.standard_normal((12, len(axis))) + 1j * rng.standard_normal((12, len(axis)))
    sources = np.fft.irfft(phases * shape, samples, axis=1)
    sources /= sources.std(axis=1, keepdims=True)
    mixed = rng.normal(size=(len(NAMES), len(sources))) @ sources / 3
    line = 0.5 * np.sin(2 * np.pi * LINE * np.arange(samples) / RATE + rng.uniform(0, 6))
    size = np.array([[2e-13 if is_magnetometer(name) else 3e-12] for name in NAMES])
    return size * (mixed + 0.1 * rng.standard_normal(mixed.shape) + line)


def raw_of(seed: int, seconds: float = SECONDS, codes: Sequence[int] = (1, 2) * 4) -> mne.io.RawArray:
    """Return a recording with a channel of codes, whose first sample is not number 0."""
    types = ["mag" if is_magnetometer(name) else "grad" for name in NAMES]
    info = mne.create_info([*NAMES, "STI 014"], RATE, [*types, "stim"])
    values = signal(seed, seconds)
    stim = np.zeros(values.shape[1])
    for onset, code in zip(ONSETS, codes, strict=False):
        if onset < seconds:
            stim[round(onset * RATE) : round(onset * RATE) + 25] = code
    return mne.io.RawArray(np.vstack([values, stim]), info, first_samp=FIRST, verbose="error")


def stem_of(root: Path, patient: str, more: str = "") -> Path:
    """Return the path of a recording without suffix and ending; its folder is there then."""
    folder = root / f"sub-{patient}" / "meg"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"sub-{patient}_task-look{more}"


def write(
    root: Path,
    patient: str,
    raw: mne.io.BaseRaw,
    *,
    events: bool = True,
    sidecar: bool = True,
    split_size: str = "2GB",
    more: str = "",
) -> Path:
    """Write a recording with what belongs beside it; return its file."""
    stem = stem_of(root, patient, more)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = stem.with_name(f"{stem.name}_meg.fif")
        raw.save(path, overwrite=True, split_size=split_size, split_naming="bids", verbose="error")
    (root / "dataset_description.json").write_text('{"Name": "look", "BIDSVersion": "1.9.0"}')
    if sidecar:
        content = {"TaskName": "look", "PowerLineFrequency": LINE, "SamplingFrequency": RATE}
        stem.with_name(f"{stem.name}_meg.json").write_text(json.dumps(content))
        rows = ["name\ttype\tunits\tstatus"]
        for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True):
            bids, unit = {"mag": ("MEGMAG", "T"), "grad": ("MEGGRADPLANAR", "T/m")}.get(kind, ("TRIG", "V"))
            rows.append(f"{name}\t{bids}\t{unit}\t{'bad' if name in raw.info['bads'] else 'good'}")
        stem.with_name(f"{stem.name}_channels.tsv").write_text("\n".join(rows) + "\n")
    if events:
        lines = [f"{onset}\t0\t{('one', 'two')[number % 2]}" for number, onset in enumerate(ONSETS)]
        stem.with_name(f"{stem.name}_events.tsv").write_text("\n".join(["onset\tduration\ttrial_type", *lines]) + "\n")
    return path

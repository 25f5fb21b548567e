"""Steps of preparation that change a signal. Each uses one recording or one patient and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from functools import lru_cache

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.eeg.sensors.amplitude import together
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.errors import InputError
from dura_common.study import SignalContract

SHRINKAGE = 0.05
"""Share of the identity in the covariance of alignment: an average reference leaves one direction empty."""
BAD_DEVIATION = 5.0
"""Robust standard deviations of the log amplitude beyond which a channel counts as bad."""
FLAT = 1e-8
"""In the unit that recordings are held in: 0.01 uV, fT or fT/cm."""
PIECE_PRODUCTS = 1 << 18
FEWEST_COLUMNS = 128
PART_SECONDS = 20.0
"""Of each block that channels are compared over."""
STEPS = 2048
"""Of a channel, about: their median is known to a few hundredths, and a bad channel differs by half and more."""
NORMAL = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@lru_cache(maxsize=1)
def _system() -> tuple[mne.channels.DigMontage, dict[str, str]]:
    montage = mne.channels.make_standard_montage("colin27_1005")
    return montage, {name.lower(): name for name in montage.ch_names}


def positions(channels: Sequence[str]) -> tuple[mne.channels.DigMontage, dict[str, str]]:
    """Return the 10-05 system, and its names by their lower-case form.

    Raises:
        InputError: the study asks for a channel that the system does not know.
    """
    montage, known = _system()
    unknown = [name for name in channels if name.lower() not in known]
    if unknown:
        raise InputError(
            f"the study asks for channels that the 10-05 system does not know: {', '.join(unknown)}",
            hint="Names are those of the system, such as C3 or FCz. Tell the researcher; `dura site decline` says no.",
        )
    return montage, known


@declares(PrivacyClass.PER_PATIENT)
def complete_channels(names: Sequence[str], bad: Collection[str], contract: SignalContract) -> NDArray[np.float64]:
    """Return the operator (study's channels, channels) that brings a recording's channels to the study's.

    Of MEG, the study's sensors are picked and nothing is interpolated: a recording that lacks one, or in which one is
    bad, gives no window. Of EEG, bad and absent channels are interpolated from the good ones by spherical splines
    (Perrin et al. 1989), and the average over the study's channels is subtracted. The operator depends on names alone:
    it commutes with any filter in time, and is the same for every block.

    Args:
        names: of the recording's channels, in order.
        bad: of these, the names of channels that carry no signal of use.
        contract: what the study asks for.

    Raises:
        InputError: unknown channels in the contract, nothing to interpolate from, or a sensor is missing.
    """
    if contract.source == "meg":
        return _picked(names, bad, contract.channels)
    return _operator(tuple(names), frozenset(bad), contract.channels)


def missing_sensors(names: Sequence[str], bad: Collection[str], channels: Sequence[str]) -> list[str]:
    """Return which channels a recording does not have, or has in a state in which they cannot be used."""
    good = {name.lower() for name in names if name not in bad}
    return [name for name in channels if name.lower() not in good]


def _picked(names: Sequence[str], bad: Collection[str], channels: Sequence[str]) -> NDArray[np.float64]:
    if missing_sensors(names, bad, channels):
        raise InputError("a recording lacks a sensor that the study asks for, or the sensor is bad")
    places = {name.lower(): index for index, name in enumerate(names)}
    operator = np.zeros((len(channels), len(names)))
    operator[range(len(channels)), [places[name.lower()] for name in channels]] = 1.0
    return operator


@lru_cache(maxsize=256)
def _operator(names: tuple[str, ...], bad: frozenset[str], channels: tuple[str, ...]) -> NDArray[np.float64]:
    _, known = positions(channels)
    wanted = [known[name.lower()] for name in channels]
    raw = _placed(names, channels).copy()
    raw.info["bads"] = sorted({*raw.info["bads"], *(known[name.lower()] for name in bad if name.lower() in known)})
    if len(raw.info["bads"]) >= len(raw.ch_names) - 1:
        raise InputError("a recording has no good channel to interpolate from")
    if set(raw.info["bads"]) & set(wanted):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a sphere that is fitted to few electrodes
            raw.interpolate_bads(reset_bads=True, method={"eeg": "spline"}, verbose="warning")
    found: NDArray[np.float64] = raw.get_data(picks=[raw.ch_names.index(name) for name in wanted])
    found -= found.mean(axis=0)
    return found


@lru_cache(maxsize=64)
def _placed(names: tuple[str, ...], channels: tuple[str, ...]) -> mne.io.RawArray:
    """Return the identity as a recording of the channels that have a place, and of the study's that are absent.

    The latter are marked bad. Which others are bad differs by recording, and finding the places takes longest.
    """
    montage, known = positions(channels)
    raw = mne.io.RawArray(np.eye(len(names)), mne.create_info(list(names), 100.0, "eeg"), verbose="warning")
    raw.rename_channels(
        {name: known[name.lower()] for name in raw.ch_names if name.lower() in known}, verbose="warning"
    )
    placed = [name for name in raw.ch_names if name in montage.ch_names]
    if not placed:
        raise InputError("a recording has no channel with a name of the 10-20 system")
    raw.pick(placed)
    absent = [name for name in (known[name.lower()] for name in channels) if name not in raw.ch_names]
    if absent:
        info = mne.create_info(absent, raw.info["sfreq"], "eeg", verbose="warning")
        empty = mne.io.RawArray(np.zeros((len(absent), raw.n_times)), info, verbose="warning")
        raw.add_channels([empty], force_update_info=True)
    raw.set_montage(montage, match_case=False, verbose="warning")
    raw.info["bads"] = absent
    return raw


def step_sizes(values: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """Return the median absolute difference of neighbouring samples (channels,) at the begin of a block.

    Args:
        values: (channels, samples), at least two samples.
        rate: Hz.
    """
    part = values[:, : round(PART_SECONDS * rate)]
    every = part.shape[1] // STEPS | 1  # odd, so that it is no period of the mains
    steps = part[:, 1::every] - part[:, :-1:every]
    np.abs(steps, out=steps)
    found: NDArray[np.float64] = np.median(steps, axis=1, overwrite_input=True)
    return found


def far_from_others(size: NDArray[np.float64], sorts: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which channels are flat or unlike the others: the criterion for bad channels, in a study and in the check.

    A channel's size is the median absolute difference of neighbouring samples, which slow drifts and rare artifacts do
    not move. A channel is bad if its log size lies further than :data:`BAD_DEVIATION` robust standard deviations
    (at least 0.1 each, a tenth of the amplitude) from the median of the recording's channels of its sort, or if it
    never changes.

    Args:
        size: (channels,), in the unit that recordings are held in.
        sorts: of each channel, such as MEGMAG: sizes of different sorts are not compared.
    """
    found = np.zeros(len(size), dtype=bool)
    for some in together(sorts):
        found[some] = _far(size[some])
    return found


def _far(size: NDArray[np.float64]) -> NDArray[np.bool_]:
    flat = size < FLAT * 1e-3
    if flat.all():
        return flat
    logs = np.log(np.where(flat, 1.0, size))
    centre = np.median(logs[~flat])
    spread = max(NORMAL * float(np.median(np.abs(logs[~flat] - centre))), 0.1)
    found: NDArray[np.bool_] = flat | (np.abs(logs - centre) > BAD_DEVIATION * spread)
    return found


def applied(operator: NDArray[np.float64], signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return an operator (outputs, channels) on a signal (channels, samples), multiplied piece by piece.

    BLAS wakes its threads for a larger product, and they cost twenty times what they compute here.
    """
    outputs, channels = operator.shape
    step = max(PIECE_PRODUCTS // max(outputs * channels, 1), FEWEST_COLUMNS)
    found = np.empty((outputs, signal.shape[1]))
    for begin in range(0, signal.shape[1], step):
        np.matmul(operator, signal[:, begin : begin + step], out=found[:, begin : begin + step])
    return found


@declares(PrivacyClass.PER_PATIENT)
def robust_deviation(signal: NDArray[np.floating]) -> float:
    """Return the standard deviation of a signal (channels, samples) as its median absolute deviation tells it."""
    sizes = signal - np.median(signal, axis=1, keepdims=True)
    np.abs(sizes, out=sizes)
    return max(float(np.median(sizes, overwrite_input=True)) * NORMAL, FLAT)


@declares(PrivacyClass.PER_PATIENT)
def euclidean_alignment(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse square root (channels, channels) of a patient's mean covariance: it whitens the windows.

    He and Wu 2020, IEEE TBME 67:399. Unlabelled, and of one patient only; the covariance is shrunk towards a
    multiple of the identity by 5 %.
    """
    size = len(covariance)
    mixed = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(mixed)
    whitener = vectors @ np.diag(np.maximum(values, np.finfo(np.float64).tiny) ** -0.5) @ vectors.T
    return np.asarray(whitener)

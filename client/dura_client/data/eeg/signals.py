"""Steps of preparation that change a signal. Each uses one recording or one patient and nothing else."""

from __future__ import annotations

from fractions import Fraction

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.errors import InputError
from dura_common.study import SignalContract

SHRINKAGE = 0.05
"""Share of the identity in the covariance of alignment: an average reference leaves one direction empty."""
BAD_DEVIATION = 5.0
"""Robust standard deviations of the log amplitude beyond which a channel counts as bad."""
FLAT_VOLTS = 1e-8
MAX_RATIO = 1000
"""Largest term of a resampling ratio that polyphase filters are built for; odd rates go through the spectrum."""


def positions(contract: SignalContract) -> tuple[mne.channels.DigMontage, dict[str, str]]:
    """Return the 10-05 system, and its names by their lower-case form.

    Raises:
        InputError: the study asks for a channel that the system does not know.
    """
    montage = mne.channels.make_standard_montage("colin27_1005")
    known = {name.lower(): name for name in montage.ch_names}
    unknown = [name for name in contract.channels if name.lower() not in known]
    if unknown:
        raise InputError(
            f"the study asks for channels that the 10-05 system does not know: {', '.join(unknown)}",
            hint="Names are those of the system, such as C3 or FCz. Tell the researcher; `dura site decline` says no.",
        )
    return montage, known


@declares(PrivacyClass.PER_PATIENT)
def complete_channels(raw: mne.io.BaseRaw, contract: SignalContract) -> float:
    """Place all channels, mark bad ones, add absent ones, and interpolate what the study needs, in place.

    Returns:
        The share of the study's channels that were interpolated.

    Raises:
        InputError: unknown channels in the contract, or nothing to interpolate from.
    """
    montage, known = positions(contract)
    raw.rename_channels({name: known[name.lower()] for name in raw.ch_names if name.lower() in known}, verbose="error")
    placed = [name for name in raw.ch_names if name in montage.ch_names]
    if not placed:
        raise InputError("a recording has no channel with a name of the 10-20 system")
    raw.pick(placed)
    wanted = [known[name.lower()] for name in contract.channels]
    absent = [name for name in wanted if name not in raw.ch_names]
    if absent:
        info = mne.create_info(absent, raw.info["sfreq"], "eeg", verbose="error")
        empty = mne.io.RawArray(np.zeros((len(absent), raw.n_times)), info, verbose="error")
        raw.add_channels([empty], force_update_info=True)
    raw.set_montage(montage, match_case=False, verbose="error")
    bad = set(raw.info["bads"]) | set(absent) | set(_suspicious(raw))
    raw.info["bads"] = sorted(bad)
    if len(bad) >= len(raw.ch_names) - 1:
        raise InputError("a recording has no good channel to interpolate from")
    if bad & set(wanted):
        raw.interpolate_bads(reset_bads=True, method={"eeg": "spline"}, verbose="error")
    return len(bad & set(wanted)) / len(wanted)


def _suspicious(raw: mne.io.BaseRaw) -> list[str]:
    """Return channels that are flat, or whose amplitude is far from the others' in the same recording."""
    size = np.median(np.abs(np.diff(raw.get_data(), axis=1)), axis=1)
    return [name for name, odd in zip(raw.ch_names, far_from_others(size), strict=True) if odd]


def far_from_others(size: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which channels (median absolute difference of neighbouring samples, volts) are flat or unlike the others."""
    flat = size < FLAT_VOLTS * 1e-3
    if flat.all():
        return flat
    logs = np.log(np.where(flat, 1.0, size))
    centre = np.median(logs[~flat])
    spread = max(1.4826 * float(np.median(np.abs(logs[~flat] - centre))), 0.1)
    found: NDArray[np.bool_] = flat | (np.abs(logs - centre) > BAD_DEVIATION * spread)
    return found


@declares(PrivacyClass.PER_PATIENT)
def bring_to_rate_and_band(raw: mne.io.BaseRaw, contract: SignalContract) -> None:
    """Remove the line where the band reaches it, resample and band-pass the continuous signal, in place.

    Raises:
        InputError: the recording is sampled too slowly to hold the study's band.
    """
    rate, (low, high) = float(raw.info["sfreq"]), contract.band
    if rate / 2 <= high:
        raise InputError(f"a recording is sampled at {rate:g} Hz and cannot hold the study's band up to {high:g} Hz")
    line = raw.info["line_freq"]
    slope = max(0.25 * high, 2.0)  # MNE's automatic transition of the low-pass: what lies beyond is removed anyway
    if line and line <= high + slope and line < rate / 2:
        raw.notch_filter(np.arange(line, min(high + slope, rate / 2 - 1) + 0.5, line), verbose="error")
    if rate != contract.sampling_rate:
        ratio = Fraction(contract.sampling_rate / rate).limit_denominator(MAX_RATIO)
        exact = abs(float(ratio) * rate / contract.sampling_rate - 1) < 1e-9  # noqa: PLR2004  # a sample in ten days
        raw.resample(contract.sampling_rate, method="polyphase" if exact else "fft", verbose="error")
    raw.filter(low, high, verbose="error")


@declares(PrivacyClass.PER_PATIENT)
def reference_and_scale(raw: mne.io.BaseRaw, contract: SignalContract) -> NDArray[np.float64]:
    """Return the study's channels (channels, samples), average reference, in robust standard deviations."""
    wanted = {name.lower(): index for index, name in enumerate(raw.ch_names)}
    signal: NDArray[np.float64] = raw.get_data(picks=[wanted[name.lower()] for name in contract.channels])
    signal -= signal.mean(axis=0)
    deviation = np.median(np.abs(signal - np.median(signal, axis=1, keepdims=True))) * 1.4826
    signal /= max(deviation, FLAT_VOLTS)
    return signal


@declares(PrivacyClass.PER_PATIENT)
def euclidean_alignment(windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whiten windows (n, channels, samples) by the inverse square root of their mean covariance.

    He and Wu 2020, IEEE TBME 67:399. Unlabelled, and of one patient only; the covariance is shrunk towards a
    multiple of the identity by 5 %.
    """
    covariance = np.einsum("nct,ndt->cd", windows, windows) / (windows.shape[0] * windows.shape[2])
    size = len(covariance)
    mixed = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(mixed)
    whitener = vectors @ np.diag(np.maximum(values, np.finfo(np.float64).tiny) ** -0.5) @ vectors.T
    aligned: NDArray[np.float64] = np.einsum("cd,ndt->nct", whitener, windows)
    return aligned

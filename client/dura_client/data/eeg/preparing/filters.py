"""The filters of a study as stages: line, sampling rate, band. Kernels are MNE's own designs."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import mne
import numpy as np
from numpy.typing import NDArray

from dura_client.data.eeg.preparing.stages import AtTimes, Chain, Fir, Polyphase, Stage
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.errors import InputError
from dura_common.study import SignalContract

MAX_RATIO = 1000
"""Largest term of a resampling ratio that one polyphase filter is built for; odd rates are interpolated."""
EXACT = 1e-9
"""Relative error of a ratio: a sample in ten days."""
WIDTH = 10
"""Half length of a resampling kernel, in samples of the slower rate, as scipy's ``resample_poly``."""
SHAPE = ("kaiser", 5.0)
OVERSAMPLED = 8
"""Times the input's rate at which an odd rate is interpolated: 3e-5 of the amplitude up to a quarter of the rate."""


@declares(PrivacyClass.PER_PATIENT)
def bring_to_rate_and_band(contract: SignalContract, rate: float, line: float | None) -> Chain:
    """Return what removes the line where the band reaches it, resamples, and keeps the study's band.

    Args:
        contract: what the study asks for.
        rate: of the recording, Hz.
        line: frequency of the mains, Hz, as declared.

    Raises:
        InputError: the recording is sampled too slowly to hold the study's band.
    """
    low, high = contract.band
    if rate / 2 <= high:
        raise InputError(f"a recording is sampled at {rate:g} Hz and cannot hold the study's band up to {high:g} Hz")
    causal = contract.filter == "causal"
    stages: list[Stage] = []
    slope = max(0.25 * high, 2.0)  # MNE's automatic transition of the low-pass: what lies beyond is removed anyway
    highest = min(high + slope, rate / 2 - 1)
    if line and line <= highest:
        stages.append(Fir(_notch(rate, line, highest, causal), causal=causal))
    stages += _resampling(rate, contract.sampling_rate, causal=causal)
    stages.append(Fir(_band(contract.sampling_rate, low, high, causal), causal=causal))
    return Chain(stages)


def _resampling(rate: float, wanted: float, *, causal: bool) -> list[Stage]:
    if rate == wanted:
        return []
    ratio = Fraction(wanted / rate).limit_denominator(MAX_RATIO)
    if ratio and abs(float(ratio) * rate / wanted - 1) < EXACT:
        up, down = ratio.numerator, ratio.denominator
        return [Polyphase(up, down, _interpolator(up, max(up, down), causal), causal=causal)]
    slower = OVERSAMPLED * max(1.0, rate / wanted)
    return [
        Polyphase(OVERSAMPLED, 1, _interpolator(OVERSAMPLED, slower, causal), causal=causal),
        AtTimes(rate * OVERSAMPLED / wanted, delay=2 if causal else 0),
    ]


@lru_cache(maxsize=64)
def _interpolator(up: int, slower: float, causal: bool) -> NDArray[np.float64]:
    """Return the low-pass at ``1 / slower`` of half the raised rate, with a sum of ``up``."""
    from scipy.signal import firwin, minimum_phase  # noqa: PLC0415  # its import takes half a second, and training filters nothing

    kernel = firwin(2 * round(WIDTH * slower) + 1, 1 / slower, window=SHAPE)
    if causal:
        kernel = minimum_phase(kernel, half=False)
    found: NDArray[np.float64] = kernel * (up / kernel.sum())
    return found


@lru_cache(maxsize=64)
def _band(rate: float, low: float, high: float, causal: bool) -> NDArray[np.float64]:
    return _designed(rate, low, high, causal)


@lru_cache(maxsize=64)
def _notch(rate: float, line: float, highest: float, causal: bool) -> NDArray[np.float64]:
    """Return what ``mne.filter.notch_filter`` applies at the line and its multiples."""
    lines = np.arange(line, highest + 0.5, line)
    width = lines / 400 + 0.5
    return _designed(rate, lines + width, lines - width, causal, l_trans_bandwidth=0.5, h_trans_bandwidth=0.5)


def _designed(rate: float, low: object, high: object, causal: bool, **options: float) -> NDArray[np.float64]:
    phase = "minimum" if causal else "zero"
    found: NDArray[np.float64] = mne.filter.create_filter(
        None, rate, low, high, phase=phase, verbose="warning", **options
    )
    return found

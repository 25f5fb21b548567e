"""Single steps of preparation against what they must do to a known signal."""

from __future__ import annotations

from collections.abc import Callable

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dura_client.data.eeg.signals import (
    bring_to_rate_and_band,
    complete_channels,
    euclidean_alignment,
    reference_and_scale,
)
from dura_common.errors import InputError
from dura_common.study import SignalContract

NAMES = ["Fz", "F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "Oz", "O2"]


@pytest.fixture
def recording() -> Callable[..., mne.io.RawArray]:
    """Return a function that makes ten seconds of one smooth field plus a little noise."""

    def make(rate: float = 256.0, names: list[str] = NAMES, line: float | None = None) -> mne.io.RawArray:
        rng = np.random.default_rng(0)
        time = np.arange(round(10 * rate)) / rate
        common = 2e-5 * np.sin(2 * np.pi * 10 * time)
        values = common * np.linspace(0.8, 1.2, len(names))[:, None] + 1e-6 * rng.standard_normal(
            (len(names), len(time))
        )
        raw = mne.io.RawArray(values, mne.create_info(names, rate, "eeg"), verbose="error")
        if line:
            raw._data += 3e-5 * np.sin(2 * np.pi * line * time)
            raw.info["line_freq"] = line
        return raw

    return make


@given(
    windows=st.integers(1, 6), channels=st.integers(2, 9), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=50, deadline=None)
def test_alignment_whitens(windows: int, channels: int, scale: float, seed: int) -> None:
    """Whatever a patient's mixing and gain, the mean covariance afterwards is nearly the identity."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(channels) + 0.1 * rng.standard_normal((channels, channels))
    data = scale * np.einsum("cd,ndt->nct", mixing, rng.standard_normal((windows, channels, 400)))
    aligned = euclidean_alignment(data)
    covariance = np.einsum("nct,ndt->cd", aligned, aligned) / (windows * 400)
    np.testing.assert_allclose(covariance, np.eye(channels), atol=0.25)  # 5 % shrinkage keeps it from being exact
    np.testing.assert_allclose(euclidean_alignment(3 * data), aligned, rtol=1e-6, atol=1e-9)


def test_alignment_survives_the_average_reference() -> None:
    """A singular covariance gives finite windows and no direction is blown up."""
    data = np.random.default_rng(1).standard_normal((5, 8, 300))
    data -= data.mean(axis=1, keepdims=True)
    aligned = euclidean_alignment(data)
    assert np.isfinite(aligned).all()
    assert np.abs(aligned).max() < 10


def test_absent_channels_are_interpolated(recording: Callable[..., mne.io.RawArray], contract: SignalContract) -> None:
    """A channel that the site lacks follows its neighbours."""
    raw = recording(names=[name for name in NAMES if name != "Cz"])
    truth = recording().get_data(picks=["Cz"])[0]
    complete_channels(raw, contract)
    assert np.corrcoef(raw.get_data(picks=["Cz"])[0], truth)[0, 1] > 0.9


@pytest.mark.parametrize("fault", ["flat", "loud", "declared"])
def test_bad_channels_are_replaced(
    recording: Callable[..., mne.io.RawArray], contract: SignalContract, fault: str
) -> None:
    """Flat channels, loud ones and those that the site marked are interpolated from the good ones."""
    raw, truth = recording(), recording().get_data(picks=["C3"])[0]
    noise = np.random.default_rng(2).standard_normal(raw.n_times)
    raw._data[NAMES.index("C3")] = {"flat": 0 * noise, "loud": 5e-4 * noise, "declared": 1e-5 * noise}[fault]
    raw.info["bads"] = ["C3"] if fault == "declared" else []
    complete_channels(raw, contract)
    assert np.corrcoef(raw.get_data(picks=["C3"])[0], truth)[0, 1] > 0.9


def test_spelling_of_channels_does_not_matter(
    recording: Callable[..., mne.io.RawArray], contract: SignalContract
) -> None:
    """CZ and cz are Cz, and other channels than those of the 10-05 system are left out."""
    raw = recording(names=[*(name.upper() for name in NAMES), "Trigger"])
    complete_channels(raw, contract)
    assert set(NAMES) == set(raw.ch_names)


def test_recordings_without_known_channels_are_refused(
    recording: Callable[..., mne.io.RawArray], contract: SignalContract
) -> None:
    """Names such as E1 say nothing about the place."""
    with pytest.raises(InputError, match="no channel with a name of the 10-20 system"):
        complete_channels(recording(names=["E1", "E2"]), contract)


def test_nothing_is_interpolated_from_nothing(
    recording: Callable[..., mne.io.RawArray], contract: SignalContract
) -> None:
    """One good channel is not enough to guess eight others."""
    with pytest.raises(InputError, match="no good channel"):
        complete_channels(recording(names=["Cz"]), contract)


@pytest.mark.parametrize("rate", [128.0, 200.0, 250.0, 512.0, 250.37])
def test_any_rate_comes_to_the_studys_rate(
    recording: Callable[..., mne.io.RawArray], contract: SignalContract, rate: float
) -> None:
    """Ten seconds stay ten seconds, and a 10 Hz rhythm stays at 10 Hz."""
    raw = recording(rate)
    bring_to_rate_and_band(raw, contract)
    assert raw.info["sfreq"] == pytest.approx(128.0)
    assert raw.n_times == pytest.approx(1280, abs=2)
    spectrum = np.abs(np.fft.rfft(raw.get_data(picks=["C4"])[0]))
    assert np.argmax(spectrum) * 128.0 / raw.n_times == pytest.approx(10.0, abs=0.2)


@pytest.mark.parametrize("band", [(4.0, 38.0), (4.0, 45.0), (4.0, 60.0)])
def test_the_line_is_removed_whatever_the_band(
    recording: Callable[..., mne.io.RawArray], contract: SignalContract, band: tuple[float, float]
) -> None:
    """50 Hz does not pass as a sign of the hospital, by the band-pass alone or by a notch."""
    raw = recording(line=50.0)
    bring_to_rate_and_band(raw, contract.model_copy(update={"band": band}))
    middle = raw.get_data(picks=["C4"])[0][256:1024]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    axis = np.fft.rfftfreq(len(middle), 1 / 128)
    assert spectrum[np.abs(axis - 50) < 0.5].max() < 0.05 * spectrum[np.abs(axis - 10) < 0.5].max()


def test_too_slow_recordings_are_refused(recording: Callable[..., mne.io.RawArray], contract: SignalContract) -> None:
    """A band that the recording never held is not made up."""
    with pytest.raises(InputError, match="sampled at 64 Hz"):
        bring_to_rate_and_band(recording(64.0), contract)


def test_reference_gain_and_order(recording: Callable[..., mne.io.RawArray], contract: SignalContract) -> None:
    """Rows follow the study's order, sum to zero, and do not depend on gain or reference."""
    raw, other = recording(), recording()
    other._data = 4 * (other._data - other._data[3])
    signal = reference_and_scale(raw, contract)
    assert signal.shape == (len(contract.channels), raw.n_times)
    np.testing.assert_allclose(signal.sum(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(reference_and_scale(other, contract), signal, rtol=1e-6, atol=1e-9)

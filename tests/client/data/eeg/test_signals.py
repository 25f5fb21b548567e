"""Single steps of preparation against what they must do to a known signal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dura_client.data.eeg.sensors.amplitude import amplitude_of
from dura_client.data.eeg.signals import (
    applied,
    complete_channels,
    euclidean_alignment,
    far_from_others,
    robust_deviation,
)
from dura_common.errors import InputError
from dura_common.study import SignalContract

NAMES = ["Fz", "F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "O1", "Oz", "O2"]


def field(names: list[str] = NAMES) -> np.ndarray:
    """Return ten seconds (channels, samples) of one smooth field plus a little noise, volts."""
    rng = np.random.default_rng(0)
    common = 2e-5 * np.sin(2 * np.pi * 10 * np.arange(2560) / 256)
    gains = dict(zip(NAMES, np.linspace(0.8, 1.2, len(NAMES)), strict=True))
    scale = np.array([gains[name] for name in names])[:, None]
    return common * scale + 1e-6 * rng.standard_normal((len(names), len(common)))


def referenced(values: np.ndarray, contract: SignalContract) -> np.ndarray:
    """Return the study's channels of a recording with all channels, about their average."""
    chosen = values[[NAMES.index(name) for name in contract.channels]]
    return np.asarray(chosen - chosen.mean(axis=0))


@given(
    windows=st.integers(1, 6), channels=st.integers(2, 9), scale=st.floats(1e-6, 1e6), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=50, deadline=None)
def test_alignment_whitens(windows: int, channels: int, scale: float, seed: int) -> None:
    """Whatever a patient's mixing and gain, the mean covariance afterwards is nearly the identity."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(channels) + 0.1 * rng.standard_normal((channels, channels))
    data = scale * np.einsum("cd,ndt->nct", mixing, rng.standard_normal((windows, channels, 400)))
    covariance = np.einsum("nct,ndt->cd", data, data) / (windows * 400)
    whitener = euclidean_alignment(covariance)
    np.testing.assert_allclose(whitener @ covariance @ whitener.T, np.eye(channels), atol=0.25)  # 5 % shrinkage
    np.testing.assert_allclose(euclidean_alignment(9 * covariance) * 3, whitener, rtol=1e-6)


def test_alignment_survives_the_average_reference() -> None:
    """A singular covariance gives a finite operator, and no direction is blown up."""
    data = np.random.default_rng(1).standard_normal((8, 1500))
    data -= data.mean(axis=0)
    whitener = euclidean_alignment(data @ data.T / 1500)
    assert np.isfinite(whitener).all()
    assert np.abs(whitener @ data).max() < 10


def test_absent_channels_are_interpolated(contract: SignalContract) -> None:
    """A channel that the site lacks follows its neighbours."""
    names = [name for name in NAMES if name != "Cz"]
    values = field(names)
    found = complete_channels(names, (), contract) @ values
    reference = values[names.index("F3")] - found[contract.channels.index("F3")]
    truth = field()[NAMES.index("Cz")]
    assert np.corrcoef(found[contract.channels.index("Cz")] + reference, truth)[0, 1] > 0.9


@pytest.mark.parametrize("fault", ["flat", "loud"])
def test_bad_channels_are_found_and_replaced(contract: SignalContract, fault: str) -> None:
    """Flat and loud channels are found by the size of their steps; nothing of a bad channel gets through."""
    values = field()
    noise = np.random.default_rng(2).standard_normal(values.shape[1])
    values[NAMES.index("C3")] = {"flat": 0 * noise, "loud": 5e-4 * noise}[fault]
    odd = far_from_others(np.median(np.abs(np.diff(values, axis=1)), axis=1), ["EEG"] * len(NAMES))
    assert [name for name, found in zip(NAMES, odd, strict=True) if found] == ["C3"]
    operator = complete_channels(NAMES, ["C3"], contract)
    assert not operator[:, NAMES.index("C3")].any()
    before = np.abs(operator[contract.channels.index("C3")])
    assert before.max() > 0


def test_spelling_of_channels_does_not_matter(contract: SignalContract) -> None:
    """CZ and cz are Cz, and other channels than those of the 10-05 system are left out."""
    names = [*(name.upper() for name in NAMES), "Trigger"]
    operator = complete_channels(names, (), contract)
    np.testing.assert_allclose(operator[:, :-1], complete_channels(NAMES, (), contract), atol=1e-12)
    assert not operator[:, -1].any()


def test_recordings_without_known_channels_are_refused(contract: SignalContract) -> None:
    """Names such as E1 say nothing about the place."""
    with pytest.raises(InputError, match="no channel with a name of the 10-20 system"):
        complete_channels(["E1", "E2"], (), contract)


def test_nothing_is_interpolated_from_nothing(contract: SignalContract) -> None:
    """One good channel is not enough to guess eight others."""
    with pytest.raises(InputError, match="no good channel"):
        complete_channels(["Cz"], (), contract)


def test_reference_gain_and_order(contract: SignalContract) -> None:
    """Rows follow the study's order, sum to zero, and do not depend on gain or reference."""
    operator, values = complete_channels(NAMES, (), contract), field()
    signal = operator @ values
    other = operator @ (4 * (values - values[3]))
    assert signal.shape == (len(contract.channels), values.shape[1])
    np.testing.assert_allclose(signal, referenced(values, contract), atol=1e-12)
    np.testing.assert_allclose(signal.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(other / robust_deviation(other), signal / robust_deviation(signal), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("outputs", "channels", "samples"), [(11, 22, 15_361), (3, 300, 1000), (1, 1, 1), (4, 5, 0)])
def test_an_operator_in_pieces_is_the_operator(outputs: int, channels: int, samples: int) -> None:
    """Multiplied piece by piece, a signal is what one product gives, whatever the sizes."""
    rng = np.random.default_rng(1)
    operator, signal = rng.normal(size=(outputs, channels)), rng.normal(size=(channels, samples))
    np.testing.assert_allclose(applied(operator, signal), operator @ signal, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rate", [250, 256, 500, 1000, 5000])
def test_the_amplitude_of_a_minute_is_known_from_some_of_its_samples(rate: int) -> None:
    """With mains as strong as the brain, and an offset, it is within a few percent of what all samples give."""
    rng, times = np.random.default_rng(2), np.arange(60 * rate) / rate
    signal = 20e-6 * rng.normal(size=(5, 60 * rate)) + 20e-6 * np.sin(2 * np.pi * 50 * times) + 1e-3
    whole = np.median(np.abs(signal - np.median(signal, axis=1, keepdims=True))) * 1e6
    assert amplitude_of(signal) == pytest.approx(whole, rel=0.04)

"""Preparation in blocks: equal to the whole, exact in time, and causal if the study says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.preparing.filters import bring_to_rate_and_band
from dura_client.data.eeg.preparing.windows import WindowSource
from dura_client.data.store.entry import open_entry, write_entry
from dura_common.errors import InputError
from dura_common.study import SignalContract

KEY = b"k" * 32
CONTRACT = SignalContract(
    task="motorimagery",
    channels=("C3", "C4"),
    sampling_rate=128.0,
    band=(4.0, 45.0),
    window_start=0.0,
    window_length=1.0,
    classes=("left", "right"),
)
RATES = (128.0, 160.0, 200.0, 250.0, 256.0, 500.0, 512.0, 173.61, 249.99)


def filtered(
    signal: NDArray[np.float64], contract: SignalContract, rate: float, sizes: list[int], line: float | None = None
) -> NDArray[np.float64]:
    """Return a signal after the study's filters, in blocks of these sizes, the last one repeated."""
    chain, parts, begin = bring_to_rate_and_band(contract, rate, line), [], 0
    while begin < signal.shape[1]:
        size = sizes[min(len(parts), len(sizes) - 1)]
        parts.append(chain.push(signal[:, begin : begin + size]))
        begin += size
    return np.concatenate([*parts, chain.finish()], axis=1)


@given(
    rate=st.sampled_from(RATES),
    samples=st.integers(1, 6000),
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=5),
    kind=st.sampled_from(["zero-phase", "causal"]),
    line=st.sampled_from([None, 50.0]),
)
@settings(max_examples=60, deadline=None)
def test_blocks_of_any_size_give_the_whole(
    rate: float, samples: int, sizes: list[int], kind: str, line: float | None
) -> None:
    """Line filter, resampling and band-pass do not see where blocks end, however short the recording."""
    contract = CONTRACT.model_copy(update={"filter": kind})
    signal = np.random.default_rng(samples).standard_normal((2, samples))
    sizes = [*sizes, max(sizes[-1], 50)]
    whole = filtered(signal, contract, rate, [samples], line)
    assert whole.shape[1] == int(np.ceil(samples * 128.0 / rate - 1e-9))
    np.testing.assert_allclose(filtered(signal, contract, rate, sizes, line), whole, atol=1e-9)


@pytest.mark.parametrize("rate", RATES)
def test_resampling_is_exact_in_time(contract: SignalContract, rate: float) -> None:
    """A rhythm has the same phase at the begin and at the end of a recording: less than 0.02 ms off, at any length."""
    samples = round(61.3 * rate)
    signal = np.sin(2 * np.pi * 10 * np.arange(samples) / rate)[None]
    found = filtered(signal, contract, rate, [samples])[0]
    for begin in (5, 50):
        part = found[begin * 128 : (begin + 5) * 128]
        phase = np.angle((part * np.exp(-2j * np.pi * 10 * np.arange(begin * 128, (begin + 5) * 128) / 128)).sum() * 1j)
        assert abs(phase) / (2 * np.pi * 10) < 2e-5


@pytest.mark.parametrize("rate", [128.0, 160.0, 500.0, 173.61])
def test_causal_filters_do_not_look_ahead(contract: SignalContract, rate: float) -> None:
    """What comes later changes no earlier sample; zero-phase filters, for comparison, do look ahead."""
    signal = np.random.default_rng(3).standard_normal((1, round(20 * rate)))
    later = signal.copy()
    moment = round(12 * rate)
    later[:, moment:] += 5.0
    for kind, looks in (("causal", False), ("zero-phase", True)):
        chosen = contract.model_copy(update={"filter": kind})
        first, second = (filtered(one, chosen, rate, [one.shape[1]], 50.0) for one in (signal, later))
        until = int(np.ceil(moment * 128 / rate - 1e-9))  # output samples whose time is before the change
        assert (np.abs(first - second)[:, :until].max() > 1e-6) == looks
        assert np.abs(first - second)[:, until:].max() > 0.1


def test_causal_filters_keep_the_band(contract: SignalContract) -> None:
    """Their gain is that of the zero-phase filters, and they are late by less than 60 ms."""
    impulse = np.zeros((1, 4096))
    impulse[0, 1024] = 1.0
    gains = {}
    for kind in ("zero-phase", "causal"):
        found = filtered(impulse, contract.model_copy(update={"filter": kind}), 256.0, [4096])[0]
        gains[kind] = np.abs(np.fft.rfft(found, 2048))
        if kind == "causal":
            assert 0 <= np.abs(found).argmax() / 128 - 4.0 < 0.06
    np.testing.assert_allclose(gains["causal"], gains["zero-phase"], atol=0.01)


def test_a_patient_does_not_depend_on_the_blocks(hospitals: Path, tmp_path: Path, contract: SignalContract) -> None:
    """The windows of a whole recording read in one block or in odd ones: equal to single precision."""
    dataset = DataSet(name="motor", root=str(hospitals / "north"), task=contract.task)
    found = []
    for block in (None, 997, 10_007):
        source = WindowSource(dataset, contract, block=block)
        recordings = [item for item in source.folder.recordings if item.subject == "001"]
        target = tmp_path / str(block) / "patient" / "entry"
        target.parent.parent.mkdir()
        write_entry(target, lambda work, source=source, items=recordings: source.arrays(items, KEY, work, None), None)  # type: ignore[misc]  # a default binds the loop's value
        found.append(open_entry(target))
    for other in found[1:]:
        np.testing.assert_allclose(other.windows, found[0].windows, atol=2e-5)
        assert other.fingerprints == found[0].fingerprints
        assert np.array_equal(other.labels, found[0].labels)


def test_too_slow_recordings_are_refused(contract: SignalContract) -> None:
    """A band that the recording never held is not made up."""
    with pytest.raises(InputError, match="sampled at 64 Hz"):
        bring_to_rate_and_band(contract, 64.0, None)


@pytest.mark.parametrize("band", [(4.0, 38.0), (4.0, 45.0), (4.0, 60.0)])
@pytest.mark.parametrize("kind", ["zero-phase", "causal"])
def test_the_line_is_removed_whatever_the_band(contract: SignalContract, band: tuple[float, float], kind: str) -> None:
    """50 Hz does not pass as a sign of the hospital, by the band-pass alone or by a notch."""
    time = np.arange(2560) / 256
    signal = (np.sin(2 * np.pi * 10 * time) + 1.5 * np.sin(2 * np.pi * 50 * time))[None]
    found = filtered(signal, contract.model_copy(update={"band": band, "filter": kind}), 256.0, [700], 50.0)[0]
    middle = found[512:1024]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    axis = np.fft.rfftfreq(len(middle), 1 / 128)
    assert spectrum[np.abs(axis - 50) < 0.5].max() < 0.05 * spectrum[np.abs(axis - 10) < 0.5].max()

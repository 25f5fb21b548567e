"""Defects of samples, and recordings that are copies of one another."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, resample_poly, sosfilt
from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import (
    CHANNELS,
    RATE,
    SECONDS,
    STEMS,
    SUB02,
    Spec,
    Tree,
    numbers,
    signal,
    spec,
    write_brainvision,
)
from tests.client.data.recordings.edf_writer import Annotated, Header, Written

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
Values = NDArray[np.float64]


def values(change: Callable[[Values], Values]) -> Callable[[Tree], None]:
    """Return a defect that writes the recording with other samples."""
    return lambda tree: tree.write(spec(2, change(signal(2).copy())))


def channel(index: int, change: Callable[[Values], Values]) -> Callable[[Tree], None]:
    """Return a defect of one channel."""

    def all_channels(found: Values) -> Values:
        found[index] = change(found[index])
        return found

    return values(all_channels)


def clipped(found: Values) -> Values:
    """Cut values at two standard deviations, as an amplifier at its limit does."""
    limit = 2 * found.std(axis=-1, keepdims=True)
    return np.clip(found, -limit, limit)


def held(found: Values) -> Values:
    """Keep all channels at one value for three seconds."""
    found[:, 10 * RATE : 13 * RATE] = found[:, 10 * RATE, None]
    return found


def copied(sign: float) -> Callable[[Values], Values]:
    """Return a change that makes one channel the copy of another."""

    def change(found: Values) -> Values:
        found[6] = sign * found[2]
        return found

    return change


quick("a flat channel", "CH-FLAT", channel(3, np.zeros_like))
quick("every channel of one recording flat", "VAL-NONE", values(np.zeros_like))
quick(
    "a channel a thousand times too large",
    "CH-FLAT",
    channel(3, lambda row: np.clip(row * 1000, -3000, 3000) + np.random.default_rng(0).normal(0, 200, len(row))),
)
quick("a channel of noise", "CH-FLAT", channel(3, lambda row: np.random.default_rng(0).normal(0, 900, len(row))))
quick("an amplifier at its limit", "VAL-CLIP", values(clipped))
quick("one channel at its limit", "VAL-CLIP", channel(3, clipped))
quick("two channels with the same samples", "CH-SAME", values(copied(1.0)))
quick("two channels with inverted samples", "CH-SAME", values(copied(-1.0)))
quick("three seconds without a change", "VAL-HOLD", values(held))
quick(
    "values a thousand times too large",
    "VAL-UNIT",
    lambda tree: tree.write(
        spec(2).each(lambda one: Written(one.label, one.numbers, RATE, "uV", ("-3276800", "3276700")))
    ),
)
quick(
    "values a thousand times too small",
    "VAL-UNIT",
    lambda tree: tree.write(
        spec(2).each(lambda one: Written(one.label, one.numbers, RATE, "uV", ("-3.2768", "3.2767")))
    ),
)
quick(
    "values a million times too large",
    "VAL-UNIT",
    values(lambda found: found),
    dataset={"scales": {f"{SUB02}_eeg.edf": 1e6}},
)


def spoiled(value: float, part: slice | None) -> Callable[[Tree], None]:
    """Return a defect of a BrainVision recording that holds values that are not numbers."""

    def plant(tree: Tree) -> None:
        found = signal(2).copy()
        found[3 if part else slice(None), part or slice(None)] = value
        write_brainvision(tree.recording, found)

    return plant


quick("half a second of NaN in one channel", "VAL-NAN", spoiled(np.nan, slice(700, 764)), kind="brainvision")
quick("a single infinite value", "VAL-NAN", spoiled(np.inf, slice(700, 701)), kind="brainvision")
quick("one channel of NaN", "VAL-NAN", spoiled(np.nan, slice(0, RATE * SECONDS)), kind="brainvision")
quick("every value of one recording NaN", "VAL-NAN", spoiled(np.nan, None), kind="brainvision")


def copy_of_first(change: Callable[[Values], Values], rate: int = RATE) -> Callable[[Tree], None]:
    """Return a defect that files a changed copy of patient 01's first run under patient 02."""

    def plant(tree: Tree) -> None:
        found = change(signal(0).copy())
        stored = numbers(found)
        whole = stored.shape[1] // rate
        written = tuple(Written(name, row[: whole * rate], rate) for name, row in zip(CHANNELS, stored, strict=True))
        tree.write(Spec(written, Header(), Annotated([float(k) for k in range(whole)])))
        tree.json(SamplingFrequency=rate, RecordingDuration=whole)
        tree.rows("_channels.tsv", lambda rows: [rows[0], *[[*row[:3], str(rate), row[4]] for row in rows[1:]]])

    return plant


def band(low: float, high: float) -> Callable[[Values], Values]:
    """Return a causal band-pass."""
    return lambda found: sosfilt(butter(3, (low, high), "bandpass", fs=RATE, output="sos"), found)


COPY = {"place": "sub-0"}
quick("one recording under two patients", "COPY-SAME", copy_of_first(lambda found: found), **COPY)
quick("copy cut by five seconds", "COPY-PROB", copy_of_first(lambda found: found[:, 5 * RATE :]), **COPY)
quick("copy cut at its end", "COPY-PROB", copy_of_first(lambda found: found[:, : -5 * RATE]), **COPY)
quick("copy with another gain", "COPY-PROB", copy_of_first(lambda found: 1.4 * found), **COPY)
quick("copy with the polarity inverted", "COPY-PROB", copy_of_first(lambda found: -found), **COPY)
quick("copy with another reference", "COPY-PROB", copy_of_first(lambda found: found - found[5]), **COPY)
quick("copy with an average reference", "COPY-PROB", copy_of_first(lambda found: found - found.mean(axis=0)), **COPY)
quick("copy filtered between 1 and 40 Hz", "COPY-PROB", copy_of_first(band(1, 40)), **COPY)
quick(
    "copy resampled to 100 Hz",
    "COPY-PROB",
    copy_of_first(lambda found: resample_poly(found, 25, 32, axis=1), 100),
    **COPY,
)
quick(
    "copy resampled to 256 Hz",
    "COPY-PROB",
    copy_of_first(lambda found: resample_poly(found, 2, 1, axis=1), 256),
    **COPY,
)
quick(
    "copy with noise of a fifth",
    "COPY-PROB",
    copy_of_first(lambda found: found + 0.2 * found.std() * np.random.default_rng(0).normal(size=found.shape)),
    **COPY,
)
quick(
    "copy shifted by 5.13 seconds and filtered",
    "COPY-PROB",
    copy_of_first(lambda found: band(1, 40)(found[:, round(5.13 * RATE) :])),
    **COPY,
)


@add("one run filed twice", "COPY-OWN", place="sub-01")
def twice(tree: Tree) -> None:
    """Copy run 1 as run 2."""
    shutil.copy(tree.path("_eeg.edf", STEMS[0]), tree.path("_eeg.edf", STEMS[1]))


@add("one run filed twice, cut", "COPY-OWN", place="sub-01")
def twice_cut(tree: Tree) -> None:
    """Write a part of run 1 as run 2."""
    tree.write(spec(1, signal(0)[:, 4 * RATE :]), STEMS[1])
    tree.json(stem=STEMS[1], RecordingDuration=SECONDS - 4)


quick("copy that runs backwards", "COPY-PROB", copy_of_first(lambda found: found[:, ::-1]), **COPY)
quick("copy shifted by one sample", "COPY-PROB", copy_of_first(lambda found: np.roll(found, 1, axis=1)), **COPY)
quick(
    "white noise in every channel",
    "VAL-NOISE",
    values(lambda found: np.random.default_rng(0).normal(0, 9, found.shape)),
)
quick("three millivolts added to every channel", "VAL-DC", values(lambda found: found + 3000.0))


def on_one_head(change: Callable[[Values], Values]) -> Callable[[Tree], None]:
    """Return a defect of one of several recordings whose channels go together as on one head."""

    def plant(tree: Tree) -> None:
        head = np.random.default_rng(5).normal(size=(len(CHANNELS), len(CHANNELS)))
        slow = butter(1, 10, fs=RATE, output="sos")
        for number, stem in enumerate(STEMS):
            sources = np.random.default_rng([5, number]).normal(size=(len(CHANNELS), RATE * SECONDS))
            mixed = 9.0 * head @ sosfilt(slow, sources)
            tree.write(spec(number, change(mixed) if stem == SUB02 else mixed), stem)

    return plant


quick("two channels exchanged", "CH-SWAP", on_one_head(lambda found: found[[9, *range(1, 9), 0]]))
quick(
    "one channel upside down", "CH-POL", on_one_head(lambda found: found * np.where(np.arange(10) == 3, -1, 1)[:, None])
)
quick("the second half of zeros", "VAL-HOLD", values(lambda found: found * (np.arange(RATE * SECONDS) < RATE * 12)))
quick(
    "the pulses of a calibration in every channel",
    "CH-SAME",
    values(lambda found: 50 * np.sign(np.sin(2 * np.pi * np.arange(RATE * SECONDS) / RATE + 0.01)) + 0.01 * found),
)
quick(
    "the second half repeats the first",
    "COPY-OWN",
    values(lambda found: np.tile(found[:, : RATE * SECONDS // 2], 2)),
)

"""What a recording's samples say: findings from one look."""

from __future__ import annotations

import math

import numpy as np

from dura_client.data.doctor.look import Look
from dura_client.data.eeg.channels import band_text
from dura_client.data.eeg.mains import peaks, shown
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade

SHORT_SECONDS = 10.0
CLIPPED_SHARE = 5e-4
MOSTLY = 0.5
"""Share of a channel's samples, as in loading."""
LOW_PASS_WORTH_KNOWING = 45.0
"""Hz: many studies of rhythms go that far."""
RATE_WORTH_KNOWING = 100.0
NO_PEAK = 2.0
OFFSET, OFFSET_SPREAD = 500.0, 0.1
"""Microvolts by which all channels lie beside zero, and how far from this, relative to it, each may be."""
FEWEST_COMPARED = 4
"""Channels."""
HELD_SHARE = 0.3
"""Of a recording's time: if no channel changes for so long, its size says nothing of its unit."""
ONE_SIGNAL = 0.99
"""Correlation of channels (median, without sign) beyond which all hold one signal: real recordings have .9 at most."""
OCTAVES = ((2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
"""Hz."""
NO_HEAD = "Look at the recording in the recorder's software; if it was not recorded on a head, leave it out."
WHITE, INDEPENDENT = 1.5, 0.2
"""Power density of the strongest octave over that of the weakest, and correlation of channels (median, without sign)
below which a recording is noise: real recordings have 2.5 and .23 and more, simulated ones one of the two."""
SPIKE, SPIKE_TIMES = 3e4, 1000.0
"""A value beyond so many millionths and so many times the channel's usual size is none of a brain's or a body's."""


def findings_of(opened: SignalRecording, seen: Look, dataset: str) -> list[Finding]:
    """Return what one recording's samples give reason to say."""
    place = opened.place
    if (seen.broken > MOSTLY * opened.samples).all():
        return [found("VAL-NAN", place, "most values of every channel are not numbers", grade=Grade.STOPS)]
    if seen.flat.all():
        return [found("VAL-NONE", place, "every channel holds one value only", grade=Grade.STOPS)]
    return [
        *_broken(opened, seen),
        *_amplitude(opened, seen, dataset),
        *_channels(opened, seen),
        *_held(opened, seen),
        *_spikes(opened, seen),
        *_offset(opened, seen),
        *_noise(opened, seen),
        *_band(opened),
        *_line(opened, seen),
        *([found("FILE-SHORT", place, f"it lasts {opened.seconds:.3g} s")] if opened.seconds < SHORT_SECONDS else []),
    ]


def _names(opened: SignalRecording, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
    return listed(channel.name for channel, wanted in zip(opened.channels, chosen, strict=True) if wanted)


def _broken(opened: SignalRecording, seen: Look) -> list[Finding]:
    if not seen.broken.any():
        return []
    share = seen.broken / max(opened.samples, 1)
    cause = f"{_names(opened, seen.broken > 0)}: values that are not numbers, up to {share.max():.2%} of a channel"
    return [found("VAL-NAN", opened.place, cause)]


def _amplitude(opened: SignalRecording, seen: Look, dataset: str) -> list[Finding]:
    measure = opened.measure
    if seen.held > HELD_SHARE * opened.seconds:
        return []  # half of it is no signal, whose size says nothing of units
    if not math.isfinite(seen.amplitude) or measure.is_plausible(seen.amplitude):
        return []
    factor = measure.suggest_scale(seen.amplitude)
    if factor == 1.0:
        cause = f"its values are far from those of {measure.name}, and no unit explains it"
        return [
            found(
                "VAL-UNIT",
                opened.place,
                cause,
                remedy="Look at the recording in the recorder's software, or leave it out.",
            )
        ]
    direction = f"{1 / factor:g} times too large" if factor < 1 else f"{factor:g} times too small"
    units = sorted({opened.source.signals[channel.index].unit or "none" for channel in opened.channels})
    cause = f"its values are about {direction} for {measure.name}; the recording declares the unit {listed(units)}"
    remedy = (
        f"`dura site data update {dataset} --scale {opened.place}={factor * opened.scale:g}` corrects this recording; "
        f"`--scale {factor * opened.scale:g}` all. The factor is a guess from amplitudes: ask who exported the file."
    )
    return [found("VAL-UNIT", opened.place, cause, remedy=remedy)]


def _channels(opened: SignalRecording, seen: Look) -> list[Finding]:
    findings = []
    clipped = (seen.clipped > CLIPPED_SHARE) & ~seen.flat
    if clipped.any():
        cause = (
            f"{_names(opened, clipped)}: up to {seen.clipped.max():.2%} of "
            "the samples lie at the highest or lowest value"
        )
        if clipped.sum() > MOSTLY * len(clipped):
            cause += "; pulses of a calibration look so as well"
        findings.append(found("VAL-CLIP", opened.place, cause))
    odd = seen.odd & ~np.array([channel.bad for channel in opened.channels])
    if odd.any():
        findings.append(found("CH-FLAT", opened.place, f"{_names(opened, odd)}; not marked bad in channels.tsv"))
    pairs = [pair for pair in seen.alike if not (seen.flat[pair[0]] or seen.flat[pair[1]])]
    if pairs:
        names = [channel.name for channel in opened.channels]
        texts = listed(
            (
                f"{names[a]} and "
                f"{names[b]}{' (inverted, as the two electrodes of a linked reference are)' if r < 0 else ''}"
            )
            for a, b, r in pairs
        )
        findings.append(found("CH-SAME", opened.place, texts))
    return findings


def _spikes(opened: SignalRecording, seen: Look) -> list[Finding]:
    stray = (seen.highest > SPIKE_TIMES * np.maximum(seen.usual, 1e-3)) & (seen.highest > SPIKE) & ~seen.odd
    if not stray.any():
        return []
    cause = f"{_names(opened, stray)}: single values up to {seen.highest.max():.3g} {opened.measure.unit}"
    return [found("VAL-SPIKE", opened.place, cause)]


def _offset(opened: SignalRecording, seen: Look) -> list[Finding]:
    """Electrodes have offsets of their own; one that all channels share was added by a program."""
    values = seen.offset[~seen.flat]
    if opened.measure.source != "eeg" or len(values) < FEWEST_COMPARED:
        return []
    common = float(np.median(values))
    if abs(common) < OFFSET or np.abs(values - common).max() > OFFSET_SPREAD * abs(common):
        return []
    return [found("VAL-DC", opened.place, f"every channel lies about {common:,.0f} uV beside zero")]


def _noise(opened: SignalRecording, seen: Look) -> list[Finding]:
    good = np.flatnonzero(~seen.odd)
    if opened.measure.source != "eeg" or opened.rate < 2 * OCTAVES[-1][1] or len(good) < FEWEST_COMPARED:
        return []
    together = float(np.median(np.abs(seen.correlation[np.ix_(good, good)][np.triu_indices(len(good), 1)])))
    if together > ONE_SIGNAL:
        cause = "nearly all channels hold one and the same signal, as of a calibration or of a common input"
        return [found("CH-SAME", opened.place, cause, remedy=NO_HEAD, grade=Grade.LOSES)]
    if together > INDEPENDENT:
        return []
    powers = [seen.spectrum[(seen.frequencies >= low) & (seen.frequencies < high)].mean() for low, high in OCTAVES]
    if not min(powers) > 0 or max(powers) > WHITE * min(powers):
        return []
    cause = "its power is the same from 2 to 32 Hz and its channels have nothing in common, as in noise"
    return [found("VAL-NOISE", opened.place, cause)]


def _held(opened: SignalRecording, seen: Look) -> list[Finding]:
    if not seen.held:
        return []
    return [
        found(
            "VAL-HOLD",
            opened.place,
            f"for {seen.held:.3g} s no channel changes: the recorder paused or the copy was filled up",
            grade=Grade.STOPS if seen.held > HELD_SHARE * opened.seconds else None,
        )
    ]


def _band(opened: SignalRecording) -> list[Finding]:
    findings = []
    for band in sorted({opened.band_of(channel) for channel in opened.channels}, key=str):
        if band[1] is not None and band[1] <= LOW_PASS_WORTH_KNOWING:
            cause = f"the recorder's filter let pass {band_text(band)}"
            findings.append(found("FILT-CUT", opened.place, cause, grade=Grade.KNOW))
    if opened.rate < RATE_WORTH_KNOWING:
        cause = f"sampled at {opened.rate:g} Hz, it holds nothing above {opened.rate / 2:g} Hz"
        findings.append(found("FILT-CUT", opened.place, cause, grade=Grade.KNOW))
    return findings


def _line(opened: SignalRecording, seen: Look) -> list[Finding]:
    """Compare the declared line frequency with the spectrum."""
    strength = peaks(seen.frequencies, seen.spectrum)
    line = shown({one: power for one, power in strength.items() if one != opened.line}) or shown(strength)
    if opened.line is None:
        spectrum = "" if line is None else f"; the spectrum shows {line:g} Hz"
        return [found("LINE-NONE", opened.place, f"{opened.line_fault}{spectrum}")]
    if line is not None and abs(opened.line - line) > 1:
        as_well = " as well" if strength.get(opened.line, 0.0) >= NO_PEAK else ""
        cause = f"PowerLineFrequency is declared as {opened.line:g} Hz, and the spectrum shows {line:g} Hz{as_well}"
        return [found("LINE-NONE", opened.place, cause)]
    return []

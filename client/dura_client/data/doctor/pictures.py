"""The drawings of the check's page: sensors, spectra, amplitudes, windows, time lines."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import mne
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from dura_client.data.doctor.diagnose import Diagnosis, Seen
from dura_client.data.doctor.look import BINS
from dura_client.data.eeg.sensors.amplitude import EEG, Measure
from dura_client.data.eeg.sensors.magnetic import name_of

BLUE, ORANGE, GREY, RED = "#2a6fbb", "#c8641e", "#7a828c", "#b3261e"
INK = "#010203"
"""A colour that is used for nothing else. It becomes `currentColor`, so that pictures match a light or a dark page."""
MOST_ROWS = 60
"""So many recordings or patients fit on one drawing; of more, the first are drawn and the page says so."""
HIGHEST_FREQUENCY = 80.0
LAYOUTS = ("Vectorview-all", "CTF-275")


def draw(found: Diagnosis) -> dict[str, Markup]:
    """Return the drawings by name."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "dura",
        "text.parse_math": False,
        "font.size": 9,
    }
    inked: dict[Any, Any] = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
    )
    drawings: dict[str, Callable[[Diagnosis], Figure]] = {
        "sensors": _sensors,
        "spectra": _spectra,
        "amplitudes": _amplitudes,
        "windows": _windows,
        "timeline": _timeline,
    }
    with mpl.rc_context({**settings, **inked}):
        return {name: _svg(drawing(found), name) for name, drawing in drawings.items()}


def _measure(found: Diagnosis) -> Measure:
    return found.measure or EEG  # empty drawings of what has no channels


def _sensors(found: Diagnosis) -> Figure:
    """Draw every channel at its place; the redder, the more recordings in which it is bad or absent."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    electrodes = _measure(found).source == "eeg"
    flat = _electrodes() if electrodes else _magnetic()
    names = [name for name in found.channels if name in flat]
    bad = Counter(name for item in found.seen for name in item.bad)
    total = max(len(found.seen), 1)
    axes.add_patch(mpl.patches.Circle((0, 0), 1.0, fill=False, color=INK))
    axes.plot([-0.1, 0, 0.1], [0.99, 1.12, 0.99], color=INK)
    for name in names:
        lost = (bad[name] + total - found.channels[name]) / total
        x, y = flat[name]
        axes.plot(
            x,
            y,
            "o",
            markersize=9 if electrodes else 4,
            color=mpl.colors.to_hex(
                (0.17 + 0.6 * lost, 0.44 * (1 - lost) + 0.15 * lost, 0.73 * (1 - lost) + 0.12 * lost)
            ),
        )
        if electrodes:
            axes.text(x, y - 0.085, name, ha="center", va="top", fontsize=7)
    axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal")
    axes.set_axis_off()
    return figure


def _electrodes() -> dict[str, tuple[float, float]]:
    places = mne.channels.make_standard_montage("colin27_1005").get_positions()["ch_pos"]
    return {name: _flat(position) for name, position in places.items()}


def _magnetic() -> dict[str, tuple[float, float]]:
    """Return where the sensors of the systems that MNE draws lie, within the head's circle."""
    places: dict[str, tuple[float, float]] = {}
    for layout in (mne.channels.read_layout(name) for name in LAYOUTS):
        points = layout.pos[:, :2] + layout.pos[:, 2:] / 2
        low, high = points.min(axis=0), points.max(axis=0)
        drawn = 1.8 * (points - low) / (high - low) - 0.9
        places |= {name_of(name): (float(x), float(y)) for name, (x, y) in zip(layout.names, drawn, strict=True)}
    return places


def _flat(position: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Return a place on the head as seen from above: the distance is the angle from the vertex."""
    x, y, z = position - np.array([0.0, -0.01, 0.03])
    radius = 0.78 * np.arctan2(np.hypot(x, y), z) / (np.pi / 2)
    turn = np.arctan2(y, x)
    return float(radius * np.cos(turn)), float(radius * np.sin(turn))


def _spectra(found: Diagnosis) -> Figure:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for item in found.seen:
        inside = (item.frequencies > 0.5) & (item.frequencies <= HIGHEST_FREQUENCY)  # noqa: PLR2004  # Hz, below is drift
        if item.spectrum[inside].any():
            axes.semilogy(item.frequencies[inside], item.spectrum[inside], color=BLUE, alpha=0.35, linewidth=0.8)
    axes.set(xlabel="Hz", ylabel=f"({_measure(found).unit})²/Hz, median over channels")
    return figure


def _amplitudes(found: Diagnosis) -> Figure:
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots()
    for item in found.seen:
        if item.histogram.sum():
            axes.step(
                BINS[:-1], item.histogram / item.histogram.sum(), where="post", color=BLUE, alpha=0.35, linewidth=0.8
            )
    for edge in _measure(found).plausible:
        axes.axvline(edge, color=GREY, linestyle="--")
    axes.set(
        xscale="log",
        xlabel=f"{_measure(found).unit} from the channel's median (the median value must lie between the lines)",
        ylabel="share of values",
    )
    return figure


def _windows(found: Diagnosis) -> Figure:
    """Draw events of each class a patient, or with a study the windows that remain."""
    counts = found.windows or _events(found.seen)
    patients = sorted(counts)[:MOST_ROWS]
    classes = sorted({name for one in counts.values() for name in one})[:12]
    figure = Figure(figsize=(7, 1.2 + 0.22 * len(patients)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(patients))
    for number, name in enumerate(classes):
        values = np.array([counts[patient].get(name, 0) for patient in patients], dtype=np.float64)
        axes.barh([f"sub-{patient}" for patient in patients], values, left=left, label=name, color=f"C{number}")
        left += values
    axes.invert_yaxis()
    axes.set(xlabel="windows of the study" if found.windows else "events")
    if classes:
        figure.legend(frameon=False, loc="outside upper right", ncols=4)
    return figure


def _events(seen: Sequence[Seen]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for item in seen:
        counts.setdefault(item.subject, Counter()).update(name for _, name in item.events)
    return {subject: dict(count) for subject, count in counts.items()}


def _timeline(found: Diagnosis) -> Figure:
    """Draw each recording's stretches by the clock; what is white in between is a gap."""
    seen = found.seen[:MOST_ROWS]
    figure = Figure(figsize=(7, 1.2 + 0.22 * len(seen)), layout="constrained")
    axes = figure.subplots()
    for row, item in enumerate(seen):
        axes.broken_barh(list(item.pieces), (row - 0.3, 0.6), color=BLUE)
        for begin, length in item.pieces[:-1]:
            axes.plot([begin + length], [row], "|", color=RED, markersize=8)
    labels = [item.place.rpartition("/")[2].removesuffix(".edf")[:48] for item in seen]
    axes.set_yticks(range(len(seen)), labels, fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel="seconds by the clock")
    return figure


def _svg(figure: Figure, prefix: str) -> Markup:
    """Return a drawing as markup. ``prefix`` makes its element ids different from those of other drawings."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'( id="|href="#|url\(#)', rf"\1{prefix}-", text)
    return Markup(text)  # noqa: S704  # drawn by matplotlib, which escapes its texts

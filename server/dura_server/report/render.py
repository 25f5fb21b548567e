"""Renders a result as one self-contained page, without scripts and without fonts or pictures from other places."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from importlib import resources

import matplotlib as mpl
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from dura_server.report.result import StudyResult

BLUE, ORANGE, GREY = "#2a6fbb", "#c8641e", "#7a828c"
ERRORS_SHOWN = 2
"""Width of the error bars in standard errors: about 95 %."""
INK = "#010203"
"""A colour that is used for nothing else. It becomes `currentColor`, so that pictures match a light or a dark page."""


def render(result: StudyResult) -> str:
    """Return the report as HTML text."""
    with style():
        pictures = {"curve": _curve(result), "comparison": _comparison(result), "spend": _spend(result)}
    return fill("report.html", result=result, **pictures)


def fill(template: str, **values: object) -> str:
    """Fill in a template of this package with its values and the style that all pages share."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    sheet = Markup(_read("style.css"))  # noqa: S704  # a file of this package
    return environment.from_string(_read(template)).render(style=sheet, **values)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def style() -> AbstractContextManager[None]:
    """Return the settings for drawings: texts stay texts, and colours match the page."""
    return mpl.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "dura",
            "text.parse_math": False,  # a name with dollar signs is a name, not a formula
            "text.color": INK,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    )


def _curve(result: StudyResult) -> Markup:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        [point.round for point in result.curve],
        [point.accuracy for point in result.curve],
        yerr=[ERRORS_SHOWN * point.standard_error for point in result.curve],
        marker="o",
        capsize=3,
        color=BLUE,
        label="released (95 % of the privacy noise)",
    )
    if result.chance is not None:
        axes.axhline(result.chance, color=GREY, linestyle="--", label="chance")
    axes.set(xlabel="round", ylabel=_what(result), ylim=(0, 1), xlim=(0, result.rounds + 0.5))
    figure.legend(frameon=False, loc="outside upper right", ncols=2)  # inside the plot, it would hide a bad curve
    return svg(figure, "curve")


def _what(result: StudyResult) -> str:
    return "accuracy, held-out" if result.bounds is None else "1 - mean error / range, held-out"


def _spend(result: StudyResult) -> Markup | None:
    if result.epsilon is None:
        return None
    return _bars(
        [site.site for site in result.sites],
        [site.epsilon or 0.0 for site in result.sites],
        label="epsilon of the patient who paid most",
        limit=result.epsilon,
        limit_label="planned",
        prefix="spend",
    )


def _comparison(result: StudyResult) -> Markup | None:
    if result.simulation is None:
        return None
    names = [f"{site.site} alone" for site in result.sites] + ["federated", "pooled"]
    values = [site.accuracy_alone or 0.0 for site in result.sites]
    values += [result.simulation.federated, result.simulation.pooled]
    return _bars(
        names,
        values,
        label=_what(result),
        limit=0.5 if result.chance is None else result.chance,
        limit_label="half the range" if result.chance is None else "chance",
        prefix="comparison",
        top=1.0,
    )


def _bars(
    names: list[str],
    values: list[float],
    *,
    label: str,
    limit: float,
    limit_label: str,
    prefix: str,
    top: float | None = None,
) -> Markup:
    figure = Figure(figsize=(7, 1.0 + 0.38 * len(names)), layout="constrained")
    axes = figure.subplots()
    colours = [ORANGE if name in {"federated", "pooled"} else BLUE for name in names]
    axes.barh(names, values, color=colours)
    for row, value in enumerate(values):  # beside the bars, where no line crosses them
        axes.text(1.02, row, f"{value:.3f}", transform=axes.get_yaxis_transform(), va="center")
    axes.axvline(limit, color=GREY, linestyle="--", label=limit_label)
    axes.invert_yaxis()
    axes.set(xlabel=label, xlim=(0, top or 1.15 * max([limit, *values])))
    figure.legend(frameon=False, loc="outside upper right")
    return svg(figure, prefix)


def svg(figure: Figure, prefix: str) -> Markup:
    """Return the drawing as markup. ``prefix`` makes its element ids different from those of other drawings."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r'( id="|href="#|url\(#)', rf"\1{prefix}-", text)
    return Markup(text)  # noqa: S704  # drawn by matplotlib, which escapes its texts

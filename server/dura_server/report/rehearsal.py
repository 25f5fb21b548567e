"""The page of a rehearsal: accuracy against epsilon, self-contained like the report."""

from __future__ import annotations

from markupsafe import Markup
from matplotlib.figure import Figure

from dura_common.study import Study
from dura_server.rehearsal.result import RehearsalResult
from dura_server.report.render import BLUE, GREY, ORANGE, fill, style, svg


def render_rehearsal(study: Study, result: RehearsalResult) -> str:
    """Return the page as HTML text."""
    with style():
        plot = _plot(study, result)
    return fill("rehearsal.html", study=study, result=result, plot=plot)


def _plot(study: Study, result: RehearsalResult) -> Markup:
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    epsilons = [point.epsilon for point in result.points]
    means = [point.mean for point in result.points]
    ranges = [
        [point.mean - point.low for point in result.points],
        [point.high - point.mean for point in result.points],
    ]
    axes.errorbar(epsilons, means, yerr=ranges, marker="o", capsize=3, color=BLUE, label="mean, lowest and highest run")
    if result.chance is not None:
        axes.axhline(result.chance, color=GREY, linestyle="--", label="chance")
    own = getattr(study.privacy, "epsilon", None)
    if own is not None:
        axes.axvline(own, color=ORANGE, linestyle=":", label="the study's epsilon")
    axes.set_xscale("log")
    axes.set_xticks(epsilons, [f"{value:g}" for value in epsilons], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="epsilon (add/remove one patient)", ylabel=f"{study.data.measure}, held-out", ylim=(0, 1))
    figure.legend(frameon=False, loc="outside upper right", ncols=3)
    return svg(figure, "rehearsal")

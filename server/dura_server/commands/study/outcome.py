"""What a command says about a study: data for scripts, lines for people, and an exit code for its end."""

from __future__ import annotations

from rich.markup import escape

from dura_common.errors import HostError, PolicyError, StateError
from dura_common.runtime.console import Output
from dura_common.study.reference import SHORT_DIGITS
from dura_common.study.warnings import warnings_of
from dura_server.desk.view import StudyView


def as_data(view: StudyView) -> dict[str, object]:
    """Return a study and its state as one JSON object."""
    return {"digest": view.digest, "name": view.study.name, **view.state.model_dump(mode="json"), "model": view.model}


def finish(out: Output, view: StudyView) -> None:
    """End a command with the end of a study.

    Raises:
        PolicyError: too few sites have approved.
        StateError: the study was stopped.
        HostError: the study failed, or its process was lost.
    """
    state = view.state
    for sentence in warnings_of(view.study):
        out.warn(sentence)
    goes_on = f"`dura study resume {view.digest[:SHORT_DIGITS]}` continues from the last opened sum."
    place = f"after round {state.round} of {state.rounds}"
    if state.phase == "unapproved":
        raise PolicyError(state.message, hint="Sites decide with `dura site review` and `dura site approve`.")
    if state.phase == "stopped":
        raise StateError(f"the study was stopped {place}", hint=goes_on)
    if state.phase == "interrupted":
        raise HostError(f"the study was interrupted {place}: {state.message}", hint=goes_on)
    if state.phase == "failed":
        raise HostError(
            f"the study failed {place}: {state.message}",
            hint="`dura study status` shows every site. Only the log of the site that refused has the reason.",
        )
    lines = [f"{view.short()}: {state.phase}"]
    lines += [f"  {name}: {standing}" for name, standing in state.sites.items()]
    lines += [f"  round {p.round}: accuracy {p.accuracy:.3f} +- {p.standard_error:.3f}" for p in state.curve]
    if state.duplicates is not None:
        lines.append(f"  {state.duplicates.sentence}")
    out.result(as_data(view), escape("\n".join(lines)))

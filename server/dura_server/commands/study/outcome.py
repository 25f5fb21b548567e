"""What a command says about a study: data for scripts, lines for people, and an exit code for its end."""

from __future__ import annotations

from rich.markup import escape

from dura_common.errors import DuraError, HostError, PolicyError, StateError
from dura_common.runtime.console import Output
from dura_common.study.reference import SHORT_DIGITS
from dura_common.study.warnings import warnings_of
from dura_server.desk.view import StudyView


def as_data(view: StudyView) -> dict[str, object]:
    """Return a study and its state as one JSON object."""
    return {"digest": view.digest, "name": view.study.name, **view.state.model_dump(mode="json"), "model": view.model}


def finish_all(out: Output, views: list[StudyView], *, queued: bool) -> None:
    """End a command with the states of several studies.

    Raises:
        DuraError: one of them has not finished, and ``queued`` does not say that this is right. All are printed before.
    """
    lines = [f"{view.short()}: {view.state.phase}, round {view.state.round} of {view.state.rounds}" for view in views]
    errors = [] if queued else [error for view in views if (error := _error_of(view, f"{view.study.name}: "))]
    if errors:
        out.say(escape("\n".join(lines)))
        raise errors[0]
    out.result({"studies": [as_data(view) for view in views]}, escape("\n".join(lines)))


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
    error = _error_of(view)
    if error is not None:
        raise error
    lines = [f"{view.short()}: {state.phase}"]
    lines += [f"  {name}: {standing}" for name, standing in state.sites.items()]
    what = view.study.data.measure
    lines += [f"  round {p.round}: {what} {p.accuracy:.3f} +- {p.standard_error:.3f}" for p in state.curve]
    if state.duplicates is not None:
        lines.append(f"  {state.duplicates.sentence}")
    out.result(as_data(view), escape("\n".join(lines)))


def _error_of(view: StudyView, name: str = "") -> DuraError | None:
    """Return the error that stands for a study's end, or None if it ended well."""
    state = view.state
    goes_on = f"`dura study resume {view.digest[:SHORT_DIGITS]}` continues from the last opened sum."
    if view.queued:
        goes_on = "The study is in the queue; it continues when the coordinator's services run again."
    place = f"after round {state.round} of {state.rounds}"
    if state.phase == "unapproved":
        return PolicyError(name + state.message, hint="Sites decide with `dura site review` and `dura site approve`.")
    if state.phase == "stopped":
        return StateError(f"{name}the study was stopped {place}", hint=goes_on)
    if state.phase == "queued":
        return HostError(f"{name}the coordinator's services have stopped before the study began", hint=goes_on)
    if state.phase == "interrupted":
        return HostError(f"{name}the study was interrupted {place}: {state.message}", hint=goes_on)
    if state.phase == "failed":
        return HostError(
            f"{name}the study failed {place}: {state.message}",
            hint="`dura study status` shows every site. Only the log of the site that refused has the reason.",
        )
    return None

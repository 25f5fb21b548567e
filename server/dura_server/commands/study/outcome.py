"""What a command says about a study: data for scripts, lines for people, and an exit code for its end."""

from __future__ import annotations

from dura_common.errors import DuraError, HostError, PolicyError, StateError
from dura_common.runtime.console import Output
from dura_common.study.reference import SHORT_DIGITS
from dura_common.study.warnings import warnings_of
from dura_server.studies.queue import wanted
from dura_server.studies.state import StudyState
from dura_server.studies.store import StoredStudy


def as_data(stored: StoredStudy, state: StudyState) -> dict[str, object]:
    """Return a study and its state as one JSON object."""
    return {
        "digest": stored.digest,
        "name": stored.study.name,
        **state.model_dump(mode="json"),
        "model": str(stored.model_file) if stored.model_file.exists() else None,
    }


def finish_all(out: Output, ended: list[tuple[StoredStudy, StudyState]], *, queued: bool) -> None:
    """End a command with the states of several studies.

    Raises:
        DuraError: one of them has not finished, and it need not be queued only. All others have been printed.
    """
    lines = [
        f"{stored.study.name} ({stored.digest[:SHORT_DIGITS]}): {state.phase}, round {state.round} of {state.rounds}"
        for stored, state in ended
    ]
    if queued or all(state.phase == "finished" for _, state in ended):
        out.result({"studies": [as_data(stored, state) for stored, state in ended]}, "\n".join(lines))
        return
    out.say("\n".join(lines))
    for stored, state in ended:
        error = _error_of(stored, state, name=f"{stored.study.name}: ")
        if error is not None:
            raise error


def finish(out: Output, stored: StoredStudy, state: StudyState) -> None:
    """End a command with the end of a study.

    Raises:
        PolicyError: too few sites have approved.
        StateError: the study was stopped.
        HostError: the study failed, or its process was lost.
    """
    for sentence in warnings_of(stored.study):
        out.warn(sentence)
    error = _error_of(stored, state)
    if error is not None:
        raise error
    lines = [f"{stored.study.name} ({stored.digest[:SHORT_DIGITS]}): {state.phase}"]
    lines += [f"  {name}: {standing}" for name, standing in state.sites.items()]
    lines += [f"  round {p.round}: accuracy {p.accuracy:.3f} +- {p.standard_error:.3f}" for p in state.curve]
    if state.duplicates is not None:
        lines.append(f"  {state.duplicates.sentence}")
    out.result(as_data(stored, state), "\n".join(lines))


def _error_of(stored: StoredStudy, state: StudyState, name: str = "") -> DuraError | None:
    """Return the error that stands for a study's end, or None if it ended well."""
    digest = stored.digest[:SHORT_DIGITS]
    goes_on = f"`dura study resume {digest}` continues from the last opened sum."
    if wanted(stored) is not None:
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

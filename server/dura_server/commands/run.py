"""`dura study submit | run | status | report`: bring a signed study to its sites, run it and read its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dura_common.errors import HostError, PolicyError, StateError
from dura_common.runtime.console import JsonOption, Output, command
from dura_common.runtime.files import SHARED_FILE, read_limited, write_atomic
from dura_common.study.warnings import warnings_of
from dura_server.commands.options import DEFAULT_HOME, HomeOption, StudyArgument

if TYPE_CHECKING:
    from dura_server.home import CoordinatorHome
    from dura_server.studies.store import StoredStudy, StudyState

POLL_SECONDS = 0.3
APPROVAL_POLL_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add the commands to `dura study`."""
    app.command("submit")(submit)
    app.command("run")(run)
    app.command("status")(status)
    app.command("report")(report)


def submit(
    path: Annotated[Path, typer.Argument(help="The signed study file that `dura study sign` wrote.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Offer a signed study to its sites. The coordinator's services must be running."""
    with command(as_json) as out:
        coordinator = _home(home)
        stored = _keep(coordinator, read_limited(path, what="the signed study").decode("utf-8", errors="replace"))
        state = _follow(out, coordinator, stored, job="offer", title="offering")
        _finish(out, stored, state)


def run(
    study: StudyArgument,
    wait: Annotated[float, typer.Option(help="Seconds to wait for missing approvals.")] = 0.0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Train a study that its sites have approved."""
    with command(as_json) as out:
        coordinator = _home(home)
        stored = _load(coordinator, study)
        if stored.read_state().phase == "finished":
            raise StateError(
                "this study has already finished, and a site never answers the same round twice",
                hint="Sign a new study, or write the report of this study with `dura study report`.",
            )
        deadline = time.monotonic() + wait
        while True:
            state = _follow(out, coordinator, stored, job="train", title="rounds")
            if state.phase != "unapproved" or time.monotonic() >= deadline:
                break
            time.sleep(APPROVAL_POLL_SECONDS)
        _finish(out, stored, state)


def status(
    study: Annotated[
        str | None,
        typer.Argument(help="Name of the study, its digest, or the start of the digest. Default: all studies."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of studies at the coordinator."""
    with command(as_json) as out:
        from dura_server.studies.store import StudyStore

        store = StudyStore(_home(home))
        found = [store.load(study)] if study else [store.load(digest) for digest in store.digests()]
        table = Table("digest", "study", "phase", "round", "repeated draws", "sites")
        rows = []
        for stored in found:
            state = stored.read_state()
            sites = ", ".join(f"{name}: {standing}" for name, standing in state.sites.items())
            place = f"{state.round}/{state.rounds}"
            table.add_row(stored.digest[:12], stored.study.name, state.phase, place, str(state.redraws), sites)
            rows.append(_as_data(stored, state))
        out.result({"studies": rows}, table)


def report(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    model: Annotated[Path | None, typer.Option(help="File to which the trained model (safetensors) is copied.")] = None,
    extra: Annotated[
        Path | None,
        typer.Option(help="JSON file with figures that only a simulation knows; `dura demo` writes such a file."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write the self-contained HTML report of a finished study."""
    with command(as_json) as out:
        from dura_server.report import render
        from dura_server.report.outcome import read_extra, result_of

        stored = _load(_home(home), study)
        result = result_of(stored, read_extra(extra) if extra else None)
        write_atomic(output, render(result).encode(), mode=SHARED_FILE)
        if model is not None:
            write_atomic(model, stored.model_file.read_bytes(), mode=SHARED_FILE)
        for sentence in warnings_of(stored.study):
            out.warn(sentence)
        out.result({"report": str(output), "result": result.model_dump(mode="json")}, f"wrote {output}")


def _home(home: Path) -> CoordinatorHome:
    from dura_server.home import CoordinatorHome

    return CoordinatorHome(home.expanduser())


def _load(home: CoordinatorHome, reference: str) -> StoredStudy:
    from dura_server.studies.store import StudyStore

    return StudyStore(home).load(reference)


def _keep(home: CoordinatorHome, envelope: str) -> StoredStudy:
    from dura_server.consortium.enrolment import read_roster
    from dura_server.studies.store import StudyStore

    roster, roster_envelope = read_roster(home)
    return StudyStore(home).submit(envelope, roster_envelope, roster)


def _follow(out: Output, home: CoordinatorHome, stored: StoredStudy, *, job: str, title: str) -> StudyState:
    """Start a Flower run and follow the state file until the run has ended."""
    from dura_server.services.superlink import run_status, submit_run

    before = stored.read_state()
    stored.update(phase="offering" if job == "offer" else "asking", message="")
    run_id = submit_run(home, {"study": stored.digest, "job": job})
    with out.progress() as bar:
        task = bar.add_task(title, total=before.rounds if job == "train" else len(stored.study.sites))
        return _watch(stored, job, lambda: run_status(home, run_id), lambda done: bar.update(task, completed=done))


def _watch(stored: StoredStudy, job: str, ended: Callable[[], str], advance: Callable[[int], None]) -> StudyState:
    done = {"offer": ("offered", "failed"), "train": ("finished", "failed", "unapproved")}[job]
    polls = 0
    while True:
        state = stored.read_state()
        advance(state.round if job == "train" else len(state.sites))
        if state.phase in done:
            return state
        polls += 1
        # The state file answers fast. Flower is asked from time to time, in case the ServerApp died silently.
        if polls % 20 == 0 and ended().startswith("finished"):
            state = stored.read_state()
            if state.phase in done:
                return state
            raise HostError(
                "the Flower run ended without a result", hint="Read serverapp.log in the coordinator's log folder."
            )
        time.sleep(POLL_SECONDS)


def _finish(out: Output, stored: StoredStudy, state: StudyState) -> None:
    for sentence in warnings_of(stored.study):
        out.warn(sentence)
    if state.phase == "unapproved":
        raise PolicyError(state.message, hint="Sites decide with `dura site review` and `dura site approve`.")
    if state.phase == "failed":
        raise HostError(
            f"the study failed: {state.message}",
            hint="`dura study status` shows every site. Only the log of the site that refused has the reason.",
        )
    lines = [f"{stored.study.name} ({stored.digest[:12]}): {state.phase}"]
    lines += [f"  {name}: {standing}" for name, standing in state.sites.items()]
    lines += [f"  round {p.round}: accuracy {p.accuracy:.3f} +- {p.standard_error:.3f}" for p in state.curve]
    if state.duplicates is not None:
        lines.append(f"  {state.duplicates.sentence}")
    out.result(_as_data(stored, state), "\n".join(lines))


def _as_data(stored: StoredStudy, state: StudyState) -> dict[str, object]:
    return {
        "digest": stored.digest,
        "name": stored.study.name,
        **state.model_dump(mode="json"),
        "model": str(stored.model_file) if stored.model_file.exists() else None,
    }

"""`dura study list | status | watch`: the state of studies, now and whenever it changes."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from dura_common.runtime.console import JsonOption, Output, command
from dura_common.study.reference import SHORT_DIGITS
from dura_server.commands.options import (
    DEFAULT_RESEARCHER,
    ResearcherOption,
    StudyArgument,
    WhereOption,
    complete_study,
)
from dura_server.commands.study.run import find_place

if TYPE_CHECKING:
    from dura_server.desk.view import StudyView


def register(app: typer.Typer) -> None:
    """Add the commands to `dura study`."""
    app.command("list")(list_command)
    app.command("status")(status)
    app.command("watch")(watch)


def list_command(
    home: WhereOption = None, researcher: ResearcherOption = DEFAULT_RESEARCHER, as_json: JsonOption = False
) -> None:
    """List the studies at the coordinator, oldest first: digest, name, phase and round."""
    with command(as_json) as out:
        table, rows = Table("digest", "study", "phase", "round", "expires"), []
        for view in find_place(home, researcher).all():
            state, expires = view.state, view.study.expires.isoformat()
            place = f"{state.round}/{state.rounds}"
            table.add_row(view.digest[:SHORT_DIGITS], view.study.name, state.phase, place, expires)
            row = {"digest": view.digest, "name": view.study.name, "phase": state.phase, "round": state.round}
            rows.append({**row, "rounds": state.rounds, "expires": expires})
        out.result({"studies": rows}, table if rows else "no study was submitted here")


def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Name of the study, its digest, or at least the first 6 digits of the digest. Default: all studies.",
            autocompletion=complete_study,
        ),
    ] = None,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Show the state of studies: phase, round, and the last answer and connection of each site."""
    with command(as_json) as out:
        from dura_server.commands.study.outcome import as_data

        place = find_place(home, researcher)
        digests = [place.find(study).digest] if study else [view.digest for view in place.all()]
        rows = []
        for view in map(place.look, digests):
            rows.append({**as_data(view), "connected": view.connected})
            out.say(_table(view))
            if view.state.message:
                out.say(escape(f"  {view.state.message}"))
        out.result({"studies": rows}, None if rows else "no study was submitted here")


def watch(
    study: StudyArgument,
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Follow a study until it ends; with --json, one JSON object a line for every change."""
    with command(as_json) as out:
        place = find_place(home, researcher)
        digest = place.find(study).digest
        out.if_interrupted(f"The study continues; `dura study stop {digest[:SHORT_DIGITS]}` stops it.")
        last: dict[str, Any] = {}
        for view in place.changes(digest):
            now = _line(view)
            if now != last:
                _tell(out, now)
            last = now


def _table(view: StudyView) -> Table:
    state, online = view.state, view.connected
    place = f"round {state.round} of {state.rounds}"
    redraws = f", {state.redraws} repeated draws" if state.redraws else ""
    title = f"{view.short()}: {state.phase}, {place}{redraws}"
    table = Table("site", "last answer", "when", "connected", title=title, title_justify="left")
    for name in sorted(view.study.sites):
        said = escape(state.sites.get(name, "not asked"))
        when = _age(state.heard[name]) if name in state.heard else ""
        known = None if online is None else online.get(name, False)
        table.add_row(name, said, when, "unknown" if known is None else "yes" if known else "no")
    return table


def _age(then: datetime) -> str:
    seconds = max((datetime.now(UTC) - then).total_seconds(), 0.0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _line(view: StudyView) -> dict[str, Any]:
    state = view.state
    return {
        "digest": view.digest,
        "name": view.study.name,
        "phase": state.phase,
        "round": state.round,
        "rounds": state.rounds,
        "measure": view.study.data.measure,
        "accuracy": state.curve[-1].accuracy if state.curve else None,
        "sites": dict(state.sites),
        "redraws": state.redraws,
        "sums": None if view.sums is None else view.sums.model_dump(mode="json"),
        "message": state.message,
    }


def _tell(out: Output, line: dict[str, Any]) -> None:
    if out.as_json:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        sys.stdout.write(json.dumps({"time": stamp, **line}) + "\n")
        sys.stdout.flush()
        return
    place = f"{line['phase']}, round {line['round']} of {line['rounds']}"
    if line["accuracy"] is not None:
        place += f", {line['measure']} {line['accuracy']:.3f}"
    if line["sums"] is not None:
        sums = line["sums"]
        place += f"; {sums['purpose']} round {sums['round']}: {sums['opened']} of {sums['of']} sums"
        if sums["waits_for"]:
            place += f", waiting for {', '.join(sums['waits_for'])}"
    if line["message"]:
        place += f"; {line['message']}"
    out.say(escape(f"{datetime.now(UTC):%H:%M:%S} {line['name']}: {place}"))

"""`dura study list | status | watch`: the state of studies, now and whenever it changes."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dura_common.runtime.console import JsonOption, Output, command
from dura_common.study.reference import SHORT_DIGITS
from dura_server.commands.options import DEFAULT_HOME, HomeOption, StudyArgument
from dura_server.commands.study.run import find_home

if TYPE_CHECKING:
    from dura_server.home import CoordinatorHome
    from dura_server.studies.state import StudyState
    from dura_server.studies.store import StoredStudy

WATCH_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands to `dura study`."""
    app.command("list")(list_command)
    app.command("status")(status)
    app.command("watch")(watch)


def list_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the studies at the coordinator, oldest first: digest, name, phase and round."""
    with command(as_json) as out:
        from dura_server.services.runs import present
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        store = StudyStore(coordinator)
        table, rows = Table("digest", "study", "phase", "round", "expires"), []
        for digest in store.digests():
            stored = store.load(digest)
            state = present(coordinator, stored)
            expires = stored.study.expires.isoformat()
            table.add_row(
                digest[:SHORT_DIGITS], stored.study.name, state.phase, f"{state.round}/{state.rounds}", expires
            )
            row = {"digest": digest, "name": stored.study.name, "phase": state.phase, "round": state.round}
            rows.append({**row, "rounds": state.rounds, "expires": expires})
        out.result({"studies": rows}, table if rows else "no study was submitted here")


def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Name of the study, its digest, or at least the first 6 digits of the digest. Default: all studies."
        ),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the state of studies: phase, round, and the last answer and connection of each site."""
    with command(as_json) as out:
        from dura_server.commands.study.outcome import as_data
        from dura_server.services.runs import present
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        store = StudyStore(coordinator)
        found = [store.find(study)] if study else [store.load(digest) for digest in store.digests()]
        rows = []
        for stored in found:
            state = present(coordinator, stored)
            online = _connected(coordinator, stored)
            rows.append({**as_data(stored, state), "connected": online})
            out.say(_table(stored, state, online))
            if state.message:
                out.say(f"  {state.message}")
        out.result({"studies": rows}, None if rows else "no study was submitted here")


def watch(study: StudyArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Follow a study until it ends; with --json, one JSON object a line for every change."""
    with command(as_json) as out:
        from dura_server.services.runs import present
        from dura_server.studies.queue import wanted
        from dura_server.studies.state import ACTIVE
        from dura_server.studies.store import StudyStore

        coordinator = find_home(home)
        stored = StudyStore(coordinator).find(study)
        out.if_interrupted(f"The study continues; `dura study stop {stored.digest[:SHORT_DIGITS]}` stops it.")
        last: dict[str, Any] = {}
        while True:
            state = present(coordinator, stored)
            now = _line(coordinator, stored, state)
            if now != last:
                _tell(out, now)
            last = now
            if state.phase not in ACTIVE and wanted(stored) is None:
                return
            time.sleep(WATCH_SECONDS)


def _connected(home: CoordinatorHome, stored: StoredStudy) -> dict[str, bool] | None:
    """Return whether each site's node is connected; None if the services do not run."""
    from dura_common.errors import HostError
    from dura_common.runtime.running import holder
    from dura_server.services.superlink import connected

    if holder(home.run) is None:
        return None
    try:
        online = connected(home, stored.roster)
    except HostError:
        return None
    return {name: online.get(name, False) for name in stored.study.sites}


def _table(stored: StoredStudy, state: StudyState, online: dict[str, bool] | None) -> Table:
    place = f"round {state.round} of {state.rounds}"
    redraws = f", {state.redraws} repeated draws" if state.redraws else ""
    title = f"{stored.study.name} ({stored.digest[:SHORT_DIGITS]}): {state.phase}, {place}{redraws}"
    table = Table("site", "last answer", "when", "connected", title=title, title_justify="left")
    for name in sorted(stored.study.sites):
        said = state.sites.get(name, "not asked")
        when = _age(state.heard[name]) if name in state.heard else ""
        table.add_row(name, said, when, "unknown" if online is None else "yes" if online[name] else "no")
    return table


def _age(then: datetime) -> str:
    seconds = max((datetime.now(UTC) - then).total_seconds(), 0.0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _line(home: CoordinatorHome, stored: StoredStudy, state: StudyState) -> dict[str, Any]:
    from dura_common.errors import HostError
    from dura_server.studies.state import ACTIVE
    from dura_server.sums.client import standings

    sums: dict[str, Any] | None = None
    if state.phase in ACTIVE:
        try:
            found = [one for one in standings(home) if one.study == stored.digest]
        except HostError:
            found = []
        for one in found:
            missing = sorted(set(one.members) - set(one.attending))
            sums = {"purpose": one.purpose, "round": one.round, "opened": one.opened, "of": one.sums}
            sums |= {"waits_for": missing}
    return {
        "digest": stored.digest,
        "name": stored.study.name,
        "phase": state.phase,
        "round": state.round,
        "rounds": state.rounds,
        "accuracy": state.curve[-1].accuracy if state.curve else None,
        "sites": dict(state.sites),
        "redraws": state.redraws,
        "sums": sums,
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
        place += f", accuracy {line['accuracy']:.3f}"
    if line["sums"] is not None:
        sums = line["sums"]
        place += f"; {sums['purpose']} round {sums['round']}: {sums['opened']} of {sums['of']} sums"
        if sums["waits_for"]:
            place += f", waiting for {', '.join(sums['waits_for'])}"
    if line["message"]:
        place += f"; {line['message']}"
    out.say(f"{datetime.now(UTC):%H:%M:%S} {line['name']}: {place}")

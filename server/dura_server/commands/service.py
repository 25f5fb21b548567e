"""`dura coordinator start | stop | status`: the services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from dura_common.runtime.console import JsonOption, command
from dura_server.commands.options import DEFAULT_HOME, HomeOption

if TYPE_CHECKING:
    from dura_server.home import CoordinatorHome

SHORT_DIGEST = 12
"""Characters of a study's digest that people and the other commands use."""
DetachOption = Annotated[
    bool,
    typer.Option(
        "--detach", help="Return as soon as the services are ready. Stop the services with `dura coordinator stop`."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura coordinator`."""
    app.command("start")(start)
    app.command("stop")(stop_command)
    app.command("status")(status_command)


def start(detach: DetachOption = False, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Start the coordinator's services."""
    with command(as_json) as out:
        from dura_common.runtime import running
        from dura_common.runtime.environment import module
        from dura_server.home import CoordinatorHome
        from dura_server.services.coordinator import run_services

        coordinator = CoordinatorHome(home.expanduser().resolve())
        if detach:
            argv = module("dura_common", "coordinator", "start", "--home", str(coordinator.path), "--json")
            running.detach(argv, coordinator.run)
            out.result(running.status(coordinator.run), "the coordinator is running")
            return
        out.say("the coordinator is running; press Ctrl-C to stop it")
        run_services(coordinator)
        out.result({"stopped": True}, "stopped")


def stop_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Stop the coordinator's services."""
    with command(as_json) as out:
        from dura_common.runtime import running
        from dura_server.home import CoordinatorHome

        stopped = running.stop(CoordinatorHome(home.expanduser()).run)
        out.result({"stopped": stopped}, "stopped" if stopped else "the coordinator was not running")


def status_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show whether the services are running, and the progress of secure sums."""
    with command(as_json) as out:
        from dura_common.runtime import running
        from dura_server.home import CoordinatorHome

        coordinator = CoordinatorHome(home.expanduser())
        state = running.status(coordinator.run)
        sessions = _sessions(coordinator) if state["running"] else []
        children = [f"  {child['name']}: restarts {child['restarts']}" for child in state["children"]]
        sums = ["the aggregation service does not answer"] if sessions is None else [_sentence(one) for one in sessions]
        lines = ["running" if state["running"] else "not running", *children, *sums]
        out.result({**state, "sessions": sessions}, escape("\n".join(lines)))


def _sessions(home: CoordinatorHome) -> list[dict[str, Any]] | None:
    """Return sites and progress of each open session of secure sums, or None if the service does not answer."""
    from dura_common.errors import HostError
    from dura_server.sums.client import standings

    try:
        found = standings(home)
    except HostError:
        return None
    return [
        {
            "study": one.study[:SHORT_DIGEST],
            "purpose": one.purpose,
            "round": one.round,
            "attempt": one.attempt,
            "opened": one.opened,
            "sums": one.sums,
            "present": list(one.attending),
            "missing": sorted(set(one.members) - set(one.attending)),
        }
        for one in found
    ]


def _sentence(session: dict[str, Any]) -> str:
    present, missing = len(session["present"]), session["missing"]
    waiting = f" (missing: {', '.join(missing)})" if missing else ""
    return (
        f"  {session['study']} {session['purpose']} round {session['round']}, attempt {session['attempt']}: "
        f"{session['opened']} of {session['sums']} sums opened, {present} of {present + len(missing)} sites{waiting}"
    )

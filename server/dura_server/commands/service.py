"""`dura coordinator start | stop | status`: the services."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dura_common.runtime.console import JsonOption, command
from dura_server.commands.options import DEFAULT_HOME, HomeOption

DetachOption = Annotated[bool, typer.Option("--detach", help="Return when they are ready; stop them with `stop`.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura coordinator`."""
    app.command("start")(start)
    app.command("stop")(stop_command)
    app.command("status")(status_command)


def start(detach: DetachOption = False, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Run the coordinator's services."""
    with command(as_json) as out:
        from dura_common.runtime import running
        from dura_server.coordinator import run_services
        from dura_server.home import CoordinatorHome

        coordinator = CoordinatorHome(home.expanduser())
        if detach:
            argv = [sys.executable, "-m", "dura_common", "coordinator", "start"]
            running.detach([*argv, "--home", str(coordinator.path), "--json"], coordinator.run)
            out.result(running.status(coordinator.run), "the coordinator is running")
            return
        out.say("running; Ctrl-C stops it")
        run_services(coordinator)
        out.result({"stopped": True}, "stopped")


def stop_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Stop the coordinator's services."""
    with command(as_json) as out:
        from dura_common.runtime import running
        from dura_server.home import CoordinatorHome

        stopped = running.stop(CoordinatorHome(home.expanduser()).run)
        out.result({"stopped": stopped}, "stopped" if stopped else "it was not running")


def status_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show whether the services run."""
    with command(as_json) as out:
        from dura_common.runtime import running
        from dura_server.home import CoordinatorHome

        state = running.status(CoordinatorHome(home.expanduser()).run)
        children = [f"  {child['name']}: restarts {child['restarts']}" for child in state["children"]]
        out.result(state, "\n".join(["running" if state["running"] else "not running", *children]))

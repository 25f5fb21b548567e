"""`dura site start | stop | status`: the site's node."""

from __future__ import annotations

from typing import Annotated

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command

DetachOption = Annotated[
    bool, typer.Option("--detach", help="Return as soon as the node is ready. Stop the node with `dura site stop`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura site`."""
    app.command("start")(start)
    app.command("stop")(stop_command)
    app.command("status")(status_command)


def start(detach: DetachOption = False, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Start the site's node, which connects to the coordinator and works on approved studies."""
    with command(as_json) as out:
        from dura_client.node.process import run_node
        from dura_client.site.home import SiteHome
        from dura_common.runtime import running
        from dura_common.runtime.environment import module

        site = SiteHome(home.expanduser().resolve())
        if detach:
            running.detach(module("dura_common", "site", "start", "--home", str(site.path), "--json"), site.run)
            out.result(running.status(site.run), "the node is running")
            return
        out.say("the node is running; press Ctrl-C to stop it")
        run_node(site)
        out.result({"stopped": True}, "stopped")


def stop_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Stop the site's node."""
    with command(as_json) as out:
        from dura_client.site.home import SiteHome
        from dura_common.runtime import running

        stopped = running.stop(SiteHome(home.expanduser()).run)
        out.result({"stopped": stopped}, "stopped" if stopped else "the node was not running")


def status_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show whether the node is running."""
    with command(as_json) as out:
        from dura_client.site.home import SiteHome
        from dura_common.runtime import running

        state = running.status(SiteHome(home.expanduser()).run)
        children = [f"  {child['name']}: restarts {child['restarts']}" for child in state["children"]]
        out.result(state, "\n".join(["running" if state["running"] else "not running", *children]))

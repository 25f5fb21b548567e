"""`dura site start | stop | status`: the site's node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command

if TYPE_CHECKING:
    from dura_client.node.health import Health

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
        from dura_client.site.home import SiteHome
        from dura_common.runtime import running
        from dura_common.runtime.environment import module

        site = SiteHome(home.expanduser().resolve())
        if detach:
            running.detach(module("dura_common", "site", "start", "--home", str(site.path), "--json"), site.run)
            out.result(running.status(site.run), "the node is running")
            return
        from dura_client.node.process import run_node  # who detaches does not need it

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


def status_command(
    check: Annotated[
        bool,
        typer.Option("--check", help="For monitors: exit with 1 for a warning, and with 2 for something critical."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what runs, which studies this site takes part in, and what needs a person."""
    with command(as_json) as out:
        from dataclasses import asdict
        from datetime import UTC, datetime

        from dura_client.node.health import health
        from dura_client.site.home import SiteHome

        found = health(SiteHome(home.expanduser()), lambda: datetime.now(UTC))
        conditions = [one.as_data() for one in found.conditions]
        studies = [asdict(one) for one in found.studies]
        answer = {**found.node, "grade": found.grade.name.lower(), "conditions": conditions, "studies": studies}
        out.result(answer, "\n".join(_lines(found)))
    if check and found.grade:
        raise typer.Exit(int(found.grade))


def _lines(found: Health) -> list[str]:
    lines = ["running" if found.node["running"] else "not running"]
    for child in found.node["children"]:
        resting = ", resting until there is work" if child.get("resting") else ""
        lines.append(f"  {child['name']}: restarts {child['restarts']}{resting}")
    for study in found.studies:
        state = "may go on" if study.open else "has ended here"
        lines.append(
            f"study {study.name} ({study.digest[:12]}): {state}, draws {study.draws}, repeated {study.redraws}"
        )
    return lines + [one.line() for one in found.conditions]

"""`dura coordinator start | stop | status`: the services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from dura_common.runtime.console import JsonOption, command
from dura_server.commands.options import DEFAULT_HOME, HomeOption

if TYPE_CHECKING:
    from dura_server.services.health import Health

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

        coordinator = CoordinatorHome(home.expanduser().resolve())
        if detach:
            argv = module("dura_common", "coordinator", "start", "--home", str(coordinator.path), "--json")
            running.detach(argv, coordinator.run)
            out.result(running.status(coordinator.run), "the coordinator is running")
            return
        from dura_server.services.coordinator import run_services  # who detaches does not need it

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


def status_command(
    check: Annotated[
        bool,
        typer.Option("--check", help="For monitors: exit with 1 for a warning, and with 2 for something critical."),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what runs and since when, the last contact with each site, what waits for whom, and what needs a person."""
    with command(as_json) as out:
        from dataclasses import asdict
        from datetime import UTC, datetime

        from dura_server.home import CoordinatorHome
        from dura_server.services.health import health

        found = health(CoordinatorHome(home.expanduser()), datetime.now(UTC))
        answer = {
            **found.services,
            "grade": found.grade.name.lower(),
            "conditions": [one.as_data() for one in found.conditions],
            "sites": [asdict(one) for one in found.sites],
            "studies": [asdict(one) for one in found.studies],
            "sessions": found.sessions,
        }
        out.result(answer, escape("\n".join(_lines(found))))
    if check and found.grade:
        raise typer.Exit(int(found.grade))


def _lines(found: Health) -> list[str]:
    from datetime import UTC, datetime

    services = found.services
    lines = ["not running"]
    if services["running"]:
        since = datetime.fromtimestamp(services["since"], UTC) if "since" in services else None
        lines = ["running" + (f" since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "")]
    lines += [f"  {child['name']}: restarts {child['restarts']}" for child in services["children"]]
    for site in found.sites:
        state = {None: "unknown", True: "connected", False: "not connected"}[site.connected]
        last = f", last contact {site.last_contact:%Y-%m-%d %H:%M:%S} UTC" if site.last_contact else ""
        lines.append(f"site {site.name}: {state}{last}")
    for study in found.studies:
        waits = f", {study.waits_for}" if study.waits_for else ""
        place = f"{study.phase}, round {study.round} of {study.rounds}, repeated draws {study.redraws}"
        lines.append(f"study {study.name} ({study.digest[:SHORT_DIGEST]}): {place}{waits}")
    lines += [_sentence(one) for one in found.sessions or ()]
    return lines + [one.line() for one in found.conditions]


def _sentence(session: dict[str, Any]) -> str:
    present, missing = len(session["present"]), session["missing"]
    waiting = f" (missing: {', '.join(missing)})" if missing else ""
    return (
        f"  {session['study']} {session['purpose']} round {session['round']}, attempt {session['attempt']}: "
        f"{session['opened']} of {session['sums']} sums opened, {present} of {present + len(missing)} sites{waiting}"
    )

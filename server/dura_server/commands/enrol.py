"""`dura coordinator init | change | renew | follow | collect | chain | roster | fingerprint`: addresses and rosters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dura_common.runtime.console import JsonOption, command
from dura_common.runtime.files import SHARED_FILE, read_limited, write_atomic
from dura_server.commands.options import DEFAULT_HOME, HomeOption

if TYPE_CHECKING:
    from dura_server.home import CoordinatorHome

MAX_FILE_BYTES = 32 << 20
UncheckedOption = Annotated[
    bool,
    typer.Option("--unchecked", help="Do not check here that the host is known and the ports are free."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura coordinator`."""
    app.command("init")(init_command)
    app.command("follow")(follow_command)
    app.command("collect")(collect_command)
    app.command("chain")(chain_command)
    app.command("change")(change_command)
    app.command("renew")(renew_command)
    app.command("roster")(roster_command)
    app.command("fingerprint")(fingerprint_command)


def init_command(
    consortium: Annotated[str, typer.Option(help="One word that names the consortium.")],
    host: Annotated[str, typer.Option(help="Name or address under which sites reach this machine.")],
    port: Annotated[int, typer.Option(help="Public port of the gateway.")] = 8443,
    aggregation_port: Annotated[int, typer.Option(help="Public port of the secure sums.")] = 8444,
    bind: Annotated[str, typer.Option(help="Address on which both public ports listen.")] = "0.0.0.0",  # noqa: S104
    unchecked: UncheckedOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create a coordinator with its TLS keys and settings. The authority and the sites decide who is a member."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from pydantic import ValidationError

        from dura_common.study import explain_validation
        from dura_server.consortium.enrolment import CoordinatorSettings, init
        from dura_server.consortium.place import require_known_host, require_ports
        from dura_server.home import CoordinatorHome

        try:
            settings = CoordinatorSettings(
                consortium=consortium,
                host=host,
                bind=bind,
                port=port,
                aggregation_port=aggregation_port,
            )
        except ValidationError as error:
            raise explain_validation(error, what="the arguments") from error
        coordinator = CoordinatorHome(home.expanduser())
        if not unchecked:
            require_known_host(settings)
            require_ports(settings)
        init(coordinator, settings, datetime.now(UTC))
        out.result(
            {"home": str(coordinator.path), "service": str(coordinator.service)},
            f"coordinator of {consortium} at {coordinator.path}\n"
            f"The authority founds the consortium with `dura authority init` and {coordinator.service}.",
        )


def follow_command(
    rosters: Annotated[Path, typer.Argument(help="The file rosters.json that the authority wrote.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Read new rosters from the authority's file, if the authority is on another machine."""
    with command(as_json) as out:
        from dura_server.consortium.enrolment import install
        from dura_server.home import CoordinatorHome

        content = read_limited(rosters, what="the rosters", limit=MAX_FILE_BYTES)
        roster = install(CoordinatorHome(home.expanduser()), content)
        out.result({"serial": roster.serial}, f"roster {roster.serial} is stored")


def collect_command(
    files: Annotated[list[Path], typer.Argument(help="Files with countersignatures that sites have sent.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Store countersignatures that came as files. Countersignatures of connected sites arrive automatically."""
    with command(as_json) as out:
        from dura_server.consortium.enrolment import collect
        from dura_server.home import CoordinatorHome

        texts = [read_limited(path, what="the countersignature").decode(errors="replace") for path in files]
        kept = collect(CoordinatorHome(home.expanduser()), texts)
        rows = [{"site": site, "serial": serial} for site, serial in kept]
        out.result({"collected": rows}, "\n".join(f"{site} has countersigned roster {n}" for site, n in kept))


def chain_command(
    path: Annotated[Path, typer.Argument(help="The file to write.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write the newest rosters and their countersignatures to one file, for a site that is not connected."""
    with command(as_json) as out:
        from dura_common.consortium.chain import MAX_LINKS, Chain
        from dura_server.consortium.enrolment import links
        from dura_server.home import CoordinatorHome

        chain = Chain(links=tuple(links(CoordinatorHome(home.expanduser()))[-MAX_LINKS:]))
        write_atomic(path, chain.model_dump_json().encode(), mode=SHARED_FILE)
        out.result({"path": str(path), "rosters": len(chain.links)}, f"wrote {path}")


def change_command(
    host: Annotated[str | None, typer.Option(help="New name or address under which sites reach this machine.")] = None,
    port: Annotated[int | None, typer.Option(help="New public port of the gateway.")] = None,
    aggregation_port: Annotated[int | None, typer.Option(help="New public port of the secure sums.")] = None,
    bind: Annotated[str | None, typer.Option(help="New address on which both public ports listen.")] = None,
    unchecked: UncheckedOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change the host name, the ports or the address on which the coordinator listens."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.errors import InputError
        from dura_server.consortium.place import change
        from dura_server.home import CoordinatorHome

        given = {"host": host, "port": port, "aggregation_port": aggregation_port, "bind": bind}
        changes = {name: value for name, value in given.items() if value is not None}
        if not changes:
            raise InputError("nothing to change", hint="Give --host, --port, --aggregation-port or --bind.")
        coordinator = CoordinatorHome(home.expanduser())
        service, needed = change(coordinator, changes, datetime.now(UTC), unchecked=unchecked)
        text = f"sites reach this coordinator at {service.fleet} and {service.aggregation}; restart the services"
        out.result(
            {"service": str(coordinator.service), "roster_needed": needed}, text + _roster_text(coordinator, needed)
        )


def renew_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Renew the server's certificate, before it expires or after coordinator.toml was changed by hand."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.enrolment import renew
        from dura_server.consortium.place import roster_needed
        from dura_server.home import CoordinatorHome

        coordinator = CoordinatorHome(home.expanduser())
        service = renew(coordinator, datetime.now(UTC))
        needed = roster_needed(coordinator, service)
        text = "the server's certificate is renewed; restart the services" + _roster_text(coordinator, needed)
        out.result({"service": str(coordinator.service), "roster_needed": needed}, text)


def _roster_text(home: CoordinatorHome, needed: bool) -> str:
    return f"\nThe addresses changed. The authority must now issue a roster with {home.service}." if needed else ""


def roster_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the members of the consortium, and which sites have countersigned each roster."""
    with command(as_json) as out:
        from dura_server.consortium.enrolment import read_roster, standing
        from dura_server.home import CoordinatorHome

        coordinator = CoordinatorHome(home.expanduser())
        roster, _ = read_roster(coordinator)
        table = Table("kind", "name", "fingerprint", title=f"{roster.consortium}, serial {roster.serial}")
        for member in roster.members:
            table.add_row(member.kind, member.name, member.fingerprint())
        out.say(table)
        rows = [
            {"serial": item.serial, "countersigned": list(said), "needed": needed, "in_force": in_force}
            for item, said, needed, in_force in standing(coordinator)
        ]
        lines = [
            f"roster {row['serial']}: {'in force' if row['in_force'] else 'waits'}, countersigned by "
            f"{', '.join(map(str, item)) or 'nobody'} ({len(item)} of {row['needed']})"
            for row in rows
            if isinstance(item := row["countersigned"], list)
        ]
        data = {"roster": roster.model_dump(mode="json"), "path": str(coordinator.roster), "rosters": rows}
        out.result(data, "\n".join(lines))


def fingerprint_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the fingerprint of the newest roster, so that people can read it out by telephone."""
    with command(as_json) as out:
        from dura_server.consortium.enrolment import fingerprint
        from dura_server.home import CoordinatorHome

        mark = fingerprint(CoordinatorHome(home.expanduser()))
        out.result({"fingerprint": mark}, mark)

"""`dura coordinator init | admit | remove | renew | roster | fingerprint`: manage the consortium's members."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dura_common.runtime.console import JsonOption, YesOption, command, confirm_fingerprint
from dura_common.runtime.files import read_limited
from dura_server.commands.options import DEFAULT_HOME, HomeOption


def register(app: typer.Typer) -> None:
    """Add the commands to `dura coordinator`."""
    app.command("init")(init_command)
    app.command("admit")(admit_command)
    app.command("remove")(remove_command)
    app.command("renew")(renew_command)
    app.command("roster")(roster_command)
    app.command("fingerprint")(fingerprint_command)


def init_command(
    consortium: Annotated[str, typer.Option(help="Name of the consortium, one word.")],
    host: Annotated[str, typer.Option(help="Host name or address at which sites reach this machine.")],
    port: Annotated[int, typer.Option(help="Public port of the gateway.")] = 8443,
    internal_port: Annotated[int, typer.Option(help="Port of the SuperLink, on loopback only.")] = 8000,
    aggregation_port: Annotated[int, typer.Option(help="Public port of the secure aggregation.")] = 8444,
    bind: Annotated[str, typer.Option(help="Address on which both public ports listen.")] = "0.0.0.0",  # noqa: S104
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create a consortium with a certificate authority, a signing key and an empty roster."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from pydantic import ValidationError

        from dura_common.study import explain_validation
        from dura_server.consortium.enrolment import CoordinatorSettings, init
        from dura_server.home import CoordinatorHome

        try:
            settings = CoordinatorSettings(
                consortium=consortium,
                host=host,
                bind=bind,
                port=port,
                internal_port=internal_port,
                aggregation_port=aggregation_port,
            )
        except ValidationError as error:
            raise explain_validation(error, what="the arguments") from error
        coordinator = CoordinatorHome(home.expanduser())
        mark = init(coordinator, settings, datetime.now(UTC))
        out.result(
            {"fingerprint": mark, "home": str(coordinator.path)},
            f"consortium {consortium} at {coordinator.path}\nfingerprint: [bold]{mark}[/bold]\n"
            "Read the fingerprint to every site by telephone.",
        )


def admit_command(
    cards: Annotated[list[Path], typer.Argument(help="Card files of sites and researchers.")],
    output: Annotated[Path, typer.Option("--out", help="Folder for the admission files.")],
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(
            help="Fingerprint of a card, as its owner read it to you by telephone. Give one per card, in order."
        ),
    ] = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Admit sites and researchers to the roster, and write an admission file for each site."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.errors import InputError
        from dura_server.consortium.enrolment import admit, check_card
        from dura_server.home import CoordinatorHome

        told = list(fingerprint or ())
        if told and len(told) != len(cards):
            raise InputError(f"expected one --fingerprint per card ({len(cards)}), got {len(told)}")
        coordinator, now = CoordinatorHome(home.expanduser()), datetime.now(UTC)
        checked = [check_card(coordinator, read_limited(path, what="the card"), now) for path in cards]
        for index, card in enumerate(checked):
            confirm_fingerprint(
                out,
                whose=f"the {card.kind} {card.name}",
                fingerprint=card.fingerprint(),
                expected=told[index] if told else None,
                yes=yes,
            )
        admitted = admit(coordinator, checked, output, now)
        out.result(
            {"admitted": [{"name": a.name, "admission": str(a.path) if a.path else None} for a in admitted]},
            "\n".join(f"admitted {a.name}" + (f"; send {a.path} back to the site" if a.path else "") for a in admitted),
        )


def remove_command(
    name: Annotated[str, typer.Argument(help="Name of a site or researcher on the roster.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take a site or researcher off the roster."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.enrolment import remove
        from dura_server.home import CoordinatorHome

        remove(CoordinatorHome(home.expanduser()), name, datetime.now(UTC))
        out.result({"removed": name}, f"removed {name}")


def renew_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Renew the roster and the server's certificate before they expire. The members stay the same."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.enrolment import renew
        from dura_server.home import CoordinatorHome

        roster = renew(CoordinatorHome(home.expanduser()), datetime.now(UTC))
        data = {"serial": roster.serial, "expires": roster.expires.isoformat()}
        out.result(data, f"roster {roster.serial} is valid until {roster.expires:%Y-%m-%d}; restart the services")


def roster_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the roster."""
    with command(as_json) as out:
        from dura_server.consortium.enrolment import read_roster
        from dura_server.home import CoordinatorHome

        coordinator = CoordinatorHome(home.expanduser())
        roster, _ = read_roster(coordinator)
        table = Table("kind", "name", title=f"{roster.consortium}, serial {roster.serial}")
        for site in roster.sites:
            table.add_row("site", site.name)
        for researcher in roster.researchers:
            table.add_row("researcher", researcher.name)
        out.result({"roster": roster.model_dump(mode="json"), "path": str(coordinator.roster)}, table)


def fingerprint_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the consortium's fingerprint, to be read aloud by telephone."""
    with command(as_json) as out:
        from dura_server.consortium.enrolment import fingerprint
        from dura_server.home import CoordinatorHome

        mark = fingerprint(CoordinatorHome(home.expanduser()))
        out.result({"fingerprint": mark}, mark)

"""`dura coordinator`: the commands of the coordinator's operator."""

from __future__ import annotations

import typer

from dura_server.commands import enrol, service

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Run the coordinator: its services, rosters and countersignatures."
)
enrol.register(app)
service.register(app)

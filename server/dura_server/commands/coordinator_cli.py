"""`dura coordinator`: what the coordinator's operator does."""

from __future__ import annotations

import typer

from dura_server.commands import enrol, service

app = typer.Typer(no_args_is_help=True, help="Run the coordinator: rosters, countersignatures, services.")
enrol.register(app)
service.register(app)

"""`dura authority`: who holds the consortium's root key; on a machine of its own, if possible."""

from __future__ import annotations

import typer

from dura_server.commands import authority

app = typer.Typer(no_args_is_help=True, help="Hold the consortium's root key: admit members, issue rosters.")
authority.register(app)

"""`dura authority`: for the holder of the consortium's root key, on a separate machine if possible."""

from __future__ import annotations

import typer

from dura_server.commands import authority

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Use the consortium's root key: admit members and issue rosters."
)
authority.register(app)

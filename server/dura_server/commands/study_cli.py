"""`dura study`: the commands of a researcher."""

from __future__ import annotations

import typer

from dura_server.commands import identity, plan, rehearse, run, write

app = typer.Typer(no_args_is_help=True, help="Describe, sign, submit, run and report a study.")
identity.register(app)
write.register(app)
plan.register(app)
rehearse.register(app)
run.register(app)

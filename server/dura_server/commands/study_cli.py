"""`dura study`: the commands of a researcher."""

from __future__ import annotations

import typer

from dura_server.commands.study import identity, look, plan, rehearse, report, run, write

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Describe, sign, submit, run, watch and report a study."
)
for part in (identity, write, plan, rehearse, run, look, report):
    part.register(app)

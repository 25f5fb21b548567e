"""`dura site data`: what a data manager does with recordings before any study."""

from __future__ import annotations

import typer

from dura_client.commands.data import check, importing, practice, preparing, registration

app = typer.Typer(no_args_is_help=True)
for part in (practice, importing, registration, check, preparing):
    part.register(app)

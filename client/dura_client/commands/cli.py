"""`dura site`: the commands of a hospital's data manager and privacy officer."""

from __future__ import annotations

import typer

from dura_client.commands import audit, enrol, ledger, node, policy, roster, study, withdraw
from dura_client.commands.data.app import app as data_app

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Run a hospital's site: its keys, data, policy, approvals and node.",
)
enrol.register(app)
node.register(app)
roster.register(app)
study.register(app)
audit.register(app)
withdraw.register(app)
app.add_typer(data_app, name="data", help="Register and check recordings, or simulate recordings for practice.")
app.add_typer(policy.app, name="policy", help="Write and explain the site's policy.")
app.add_typer(
    ledger.app, name="ledger", help="Show what patients have spent and which studies still fit; check the record."
)

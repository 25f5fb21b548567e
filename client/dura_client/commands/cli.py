"""`dura site`: what a hospital's data manager and privacy officer do."""

from __future__ import annotations

import typer

from dura_client.commands import audit, data, enrol, ledger, node, policy, roster, study, withdraw

app = typer.Typer(no_args_is_help=True, help="Run a hospital's site: keys, data, policy, approvals, node.")
enrol.register(app)
node.register(app)
roster.register(app)
study.register(app)
audit.register(app)
withdraw.register(app)
app.add_typer(data.app, name="data", help="Register and check recordings; simulate them for practice.")
app.add_typer(policy.app, name="policy", help="Write, show and explain the site's policy.")
app.add_typer(
    ledger.app, name="ledger", help="What patients have spent, what still fits, and whether the record is whole."
)

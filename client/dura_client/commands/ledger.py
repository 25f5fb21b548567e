"""`dura site ledger`: what patients have spent."""

from __future__ import annotations

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show what each study has cost the patient who paid most, and all studies together."""
    with command(as_json) as out:
        from dura_client.home import SiteHome
        from dura_client.ledger import Ledger
        from dura_client.policy import load_policy

        site = SiteHome(home.expanduser())
        policy = load_policy(site)
        ledger = Ledger(site.ledger)
        entries = ledger.entries()
        reserved = [entry for entry in entries if entry.kind == "reserve"]
        settled = {(e.study, e.round, e.purpose) for e in entries if e.kind == "settle"}
        studies = []
        table = Table("study", "entries", "not settled", f"epsilon (delta {policy.delta:g})")
        for study in dict.fromkeys(entry.study for entry in reserved):
            mine = [entry for entry in reserved if entry.study == study]
            open_entries = [entry for entry in mine if (entry.study, entry.round, entry.purpose) not in settled]
            free = all(entry.event is None for entry in mine)
            epsilon = None if free else ledger.spent(policy.delta, study)
            shown = "no noise, public data" if epsilon is None else f"{epsilon:.3f} of {policy.epsilon_per_study:g}"
            table.add_row(study[:12], str(len(mine)), str(len(open_entries)), shown)
            studies.append({"study": study, "entries": len(mine), "open": len(open_entries), "epsilon": epsilon})
        spent = ledger.spent(policy.delta)
        table.add_row("all together", str(len(reserved)), "", f"{spent:.3f} of {policy.epsilon_total:g}")
        out.result({"spent": spent, "delta": policy.delta, "cap": policy.epsilon_total, "studies": studies}, table)


@app.command()
def verify(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Check that no line of the ledger was changed, removed or inserted."""
    with command(as_json) as out:
        from dura_client.home import SiteHome
        from dura_client.ledger import Ledger

        lines = Ledger(SiteHome(home.expanduser()).ledger).verify()
        out.result({"intact": True, "lines": lines}, f"intact: {lines} lines")

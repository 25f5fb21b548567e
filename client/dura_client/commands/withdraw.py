"""`dura site withdraw`: end the participation of a patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command

if TYPE_CHECKING:
    from rich.table import Table

    from dura_client.patients.withdrawal import Withdrawal


def register(app: typer.Typer) -> None:
    """Add the command to `dura site`."""
    app.command("withdraw")(withdraw_command)


def withdraw_command(
    patient: Annotated[str, typer.Argument(help="Label of the patient in the data set, such as sub-01.")],
    data: Annotated[str, typer.Option("--data", help="Name of a registered data set that contains the patient.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End a patient's participation in all future work, and show which past releases cannot be undone."""
    with command(as_json) as out:
        from dura_client.patients.withdrawal import withdraw
        from dura_client.site.home import SiteHome
        from dura_client.site.settings import load_settings

        site = SiteHome(home.expanduser())
        load_settings(site)
        result = withdraw(site, patient, data)
        out.say("the patient has withdrawn" if result.new else "the patient had withdrawn before")
        if result.studies:
            out.say(_table(result))
        out.say("What cannot be undone:")
        for sentence in result.lasting:
            out.say(f"  - {sentence}")
        out.result(_as_data(result))


def _as_data(result: Withdrawal) -> dict[str, Any]:
    return {
        "withdrawn": True,
        "new": result.new,
        "delta": result.delta,
        "epsilon": result.spent,
        "studies": [
            {
                "study": item.study,
                "name": name,
                "train_rounds": item.train,
                "evaluate_rounds": item.evaluate,
                "model_after_round": item.released,
                "epsilon": item.epsilon,
            }
            for item, name in result.studies
        ],
        "cannot_be_undone": result.lasting,
    }


def _table(result: Withdrawal) -> Table:
    from rich.table import Table

    table = Table("study", "digest", "rounds", "evaluations", "released model", "epsilon")
    for item, name in result.studies:
        table.add_row(
            name or "(the offer is no longer stored)",
            item.study[:12],
            str(len(item.train)),
            str(len(item.evaluate)),
            "none" if item.released is None else f"after round {item.released}",
            "no noise, public data" if item.epsilon is None else f"{item.epsilon:.2f}",
        )
    return table

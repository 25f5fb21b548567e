"""`dura site data simulate`: recordings to practise with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dura_common.runtime.console import JsonOption, command


def register(app: typer.Typer) -> None:
    """Add the command to `dura site data`."""
    app.command("simulate")(simulate)


def simulate(
    out_folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The BIDS folder to write.")],
    hospital: Annotated[
        str,
        typer.Option(
            help="Which hospital to simulate: north, east, south or west. Each has its own equipment and habits."
        ),
    ] = "north",
    patients: Annotated[int, typer.Option(min=1, max=100_000, help="Number of simulated patients.")] = 40,
    trials: Annotated[
        int, typer.Option(min=2, max=1000, help="Number of imagined movements that each patient makes.")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same recordings.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Write a simulated hospital's motor-imagery EEG as a BIDS folder, for practice."""
    with command(as_json) as out:
        from dura_client.data.simulated.simulate import TASK
        from dura_client.data.simulated.simulate import simulate as write

        with out.progress() as bar:
            task = bar.add_task(f"simulating {hospital}", total=patients)
            write(
                out_folder,
                hospital,
                patients=patients,
                trials=trials,
                seed=seed,
                progress=lambda done, _total: bar.update(task, completed=done),
            )
        out.result(
            {"folder": str(out_folder), "patients": patients, "task": TASK},
            f"wrote {patients} simulated patients to {out_folder} (task {TASK})",
        )

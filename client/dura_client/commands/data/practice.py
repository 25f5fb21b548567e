"""`dura site data simulate`: data to practise with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from dura_common.runtime.console import JsonOption, command


def register(app: typer.Typer) -> None:
    """Add the command to `dura site data`."""
    app.command("simulate")(simulate)


def simulate(
    out_folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The BIDS folder to write.")],
    *,
    hospital: Annotated[
        str,
        typer.Option(
            help="Which hospital to simulate: north, east, south or west. Each has its own equipment and habits."
        ),
    ] = "north",
    kind: Annotated[
        str,
        typer.Option(
            help="What to simulate: motor (imagined movements), meg (the same in MEG), sleep (stages), seizures, rest "
            "(with a diagnosis), fmri (series of regions, with a diagnosis), volumes (the same as images with an "
            "atlas) or table (sizes of structures over three visits, with a diagnosis)."
        ),
    ] = "motor",
    patients: Annotated[int, typer.Option(min=1, max=100_000, help="Number of simulated patients.")] = 40,
    trials: Annotated[
        int,
        typer.Option(min=2, max=1000, help="Of motor and meg: number of imagined movements of each patient."),
    ] = 40,
    minutes: Annotated[
        float, typer.Option(min=0.5, max=600, help="Of sleep, seizures and rest: length of each recording.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same recordings.")] = 1,
    defects: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|CODES",
            help="Plant defects for practice: how many, or codes of findings separated by commas, such as "
            "EV-UNIT,COPY-SAME. Each is planted in the files of another patient.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="With --defects: the file that tells which were planted; FOLDER.answers.json by default."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a simulated hospital's data as a BIDS folder, for practice, and say how they are registered."""
    with command(as_json) as out:
        from dura_client.data.simulated.kinds import simulate_kind
        from dura_client.data.simulated.planting.plant import plant, require_place, wanted_of, write_answers
        from dura_common.errors import InputError

        if defects is None and answers is not None:
            raise InputError("--answers has no meaning without --defects")
        wanted = None if defects is None else wanted_of(defects)
        told = answers or out_folder.with_name(f"{out_folder.name}.answers.json")
        if wanted is not None:
            require_place(told, out_folder)
        with out.progress() as bar:
            task = bar.add_task(f"simulating {hospital}", total=patients)
            wrote = simulate_kind(
                out_folder,
                kind,
                hospital,
                patients=patients,
                trials=trials,
                minutes=minutes,
                seed=seed,
                progress=lambda done, _total: bar.update(task, completed=done),
            )
        planted = () if wanted is None else plant(out_folder, wanted, seed)
        if planted:
            write_answers(told, planted, seed)
        words = shlex.join(["dura", "site", "data", "add", kind, str(out_folder), *wrote.options])
        also = f"; planted {len(planted)} defects, named in {told}" if planted else ""
        data = {"folder": str(out_folder), "patients": patients, "options": list(wrote.options)}
        if planted:
            data |= {"answers": str(told), "defects": len(planted)}
        out.result(data, f"wrote {patients} simulated patients to {out_folder}{also}; register them: {words}")

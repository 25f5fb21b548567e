"""`dura site data`: register and check the hospital's recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command

app = typer.Typer(no_args_is_help=True)


@app.command()
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


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name for the data set; later commands use it.")],
    folder: Annotated[Path, typer.Argument(help="The BIDS folder that holds the recordings.")],
    task: Annotated[str, typer.Option(help="BIDS task label of the recordings to use, such as motorimagery.")],
    label: Annotated[
        list[str] | None,
        typer.Option(help="CODE=CLASS: the class that a local event code stands for. Repeat the option for each code."),
    ] = None,
    scale: Annotated[float, typer.Option(help="Factor that converts the stored values to volts.")] = 1.0,
    public: Annotated[bool, typer.Option("--public", help="These data are public: anybody may see them.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Register a BIDS folder as a data set. Nothing is copied, and no study can use the data yet."""
    with command(as_json) as out:
        from pydantic import ValidationError

        from dura_client.data.dataset import DataSet, is_simulated
        from dura_client.data.eeg.bids import find_recordings
        from dura_client.data.registry import register
        from dura_client.site.home import SiteHome
        from dura_client.site.settings import load_settings
        from dura_common.errors import InputError
        from dura_common.study import explain_validation

        site = SiteHome(home.expanduser())
        load_settings(site)
        given = [item.partition("=")[::2] for item in label or ()]
        if not all(code and name for code, name in given):
            raise InputError(f"--label expects CODE=CLASS, got {', '.join(label or ())!r}")
        if len(dict(given)) != len(given):
            raise InputError("--label gives one event code twice; give each code once")
        root = folder.expanduser().resolve()
        labels = dict(given)
        try:
            dataset = DataSet(
                name=name,
                root=str(root),
                task=task,
                labels=labels,
                scale=scale,
                public=public,
                simulated=is_simulated(root),
            )
        except ValidationError as error:
            raise explain_validation(error, what="the arguments") from error
        recordings = find_recordings(dataset) if root.exists() else []
        register(site, dataset)
        if public:
            out.warn(
                "this data set is registered as public: studies without noise may use it if the policy allows that"
            )
        for code, meaning in labels.items():
            out.say(f"event code {code} stands for class {meaning}")
        out.result({"data": dataset.model_dump()}, f"registered {name}: {len(recordings)} recordings")


@app.command("list")
def list_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the registered data sets."""
    with command(as_json) as out:
        from dura_client.data.registry import list_datasets
        from dura_client.site.home import SiteHome

        found = list_datasets(SiteHome(home.expanduser()))
        table = Table("name", "task", "public", "simulated", "folder")
        for item in found:
            table.add_row(item.name, item.task, str(item.public), str(item.simulated), item.root)
        out.result({"data": [item.model_dump() for item in found]}, table)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Name of a registered data set.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a data set contains and report its faults."""
    with command(as_json) as out:
        from dataclasses import asdict

        from dura_client.data.doctor import diagnose
        from dura_client.data.registry import load_dataset
        from dura_client.site.home import SiteHome

        dataset = load_dataset(SiteHome(home.expanduser()), name)
        with out.progress() as bar:
            task = bar.add_task("reading recordings", total=None)
            found = diagnose(dataset, lambda done, total: bar.update(task, completed=done, total=total))
        table = Table("", "", show_header=False, title=name)
        table.add_row("patients, recordings", f"{found.patients}, {found.recordings} ({found.readable} readable)")
        table.add_row("events", ", ".join(f"{key}: {count}" for key, count in found.events.items()))
        table.add_row("channels", ", ".join(found.channels))
        table.add_row("sampling rates (Hz)", ", ".join(f"{rate:g}" for rate in found.rates))
        table.add_row("line frequency (Hz)", ", ".join(found.line_frequencies))
        for fault in found.faults:
            out.warn(fault)
        out.result({"check": asdict(found)}, table)

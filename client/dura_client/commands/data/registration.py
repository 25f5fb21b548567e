"""`dura site data add | update | list | show | remove`: which recordings the site knows, and what their codes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, Output, command

NameArgument = Annotated[str, typer.Argument(help="Name of a registered data set.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(help="CODE=CLASS: the class that a local event code stands for. Repeat the option for each code."),
]
ScaleOption = Annotated[
    list[str] | None,
    typer.Option(
        help="FACTOR that converts the stored values to volts, or PLACE=FACTOR for one recording or one patient "
        "(sub-01). Repeat the option for each."
    ),
]
PUBLIC = "this data set is registered as public: studies without noise may use it if the policy allows that"


def register(app: typer.Typer) -> None:
    """Add the commands to `dura site data`."""
    app.command("add")(add)
    app.command("update")(update)
    app.command("list")(list_command)
    app.command("show")(show)
    app.command("remove")(remove)


def add(
    name: Annotated[str, typer.Argument(help="Name for the data set; later commands use it.")],
    folder: Annotated[Path, typer.Argument(help="The BIDS folder that holds the recordings.")],
    task: Annotated[str, typer.Option(help="BIDS task label of the recordings to use, such as motorimagery.")],
    label: LabelOption = None,
    scale: ScaleOption = None,
    public: Annotated[bool, typer.Option("--public", help="These data are public: anybody may see them.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Register a BIDS folder as a data set. Nothing is copied, and no study can use the data yet."""
    with command(as_json) as out:
        from dura_client.data.dataset import dataset_of, is_simulated
        from dura_client.data.eeg.bids import find_recordings
        from dura_client.data.registry import register as keep
        from dura_client.site.home import SiteHome
        from dura_client.site.settings import load_settings

        site = SiteHome(home.expanduser())
        load_settings(site)
        root = folder.expanduser().resolve()
        factor, factors = _scales(scale)
        dataset = dataset_of(
            name=name,
            root=str(root),
            task=task,
            labels=_labels(label),
            scale=1.0 if factor is None else factor,
            scales=factors,
            public=public,
            simulated=is_simulated(root),
        )
        recordings = find_recordings(dataset) if root.exists() else []
        keep(site, dataset)
        if public:
            out.warn(PUBLIC)
        for code, meaning in dataset.labels.items():
            out.say(f"event code {code} stands for class {meaning}")
        out.result({"data": dataset.model_dump()}, f"registered {name}: {len(recordings)} recordings")


def update(
    name: NameArgument,
    label: LabelOption = None,
    forget_label: Annotated[
        list[str] | None, typer.Option(help="An event code whose class is forgotten. Repeat the option for each code.")
    ] = None,
    scale: ScaleOption = None,
    folder: Annotated[Path | None, typer.Option(help="Where the BIDS folder lies now.")] = None,
    public: Annotated[
        bool | None, typer.Option("--public/--not-public", help="Whether anybody may see these data.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a registration. Studies that were approved before keep the patients that their approval froze."""
    with command(as_json) as out:
        from dura_client.data.dataset import dataset_of
        from dura_client.data.registry import load_dataset, replace
        from dura_client.site.home import SiteHome
        from dura_common.errors import InputError

        site = SiteHome(home.expanduser())
        before = load_dataset(site, name)
        changes = before.model_dump()
        unknown = [code for code in forget_label or () if code not in before.labels]
        if unknown:
            raise InputError(f"--forget-label names codes that have no class here: {', '.join(unknown)}")
        labels = {code: meaning for code, meaning in before.labels.items() if code not in (forget_label or ())}
        changes["labels"] = {**labels, **_labels(label)}
        factor, factors = _scales(scale)
        changes["scale"] = before.scale if factor is None else factor
        changes["scales"] = {**before.scales, **factors}
        if folder is not None:
            changes["root"] = str(folder.expanduser().resolve())
        if public is not None:
            changes["public"] = public
        after = dataset_of(**changes)
        if after == before:
            raise InputError(
                "nothing would change", hint="Give --label, --forget-label, --scale, --folder or --public."
            )
        replace(site, after)
        if after.public and not before.public:
            out.warn(PUBLIC)
        _in_use(out, site, name)
        out.result({"data": after.model_dump()}, f"changed {name}; check it: dura site data check {name}")


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


def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show a registration: its folder, what its codes mean, its factors to volts, and the studies that use it."""
    with command(as_json) as out:
        from dura_client.data.eeg.bids import folder_of
        from dura_client.data.registry import load_dataset
        from dura_client.patients.frozen import open_studies_on
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        dataset = load_dataset(site, name)
        studies = open_studies_on(site, name)
        recordings = folder_of(dataset).recordings
        table = Table("", "", show_header=False, title=name)
        table.add_row("folder", dataset.root)
        table.add_row("task", dataset.task)
        table.add_row("patients, recordings", f"{len({item.subject for item in recordings})}, {len(recordings)}")
        table.add_row("event codes", ", ".join(f"{code}: {meaning}" for code, meaning in dataset.labels.items()))
        table.add_row("factor to volts", f"{dataset.scale:g}")
        for place, factor in dataset.scales.items():
            table.add_row(f"  {place}", f"{factor:g}")
        table.add_row("public, simulated", f"{dataset.public}, {dataset.simulated}")
        table.add_row("open studies", ", ".join(study[:12] for study in studies) or "none")
        out.result({"data": dataset.model_dump(), "studies": list(studies), "recordings": len(recordings)}, table)


def remove(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Forget a data set. The recordings stay where they are, and what patients have spent stays in the ledger."""
    with command(as_json) as out:
        from dura_client.data.registry import load_dataset
        from dura_client.data.registry import remove as forget
        from dura_client.patients.frozen import open_studies_on
        from dura_client.site.home import SiteHome
        from dura_common.errors import StateError

        site = SiteHome(home.expanduser())
        dataset = load_dataset(site, name)
        studies = open_studies_on(site, name)
        if studies:
            raise StateError(
                f"the data set {name} is part of studies that are open: {', '.join(study[:12] for study in studies)}",
                hint="Its patients would count zero there. Wait for the end of the study, then remove it.",
            )
        forget(site, name)
        out.result({"removed": dataset.model_dump()}, f"removed {name}; the recordings are where they were")


def _in_use(out: Output, site: object, name: str) -> None:
    """Warn if studies use the data set as it was."""
    from dura_client.patients.frozen import open_studies_on
    from dura_client.site.home import SiteHome

    if isinstance(site, SiteHome) and (studies := open_studies_on(site, name)):
        out.warn(
            f"{len(studies)} open studies go on with the patients as they were approved; a patient whose prepared copy "
            "is deleted counts zero there"
        )


def _labels(given: list[str] | None) -> dict[str, str]:
    """Return CODE=CLASS options as a mapping."""
    from dura_common.errors import InputError

    pairs = [item.partition("=")[::2] for item in given or ()]
    if not all(code and name for code, name in pairs):
        raise InputError(f"--label expects CODE=CLASS, got {', '.join(given or ())!r}")
    if len(dict(pairs)) != len(pairs):
        raise InputError("--label gives one event code twice; give each code once")
    return dict(pairs)


def _scales(given: list[str] | None) -> tuple[float | None, dict[str, float]]:
    """Return the factor for all recordings, if there is one, and those for places."""
    from dura_common.errors import InputError

    everywhere: list[float] = []
    places: dict[str, float] = {}
    for item in given or ():
        place, equals, text = item.rpartition("=")
        try:
            factor = float(text)
        except ValueError:
            raise InputError(f"--scale expects FACTOR or PLACE=FACTOR, got {item!r}") from None
        if not equals:
            everywhere.append(factor)
        elif not place or place in places:
            raise InputError(f"--scale expects each PLACE once, got {item!r}")
        else:
            places[place] = factor
    if len(everywhere) > 1:
        raise InputError("--scale gives several factors for all recordings; give one, or PLACE=FACTOR")
    return (everywhere[0] if everywhere else None), places

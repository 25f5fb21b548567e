"""`dura site data add | update | list | show | remove`: which recordings the site knows, and what their codes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dura_client.commands.data.pairs import atlas_from, pairs_of, scales_of
from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, Output, command

NameArgument = Annotated[str, typer.Argument(help="Name of a registered data set.")]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        help="CODE=CLASS: the class that a local event code, or a cell of a column, stands for. Repeat the "
        "option for each code."
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=LOCAL: the column NAME of studies is called LOCAL in the tables here. Repeat it for each column."
    ),
]
TableOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A table below the folder (TSV with participant_id) that is read beside participants.tsv and the "
        "sessions.tsv of each patient. Repeat the option for each."
    ),
]
MissingOption = Annotated[
    list[str] | None, typer.Option(help="A cell that stands for a missing value here, such as -9999. May be repeated.")
]
SeriesOption = Annotated[
    str | None,
    typer.Option(
        help="Of fMRI: a table below the folder that lists the files with the series of regions (participant_id, file, "
        "and where needed session_id and key)."
    ),
]
AtlasOption = Annotated[
    str | None,
    typer.Option(
        help="Of fMRI volumes: NAME=FILE, the atlas that studies call NAME; an image of NIfTI whose voxels are the "
        "numbers of their regions. Without it, the data set has series of regions."
    ),
]
ScaleOption = Annotated[
    list[str] | None,
    typer.Option(
        help="FACTOR that converts the stored values to volts (MEG: tesla), or PLACE=FACTOR for one recording or one "
        "patient (sub-01). Repeat the option for each."
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
    *,
    task: Annotated[
        str | None,
        typer.Option(help="BIDS task label of the recordings to use, such as motorimagery. A table has no task."),
    ] = None,
    source: Annotated[str, typer.Option(help="What the data are: eeg, meg, fmri or table.")] = "eeg",
    label: LabelOption = None,
    column: ColumnOption = None,
    table: TableOption = None,
    missing: MissingOption = None,
    series: SeriesOption = None,
    atlas: AtlasOption = None,
    scale: ScaleOption = None,
    public: Annotated[bool, typer.Option("--public", help="These data are public: anybody may see them.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Register a BIDS folder as a data set. Nothing is copied, and no study can use the data yet."""
    with command(as_json) as out:
        from dura_client.data.dataset import dataset_of, is_simulated
        from dura_client.data.registry import register as keep
        from dura_client.data.sources.subjects import subjects_of
        from dura_client.site.home import SiteHome
        from dura_client.site.settings import load_settings

        site = SiteHome(home.expanduser())
        load_settings(site)
        root = folder.expanduser().resolve()
        factor, factors = scales_of(scale)
        dataset = dataset_of(
            name=name,
            root=str(root),
            source=source,
            task=task,
            labels=pairs_of(label, "--label", "CODE=CLASS"),
            columns=pairs_of(column, "--column", "NAME=LOCAL"),
            tables=tuple(table or ()),
            missing=tuple(missing or ()),
            series=series or "",
            atlas=atlas_from(atlas, root),
            scale=1.0 if factor is None else factor,
            scales=factors,
            public=public,
            simulated=is_simulated(root),
        )
        patients = subjects_of(dataset) if root.exists() else set()
        keep(site, dataset)
        if public:
            out.warn(PUBLIC)
        for code, meaning in dataset.labels.items():
            out.say(f"the code {code} stands for class {meaning}")
        out.result({"data": dataset.model_dump()}, f"registered {name}: {len(patients)} patients")


def update(
    name: NameArgument,
    *,
    label: LabelOption = None,
    forget_label: Annotated[
        list[str] | None, typer.Option(help="An event code whose class is forgotten. Repeat the option for each code.")
    ] = None,
    column: ColumnOption = None,
    table: TableOption = None,
    missing: MissingOption = None,
    series: SeriesOption = None,
    atlas: AtlasOption = None,
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
        changes["labels"] = {**labels, **pairs_of(label, "--label", "CODE=CLASS")}
        changes["columns"] = {**before.columns, **pairs_of(column, "--column", "NAME=LOCAL")}
        changes["tables"] = tuple(dict.fromkeys([*before.tables, *(table or ())]))
        changes["missing"] = tuple(dict.fromkeys([*before.missing, *(missing or ())]))
        changes["series"] = before.series if series is None else series
        if series is not None and atlas is None:
            changes["atlas"] = None
        factor, factors = scales_of(scale)
        changes["scale"] = before.scale if factor is None else factor
        changes["scales"] = {**before.scales, **factors}
        if folder is not None:
            changes["root"] = str(folder.expanduser().resolve())
        if atlas is not None:
            changes["atlas"], changes["series"] = atlas_from(atlas, Path(changes["root"])), series or ""
        if public is not None:
            changes["public"] = public
        after = dataset_of(**changes)
        if after == before:
            raise InputError(
                "nothing would change",
                hint="Give --label, --forget-label, --column, --table, --missing, --series, --atlas, --scale, "
                "--folder or --public.",
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
        table = Table("name", "source", "task", "public", "simulated", "folder")
        for item in found:
            table.add_row(item.name, item.source, item.task or "", str(item.public), str(item.simulated), item.root)
        out.result({"data": [item.model_dump() for item in found]}, table)


def show(name: NameArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show a registration: its folder, what its codes mean, its factors to volts, and the studies that use it."""
    with command(as_json) as out:
        from dura_client.data.eeg.bids import folder_of
        from dura_client.data.registry import load_dataset
        from dura_client.data.sources.subjects import subjects_of
        from dura_client.patients.frozen import open_studies_on
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        dataset = load_dataset(site, name)
        studies = open_studies_on(site, name)
        signals = dataset.source in {"eeg", "meg"}
        recordings = folder_of(dataset).recordings if signals else ()
        table = Table("", "", show_header=False, title=name)
        table.add_row("folder", dataset.root)
        table.add_row("source, task", f"{dataset.source}, {dataset.task or 'none'}")
        if signals:
            table.add_row("patients, recordings", f"{len({item.subject for item in recordings})}, {len(recordings)}")
        else:
            table.add_row("patients", str(len(subjects_of(dataset))))
        table.add_row("columns", ", ".join(f"{name}: {local}" for name, local in dataset.columns.items()))
        table.add_row("tables, series", ", ".join([*dataset.tables, *([dataset.series] if dataset.series else [])]))
        if dataset.atlas is not None:
            table.add_row("atlas", f"{dataset.atlas.name}, {dataset.atlas.file}")
        table.add_row("codes", ", ".join(f"{code}: {meaning}" for code, meaning in dataset.labels.items()))
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

"""`dura site data import`: a clinic's own files become a BIDS folder of the site."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dura_client.commands.data.check import say_findings
from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, Output, command

if TYPE_CHECKING:
    from dura_client.data.importing.run import Imported


def register(app: typer.Typer) -> None:
    """Add the command to `dura site data`."""
    app.command("import")(import_command)


def import_command(
    source: Annotated[Path, typer.Argument(help="The folder with the clinic's recordings. It is only read.")],
    out_folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="The BIDS folder to write, outside the source.")
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="The mapping file: what the names in the files mean.")] = None,
    draft: Annotated[
        Path | None, typer.Option(help="Propose a mapping file here instead of importing. Read it and edit it.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --draft: the BIDS label of what was done.")] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A file to write which patient has which label. It names patients: keep it locked away."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="How many recordings are imported at the same time.")] = 1,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Bring recordings in the clinic's own formats and names into a BIDS folder, with new labels for patients."""
    with command(as_json) as out:
        from dura_common.errors import InputError

        root = source.expanduser().resolve()
        if draft is not None:
            _draft(out, root, draft, task)
        elif out_folder is None or mapping is None:
            raise InputError(
                "an import needs a folder to write and a mapping file",
                hint=f"First: dura site data import {source} --draft mapping.toml. "
                f"Then: dura site data import {source} FOLDER --mapping mapping.toml",
            )
        else:
            _import(out, root, out_folder.expanduser().resolve(), mapping, labels, jobs, home)


def _draft(out: Output, root: Path, path: Path, task: str | None) -> None:
    from dura_client.data.importing.draft import draft, text_of
    from dura_common.errors import InputError
    from dura_common.runtime.files import write_atomic

    if not root.is_dir():
        raise InputError(f"the folder {root} is not there")
    if path.expanduser().resolve().is_relative_to(root):
        raise InputError("the mapping file must not lie among the originals", hint="Choose another place.")
    with out.progress() as bar:
        running = bar.add_task("looking at recordings", total=None)
        made = draft(root, lambda done, total: bar.update(running, completed=done, total=total))
    text = text_of(made, root, task)
    write_atomic(path.expanduser(), text.encode(), replace=False)
    say_findings(out, made.findings)
    data = {
        "mapping": str(path),
        "layout": made.layout.name,
        "recordings": len(made.recordings),
        "questions": text.count(' = "?"'),
        "findings": [asdict(item) for item in made.findings],
    }
    out.result(
        data,
        (
            f"wrote {path}: {len(made.recordings)} recordings, layout "
            f"{made.layout.name}, {data['questions']} questions to answer"
        ),
    )


def _import(out: Output, root: Path, folder: Path, mapping: Path, labels: Path | None, jobs: int, home: Path) -> None:
    from dura_client.data.importing.mapping import read_mapping
    from dura_client.data.importing.run import import_folder
    from dura_client.site.home import SiteHome
    from dura_client.site.keys import SiteKeys
    from dura_common.errors import InputError
    from dura_common.runtime.files import read_limited, write_atomic

    meant = read_mapping(read_limited(mapping, what="the mapping file", limit=1 << 26))
    if labels is not None and labels.expanduser().resolve().is_relative_to(folder):
        raise InputError("the list of labels must not lie in the data set: it says who the patients are")
    key = SiteKeys(SiteHome(home.expanduser())).pseudonym_key()
    with out.progress() as bar:
        running = bar.add_task("importing recordings", total=None)
        done = import_folder(
            root,
            folder,
            meant,
            key=key,
            jobs=jobs,
            progress=lambda ready, total: bar.update(running, completed=ready, total=total),
        )
    if labels is not None:
        rows = ["patient\tlabel", *(f"{patient}\tsub-{label}" for patient, label in sorted(done.labels.items()))]
        write_atomic(labels.expanduser(), ("\n".join(rows) + "\n").encode())
    say_findings(out, done.findings)
    _say(out, done)
    source = "--source meg " if meant.source == "meg" else ""
    out.result(
        {"import": _as_data(done), "folder": str(folder)},
        f"next: dura site data add NAME {folder} {source}--task {meant.task}",
    )


def _say(out: Output, done: Imported) -> None:
    out.say(f"\nimported {done.recordings}, unchanged from before {done.before}, left out {len(done.left_out)}")
    if done.removed:
        fields = ", ".join(f"{name} ({count})" for name, count in sorted(done.removed.items()))
        out.say(f"not copied, since it can identify a person: {fields}")
    if done.events:
        out.say("events: " + ", ".join(f"{name}: {count}" for name, count in sorted(done.events.items())))


def _as_data(done: Imported) -> dict[str, Any]:
    data = asdict(done)
    data.pop("labels")  # who is who is written only where it was asked for
    return data

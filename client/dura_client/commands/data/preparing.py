"""`dura site data prepare`: prepare recordings for a study before anybody offers it, and clean up what nobody uses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, command


def register(app: typer.Typer) -> None:
    """Add the command to `dura site data`."""
    app.command("prepare")(prepare)


def prepare(
    name: Annotated[str | None, typer.Argument(help="Name of a registered data set.")] = None,
    study: Annotated[Path | None, typer.Option(help="The study file for which the recordings are prepared.")] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="Remove prepared recordings that nobody used for a long time, by the limits in site.toml, and say how "
            "many. Those of approved studies stay. Without this option, the same is done after preparing.",
        ),
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Prepare the recordings of a data set for a study before it is offered, so that the review takes seconds."""
    with command(as_json) as out:
        import time

        from dura_client.patients.cohort import prepare_here
        from dura_client.patients.frozen import clean_store, tidy_store
        from dura_client.site.home import SiteHome
        from dura_client.site.settings import load_settings
        from dura_common.errors import InputError, StateError
        from dura_common.runtime.files import read_limited
        from dura_common.study import parse_study

        out.interrupted = "Patients that were prepared are kept; the same command goes on with the others."
        site = SiteHome(home.expanduser())
        load_settings(site)
        if (name is None) != (study is None) or (name is None and not clean):
            raise InputError(
                "a data set and a study file belong together",
                hint="`dura site data prepare NAME --study FILE`, or `dura site data prepare --clean` alone.",
            )
        answer: dict[str, Any] = {}
        if name is not None and study is not None:
            asked = parse_study(read_limited(study, what="the study file"))
            with out.progress() as bar:
                task = bar.add_task("preparing recordings", total=None)
                found = prepare_here(
                    site, asked.data, name, progress=lambda done, total: bar.update(task, completed=done, total=total)
                )
            windows = [len(patient.labels) for patient in found.patients]
            answer["prepared"] = {
                "data": name,
                "study": asked.name,
                "patients": len(windows),
                "made": found.made,
                "mended": found.mended,
                "windows": sum(windows),
            }
            if found.mended:
                out.warn(f"{found.mended} prepared copies were damaged and were prepared again; check the disk")
            out.say(
                f"{len(windows)} patients with {sum(windows)} windows are ready for {asked.name}; {found.made} of them "
                "were prepared now"
            )
        if not clean:
            tidy_store(site, time.time())
        else:
            done = clean_store(site, time.time())
            if done is None:
                raise StateError(
                    "another process prepares recordings at the moment", hint="Repeat the command when it has ended."
                )
            answer["cleaned"] = {
                "removed": done.removed,
                "freed_bytes": done.freed,
                "kept": done.kept,
                "left_bytes": done.left,
            }
            out.say(
                f"removed {done.removed} prepared patients ({done.freed / 2**20:.0f} MiB); {done.kept} stay "
                f"({done.left / 2**20:.0f} MiB)"
            )
        out.result(answer)

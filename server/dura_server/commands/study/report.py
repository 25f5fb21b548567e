"""`dura study report`: the self-contained page of a finished study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dura_common.runtime.console import JsonOption, command
from dura_common.runtime.files import SHARED_FILE, write_atomic
from dura_server.commands.options import DEFAULT_HOME, HomeOption, StudyArgument
from dura_server.commands.study.run import find_home


def register(app: typer.Typer) -> None:
    """Add the command to `dura study`."""
    app.command("report")(report)


def report(
    study: StudyArgument,
    output: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    model: Annotated[Path | None, typer.Option(help="File to which the trained model (safetensors) is copied.")] = None,
    extra: Annotated[
        Path | None,
        typer.Option(help="JSON file with figures that only a simulation knows; `dura demo` writes such a file."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Write the self-contained HTML report of a finished study."""
    with command(as_json) as out:
        from dura_common.study.warnings import warnings_of
        from dura_server.report import render
        from dura_server.report.outcome import read_extra, result_of
        from dura_server.studies.store import StudyStore

        stored = StudyStore(find_home(home)).find(study)
        result = result_of(stored, read_extra(extra) if extra else None)
        write_atomic(output, render(result).encode(), mode=SHARED_FILE)
        if model is not None:
            write_atomic(model, stored.model_file.read_bytes(), mode=SHARED_FILE)
        for sentence in warnings_of(stored.study):
            out.warn(sentence)
        out.result({"report": str(output), "result": result.model_dump(mode="json")}, f"wrote {output}")

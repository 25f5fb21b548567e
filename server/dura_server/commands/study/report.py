"""`dura study report`: the self-contained page of a finished study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dura_common.runtime.console import JsonOption, command
from dura_common.runtime.files import SHARED_FILE, write_atomic
from dura_server.commands.options import DEFAULT_RESEARCHER, ResearcherOption, StudyArgument, WhereOption
from dura_server.commands.study.run import find_place


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
    home: WhereOption = None,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Write the self-contained HTML report of a finished study."""
    with command(as_json) as out:
        from dura_server.report import render
        from dura_server.report.outcome import read_extra

        place = find_place(home, researcher)
        digest = place.find(study).digest
        result = place.result(digest, read_extra(extra) if extra else None)
        write_atomic(output, render(result).encode(), mode=SHARED_FILE)
        if model is not None:
            write_atomic(model, place.model(digest), mode=SHARED_FILE)
        for sentence in result.warnings:
            out.warn(sentence)
        out.result({"report": str(output), "result": result.model_dump(mode="json")}, f"wrote {output}")

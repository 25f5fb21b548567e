"""`dura study rehearse`: run a study on simulated patients, before any privacy budget is spent."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dura_common.errors import InputError
from dura_common.runtime.console import JsonOption, Output, command
from dura_common.runtime.files import SHARED_FILE, private_folder, read_limited, write_atomic

if TYPE_CHECKING:
    from dura_common.study import Study
    from dura_server.rehearsal import RehearsalPoint, RehearsalResult
    from dura_server.rehearsal.grid import Settings

USUAL_EPSILONS = (1.0, 3.0, 8.0)


def register(app: typer.Typer) -> None:
    """Add the command to `dura study`."""
    app.command("rehearse")(rehearse_command)


def rehearse_command(
    path: Annotated[Path, typer.Argument(help="The study file (study.toml).")],
    epsilon: Annotated[
        list[float] | None,
        typer.Option(
            help="Epsilon to rehearse. Repeat the option for more values. Default: 1, 3, 8 and the study's own."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Number of runs at each epsilon.")] = 3,
    trials: Annotated[int, typer.Option(min=2, max=1000, help="Number of events of each simulated patient.")] = 40,
    data_seed: Annotated[int, typer.Option(min=0, help="The same seed simulates the same patients.")] = 1,
    output: Annotated[Path | None, typer.Option("--out", help="The JSON file to write.")] = None,
    page: Annotated[Path | None, typer.Option(help="HTML page with the plot to write.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps the simulated patients for the next rehearsal.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processor cores to use. Default: all.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study on simulated patients at several epsilons. No real recording is read, and no budget is spent."""
    with command(as_json) as out:
        from dura_common.study import parse_study
        from dura_server.rehearsal.grid import Settings, check
        from dura_server.rehearsal.result import RehearsalResult

        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminated rehearsal cleans up like Ctrl-C
        begin = time.perf_counter()
        study = parse_study(read_limited(path, what="the study file"))
        own = getattr(study.privacy, "epsilon", None)
        grid = tuple(sorted(set(epsilon or (*USUAL_EPSILONS, own or USUAL_EPSILONS[0]))))
        if not all(0 < value <= 100 for value in grid):  # noqa: PLR2004  # the schema's own bound
            raise InputError("--epsilon must be above 0 and at most 100")
        settings = Settings(epsilons=grid, seeds=seeds, trials=trials, data_seed=data_seed)
        check(study, settings)  # before minutes of simulation
        with _folder(work) as folder:
            points = _rehearse(out, study, settings, folder, workers or os.cpu_count() or 1)
        seconds = round(time.perf_counter() - begin, 1)
        result = RehearsalResult(
            study=study.name,
            points=tuple(points),
            chance=1 / len(study.data.classes) if study.data.classes else None,
            seconds=seconds,
        )
        target = output or path.with_suffix(".rehearsal.json")
        write_atomic(target, (result.model_dump_json(indent=2) + "\n").encode(), mode=SHARED_FILE)
        if page is not None:
            from dura_server.report.rehearsal import render_rehearsal

            write_atomic(page, render_rehearsal(study, result).encode(), mode=SHARED_FILE)
        written = {"path": str(target), "page": str(page) if page else None}
        out.result({**result.model_dump(), **written}, _table(study, result))
        out.say(f"wrote {target}" + (f" and {page}" if page else ""))


def _rehearse(out: Output, study: Study, settings: Settings, folder: Path, workers: int) -> list[RehearsalPoint]:
    from dura_server.rehearsal.grid import rehearse
    from dura_server.rehearsal.simulation import FlowerCrew, simulate_with

    points: list[RehearsalPoint] = []
    with out.progress() as bar:
        tasks = {"": bar.add_task("starting the simulation", total=None)}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.stop_task(task)
                bar.update(tasks[""], visible=False)
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        def act(crew: FlowerCrew) -> None:
            points.extend(rehearse(study, settings, crew, folder, progress))

        simulate_with(act, workers=workers)
    return points


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        folder = private_folder(work.expanduser().resolve())
        try:
            yield folder
        finally:
            for unfinished in folder.glob("*/.new-*"):  # of simulated sites that were stopped in the middle
                shutil.rmtree(unfinished, ignore_errors=True)
        return
    with tempfile.TemporaryDirectory(prefix="dura-rehearsal-") as name:
        yield Path(name)


def _table(study: Study, result: RehearsalResult) -> Table:
    title = f"{result.study}, rehearsed on simulated patients ({result.seconds:.0f} s, no privacy cost)"
    table = Table("epsilon", study.data.measure, "lowest", "highest", "runs", title=title)
    for point in result.points:
        table.add_row(
            f"{point.epsilon:g}", f"{point.mean:.3f}", f"{point.low:.3f}", f"{point.high:.3f}", str(point.seeds)
        )
    if result.chance is not None:
        table.add_section()
        table.add_row("", f"{result.chance:.3f}", "", "", "chance")
    return table

"""`dura site data check`: what is in a data set, what is wrong with it, and what mends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, HomeOption, complete_data
from dura_common.runtime.console import JsonOption, Output, command

if TYPE_CHECKING:
    from dura_client.data.doctor.diagnose import Diagnosis
    from dura_client.data.findings.finding import Finding

PLACES = 3
"""So many places of one cause are printed; ``--json`` has all."""
COLOURS = {"stops a study": "red", "loses data": "yellow", "worth knowing": "cyan"}


def register(app: typer.Typer) -> None:
    """Add the command to `dura site data`."""
    app.command("check")(check)


def check(
    name: Annotated[str, typer.Argument(help="Name of a registered data set.", autocompletion=complete_data)],
    study: Annotated[
        Path | None, typer.Option(help="A study file: show how well the data meet it, and how many windows remain.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="A file to write the check into as a page with drawings; it stays at the site.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what a data set contains and what is wrong with it. Ends with exit code 10 if something stops a study."""
    with command(as_json) as out:
        from dura_client.data.doctor.diagnose import diagnose
        from dura_client.data.registry import load_dataset
        from dura_client.site.home import SiteHome
        from dura_common.errors import InputError
        from dura_common.runtime.files import read_limited, write_atomic
        from dura_common.study import parse_study

        dataset = load_dataset(SiteHome(home.expanduser()), name)
        asked = None if study is None else parse_study(read_limited(study, what="the study file"))
        contract = None if asked is None else asked.data
        with out.progress() as bar:
            task = bar.add_task("reading recordings", total=None)
            found = diagnose(dataset, contract, lambda done, total: bar.update(task, completed=done, total=total))
        if html is not None:
            from dura_client.data.doctor.page import render

            write_atomic(html, render(name, found, asked.name if asked else "").encode())
        out.say(summary(name, found))
        say_findings(out, found.findings)
        out.result({"check": as_data(found)})
        if found.stops:
            raise typer.Exit(InputError.exit_code)


def summary(name: str, found: Diagnosis) -> Table:
    """Return what a data set holds, as a table."""
    table = Table("", "", show_header=False, title=name)
    table.add_row("patients, recordings", f"{found.patients}, {found.recordings} ({found.readable} readable)")
    table.add_row("events", ", ".join(f"{key}: {count}" for key, count in found.events.items()))
    table.add_row("channels", ", ".join(found.channels))
    table.add_row("sampling rates (Hz)", ", ".join(f"{rate:g}" for rate in found.rates))
    table.add_row("line frequency (Hz)", ", ".join(found.line_frequencies))
    if found.windows:
        counts = [sum(classes.values()) for classes in found.windows.values()]
        table.add_row("windows for the study", f"{sum(counts)}, {min(counts)} to {max(counts)} a patient")
    return table


def say_findings(out: Output, findings: Sequence[Finding], *, named: bool = True) -> None:
    """Print findings, worst first; those of one cause together, with their places if they may be ``named``."""
    groups: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for item in findings:
        groups[item.grade, item.code, item.cause].append(item)
    for (grade, code, cause), items in groups.items():
        colour = COLOURS[grade]
        places = ", ".join(item.place for item in items[:PLACES])
        more = f" and {len(items) - PLACES} more (--json lists all)" if len(items) > PLACES else ""
        if not named:
            places, more = f"{len(items)} (`dura site data check` names them)", ""
        out.say(f"\n[{colour}]{grade}[/{colour}]: {items[0].title} [dim]({code})[/dim]")
        for what, text in (("where", places + more), ("cause", cause), ("remedy", items[0].remedy)):
            out.say(_line(what, text))
    counts = [f"{sum(item.grade == grade for item in findings)} {_plural(grade)}" for grade in COLOURS]
    out.say(f"\nfindings: {', '.join(counts)}")


def _line(what: str, text: str) -> Any:
    from rich.text import Text

    return Text(f"  {what}: {text}")


def _plural(grade: str) -> str:
    return {"stops a study": "stop a study", "loses data": "lose data"}.get(grade, grade)


def without_places(found: Diagnosis) -> dict[str, Any]:
    """Return a check for scripts that names no patient and no recording: numbers, causes and remedies alone."""
    data = as_data(found)
    counts = [sum(classes.values()) for classes in data.pop("windows").values()]
    causes: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in data["findings"]:
        key = (one["grade"], one["code"], one["cause"])
        kept = {word: one[word] for word in ("grade", "code", "title", "cause", "remedy")}
        causes.setdefault(key, {**kept, "places": 0})["places"] += 1
    fewest, most = (min(counts), max(counts)) if counts else (0, 0)
    return {**data, "findings": list(causes.values()), "windows": {"all": sum(counts), "fewest": fewest, "most": most}}


def as_data(found: Diagnosis) -> dict[str, Any]:
    """Return a check for scripts."""
    from dura_client.data.findings.kinds import KINDS

    data = asdict(found)
    data.pop("seen")
    data["findings"] = [{**asdict(item), "title": KINDS[item.code].title} for item in found.findings]
    data["stops"] = found.stops
    return data

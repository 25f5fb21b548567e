"""Console output: people read tables, scripts read one JSON object on standard output, errors go to stderr.

Every command body runs inside :func:`command`, the only place that turns a :class:`DuraError` into an exit
code::

    @app.command()
    def status(as_json: JsonOption = False) -> None:
        with command(as_json) as out:
            out.result({"running": True}, text="running")
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from dura_common.errors import DuraError, HostError

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; the fingerprint was compared before.")]


class Output:
    """Where a command says what it did. Text and progress go to people only; JSON goes to scripts only."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.stdout = Console(highlight=False, soft_wrap=True)
        self.stderr = Console(stderr=True, highlight=False, soft_wrap=True)
        self.interrupted = ""
        self._warnings: list[str] = []

    def if_interrupted(self, text: str) -> None:
        """Note what keeps running if Ctrl-C ends this command, and how to stop it."""
        self.interrupted = text

    def say(self, text: RenderableType) -> None:
        """Print for people; silent with ``--json``."""
        if not self.as_json:
            self.stdout.print(text)

    def warn(self, text: str) -> None:
        """Print a warning to stderr and carry it in the JSON result under ``warnings``."""
        self._warnings.append(text)
        self.stderr.print("warning:", text, style="yellow", markup=False)

    def result(self, data: Mapping[str, Any], text: RenderableType | None = None) -> None:
        """End a command with its result: ``data`` for scripts, ``text`` for people."""
        if self.as_json:
            document = dict(data)
            if self._warnings:
                document["warnings"] = self._warnings
            sys.stdout.write(json.dumps(document, indent=2, default=str) + "\n")
            sys.stdout.flush()
        elif text is not None:
            self.stdout.print(text)

    def progress(self) -> Progress:
        """Return a progress display on stderr; it is silent with ``--json`` and where stderr is no terminal."""
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.stderr,
            disable=self.as_json or not self.stderr.is_terminal,
        )


@contextmanager
def command(as_json: bool) -> Iterator[Output]:  # mirrors the --json option one to one
    """Run a command body; a DuraError is printed once and becomes the exit code of its family.

    So does an error of the operating system that names a file: this account may not look into the folder, for example.
    """
    out = Output(as_json=as_json)
    try:
        yield out
    except (DuraError, OSError) as caught:
        error = caught if isinstance(caught, DuraError) else _of_the_host(caught)
        if error is None or os.environ.get("DURA_TRACEBACK") == "1":
            raise
        if as_json:
            document = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            out.stderr.print("error:", error.message, style="bold red", markup=False)
            if error.hint:
                out.stderr.print("  " + error.hint, markup=False)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        if as_json:
            document = {"error": {"code": "interrupted", "message": "interrupted", "hint": out.interrupted}}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        else:
            out.stderr.print("interrupted")
            if out.interrupted:
                out.stderr.print("  " + out.interrupted, markup=False)
        raise typer.Exit(130) from None


def _of_the_host(error: OSError) -> HostError | None:
    """Return what to say of an error that names a file; output that cannot be written is not a matter of a file."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return None
    return HostError(
        f"{os.fsdecode(error.filename)}: {error.strerror}",
        hint="Check that the account that runs dura may read and write there, and that the disk is not full.",
    )


def confirm(question: str, *, yes: bool, refusal: DuraError) -> None:
    """Ask a person to confirm, unless ``yes`` was given on the command line.

    Raises:
        DuraError: ``refusal``, if the answer is no; it has another hint if there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        refusal.hint = "This is not a terminal, so nobody could be asked. Decide first, then add --yes."
        raise refusal
    if not typer.confirm(question, err=True):
        raise refusal


def confirm_fingerprint(out: Output, *, whose: str, fingerprint: str, expected: str | None, yes: bool) -> None:
    """Ask a person to compare a fingerprint by telephone, unless the fingerprint was given on the command line.

    Raises:
        TrustError: the given fingerprint differs, the person did not confirm it, or there is nobody to ask.
    """
    from dura_common.errors import TrustError  # noqa: PLC0415  # keeps the import list of commands short

    out.say(f"Fingerprint of {whose}: [bold]{fingerprint}[/bold]")
    if expected is not None:
        if expected.replace(" ", "").lower() != fingerprint.replace(" ", "").lower():
            raise TrustError(
                f"the fingerprint of {whose} is not the expected one",
                hint="Somebody may have altered the file on its way. Ask for it again and compare by telephone.",
            )
        return
    if yes:
        out.warn(f"the fingerprint of {whose} was accepted without comparison (--yes)")
        return
    if not sys.stdin.isatty():
        raise TrustError(
            f"nobody confirmed the fingerprint of {whose}",
            hint="Compare it by telephone, then give it with --fingerprint.",
        )
    if not typer.confirm("Does it match what the other side reads to you by telephone?", err=True):
        raise TrustError(f"the fingerprint of {whose} was not confirmed")

"""The ``dura`` command: it loads the command groups of the installed packages.

A group whose dependencies are missing stays visible and says what to install. (A hospital does not install the
coordinator's dependencies, for example.)
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, NoReturn

import click
import typer
from typer.main import get_command

from dura_common import __version__
from dura_common.errors import HostError, install_with

GROUP = "dura.commands"
STDOUT = 1
OUTPUT_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF})
EXTRAS = {
    "site": "site",
    "study": "coordinator",
    "coordinator": "coordinator",
    "authority": "coordinator",
    "demo": "demo",
}

root = typer.Typer(
    name="dura",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated learning on brain recordings that never leave their hospital.",
    pretty_exceptions_show_locals=False,  # a traceback must not print patient data or keys
)


def _show_version(value: bool) -> None:  # Typer calls it with one positional value
    if value:
        typer.echo(f"dura {__version__}")
        raise typer.Exit


@root.callback()
def _root(
    version: Annotated[  # handled by its eager callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def _missing(point: EntryPoint, error: ImportError) -> click.Command:
    extra = EXTRAS.get(point.name, point.name)

    def explain(arguments: tuple[str, ...]) -> NoReturn:  # noqa: ARG001  # whatever was asked, it is not installed
        click.echo(
            f"error: `dura {point.name}` needs the package {error.name or error}, which is not installed", err=True
        )
        click.echo(f"  {install_with(extra)}", err=True)
        raise SystemExit(14)

    return click.Command(
        point.name,
        callback=explain,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        short_help=f"(not installed: it needs the extra {extra} of dura's wheel file)",
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )


def build(first: str = "") -> click.Group:
    """Assemble the root command from the entry points of the group ``dura.commands``.

    Args:
        first: the first word of the command line. If it names a group, only this group is loaded: all of them together
            take half a second.
    """
    command = get_command(root)
    if not isinstance(command, click.Group):
        raise TypeError("the root command must be a group")
    points = sorted(entry_points(group=GROUP), key=lambda item: item.name)
    for point in [point for point in points if point.name == first] or points:
        try:
            contributed = get_command(point.load())
        except ImportError as error:
            contributed = _missing(point, error)
        contributed.name = point.name
        command.add_command(contributed, point.name)
    return command


def main() -> None:
    """Run the ``dura`` command. Output that cannot be written is said in one line, and is no success."""
    # Processes that multiprocessing starts would import from the folder in which somebody stands.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        try:
            build(*sys.argv[1:2])(prog_name="dura")
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in OUTPUT_FAULTS:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)  # or Python complains about the rest when it ends
        with suppress(OSError):
            click.echo(f"error: the output could not be written: {error.strerror}", err=True)
        raise SystemExit(HostError.exit_code) from None

"""Options that the commands of `dura coordinator` and `dura study` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="DURA_COORDINATOR_HOME", help="The coordinator's folder."),
]
DEFAULT_HOME = Path("~/.dura/coordinator")

AuthorityOption = Annotated[
    Path,
    typer.Option("--authority", envvar="DURA_AUTHORITY_HOME", help="The authority's folder: it holds the root key."),
]
DEFAULT_AUTHORITY = Path("~/.dura/authority")
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        envvar="DURA_AUTHORITY_PASSPHRASE_FILE", help="File with the passphrase that protects the authority's keys."
    ),
]

ResearcherOption = Annotated[
    Path,
    typer.Option("--researcher", envvar="DURA_RESEARCHER_HOME", help="The researcher's folder."),
]
DEFAULT_RESEARCHER = Path("~/.dura/researcher")
WhereOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="DURA_COORDINATOR_HOME",
        help="The coordinator's folder, on its machine. Default: the coordinator that this researcher has joined; "
        "otherwise ~/.dura/coordinator.",
    ),
]
StudyArgument = Annotated[
    str, typer.Argument(help="Name of the study, its digest, or at least the first 6 digits of the digest.")
]

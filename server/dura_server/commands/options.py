"""Options that `dura coordinator` and `dura study` share, and what the shell offers for their values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dura_common.study.reference import SHORT_DIGITS

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


def complete_study(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer names and digests of the studies in the coordinator's folder; the shell never asks over the network."""
    from dura_server.home import CoordinatorHome
    from dura_server.studies.store import StudyStore

    said = context.params.get("home") or os.environ.get("DURA_COORDINATOR_HOME") or DEFAULT_HOME
    known = StudyStore(CoordinatorHome(Path(said).expanduser())).names()
    words = [(name, "study") for name in known.values() if name]
    words += [(digest[:SHORT_DIGITS], name or "") for digest, name in known.items()]
    return [(word, said) for word, said in words if word.startswith(incomplete)]


StudyArgument = Annotated[
    str,
    typer.Argument(
        help="Name of the study, its digest, or at least the first 6 digits of the digest.",
        autocompletion=complete_study,
    ),
]

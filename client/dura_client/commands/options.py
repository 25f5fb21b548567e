"""Options that all commands of `dura site` share, and what the shell offers for their values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dura_common.study.reference import SHORT_DIGITS

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="DURA_SITE_HOME", help="The site's folder."),
]
DEFAULT_HOME = Path("~/.dura/site")


def complete_study(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer names and digests of the studies that were offered to this site."""
    from dura_client.site.home import SiteHome
    from dura_client.studies.approvals import list_offers
    from dura_common.errors import DuraError

    try:
        rows = list_offers(SiteHome(_home(context)))
    except DuraError:
        return []
    words: list[tuple[str, str]] = [(row.study.name, row.state) for row in rows]
    words += [(row.digest[:SHORT_DIGITS], row.study.name) for row in rows]
    return [(word, said) for word, said in words if word.startswith(incomplete)]


def complete_data(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer the names of the registered data sets."""
    from dura_client.data.registry import list_datasets
    from dura_client.site.home import SiteHome
    from dura_common.errors import DuraError

    try:
        found = list_datasets(SiteHome(_home(context)))
    except DuraError:
        return []
    return [(item.name, item.root) for item in found if item.name.startswith(incomplete)]


def _home(context: typer.Context) -> Path:
    said = context.params.get("home") or os.environ.get("DURA_SITE_HOME") or DEFAULT_HOME
    return Path(said).expanduser()


StudyArgument = Annotated[
    str,
    typer.Argument(
        help="Name of the study, its digest, or at least the first 6 digits of the digest.",
        autocompletion=complete_study,
    ),
]
DataOption = Annotated[
    str,
    typer.Option("--data", help="Name of the registered data set for this study.", autocompletion=complete_data),
]

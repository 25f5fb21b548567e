"""Options that all commands of `dura site` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path,
    typer.Option("--home", envvar="DURA_SITE_HOME", help="The site's folder."),
]
DEFAULT_HOME = Path("~/.dura/site")

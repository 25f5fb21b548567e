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

ResearcherOption = Annotated[
    Path,
    typer.Option("--researcher", envvar="DURA_RESEARCHER_HOME", help="The researcher's folder."),
]
DEFAULT_RESEARCHER = Path("~/.dura/researcher")
StudyArgument = Annotated[
    str, typer.Argument(help="Name of the study, its digest, or the first characters that identify the digest.")
]

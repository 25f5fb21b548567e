"""`dura study identity`: the researcher's key."""

from __future__ import annotations

from typing import Annotated

import typer

from dura_common.runtime.console import JsonOption, command
from dura_server.commands.options import DEFAULT_RESEARCHER, ResearcherOption


def register(app: typer.Typer) -> None:
    """Add the command to `dura study`."""
    app.command("identity")(identity)


def identity(
    name: Annotated[str, typer.Option(help="The researcher's name on the roster, one word.")],
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Make the researcher's signing key and the card that the authority admits."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.study import check_site_name
        from dura_server.studies.researcher import ResearcherHome, create_identity

        card, path = create_identity(ResearcherHome(researcher.expanduser()), check_site_name(name), datetime.now(UTC))
        mark = card.fingerprint()
        text = f"Hand this card to the authority: {path}\nfingerprint: {mark}\nRead it to the authority by telephone."
        out.result({"card": str(path), "fingerprint": mark}, text)

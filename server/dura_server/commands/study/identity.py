"""`dura study identity | join`: the researcher's keys, and the answer of the authority."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dura_common.consortium.envelope import MAX_ENVELOPE_BYTES
from dura_common.runtime.console import JsonOption, YesOption, command, confirm_fingerprint
from dura_common.runtime.files import read_limited
from dura_server.commands.options import DEFAULT_RESEARCHER, ResearcherOption


def register(app: typer.Typer) -> None:
    """Add the commands to `dura study`."""
    app.command("identity")(identity)
    app.command("join")(join_command)


def identity(
    name: Annotated[str, typer.Option(help="The researcher's name on the roster, one word.")],
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Make the researcher's keys, which never leave this machine, and the card that the authority admits."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.study import check_site_name
        from dura_server.studies.researcher import ResearcherHome, create_identity

        card, path = create_identity(ResearcherHome(researcher.expanduser()), check_site_name(name), datetime.now(UTC))
        mark = card.fingerprint()
        text = f"Hand this card to the authority: {path}\nfingerprint: {mark}\nRead it to the authority by telephone."
        out.result({"card": str(path), "fingerprint": mark}, text)


def join_command(
    admission: Annotated[Path, typer.Argument(help="The admission file that the authority sent back.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="The roster's fingerprint, compared by telephone with a hospital.")
    ] = None,
    yes: YesOption = False,
    researcher: ResearcherOption = DEFAULT_RESEARCHER,
    as_json: JsonOption = False,
) -> None:
    """Join the consortium that admitted this researcher. From then on, `dura study` reaches its coordinator."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.consortium.roster import roster_fingerprint
        from dura_server.desk.membership import check_admission, join
        from dura_server.studies.researcher import ResearcherHome

        home = ResearcherHome(researcher.expanduser())
        content = read_limited(admission, what="the admission", limit=MAX_ENVELOPE_BYTES)
        checked, roster = check_admission(home, content, datetime.now(UTC))
        mark = roster_fingerprint(checked.roster)
        confirm_fingerprint(out, whose="the roster", fingerprint=mark, expected=fingerprint, yes=yes)
        join(home, checked, roster)
        out.result(
            {"joined": checked.name, "consortium": roster.consortium, "fingerprint": mark},
            f"{checked.name} has joined {roster.consortium}",
        )

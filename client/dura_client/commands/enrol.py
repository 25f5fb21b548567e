"""`dura site init | join | card | fingerprint`: how a hospital joins a consortium."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.consortium.envelope import MAX_ENVELOPE_BYTES
from dura_common.runtime.console import JsonOption, YesOption, command, confirm_fingerprint
from dura_common.runtime.files import read_limited


def register(app: typer.Typer) -> None:
    """Add the commands to `dura site`."""
    app.command("init")(init_command)
    app.command("join")(join_command)
    app.command("card")(card_command)
    app.command("fingerprint")(fingerprint_command)


def init_command(
    name: Annotated[str, typer.Option(help="Name of the site on the roster: lower-case letters, digits and hyphens.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Encrypt the private keys with the passphrase in this file.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create the site's private keys and its card. The keys stay here; the card goes to the coordinator."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.enrolment import card_path, init
        from dura_client.site.home import SiteHome
        from dura_client.site.keys import read_passphrase
        from dura_common.study import check_site_name

        site = SiteHome(home.expanduser())
        passphrase = read_passphrase(passphrase_file) if passphrase_file else None
        card = init(site, check_site_name(name), passphrase, datetime.now(UTC))
        path, mark = card_path(site, name), card.fingerprint()
        out.result(
            {"card": str(path), "fingerprint": mark},
            f"Hand this card to the coordinator: {path}\nfingerprint: [bold]{mark}[/bold]\n"
            "Read the fingerprint to the coordinator by telephone.",
        )


def join_command(
    admission: Annotated[Path, typer.Argument(help="The admission file that the coordinator sent back.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="Fingerprint of the consortium, as the coordinator read it to you by telephone.")
    ] = None,
    accept_changed: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a known site whose new keys you have confirmed by telephone. Repeat the option for each site."
        ),
    ] = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Join the consortium that admitted this site. Run the command again to accept a newer roster."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.enrolment import check_admission, join, roster_changes
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        content = read_limited(admission, what="the admission", limit=MAX_ENVELOPE_BYTES)
        checked = check_admission(site, content, datetime.now(UTC), accepted=accept_changed or ())
        differs = roster_changes(site, checked)
        mark = checked.fingerprint()
        confirm_fingerprint(out, whose="the consortium", fingerprint=mark, expected=fingerprint, yes=yes)
        join(site, checked)
        for word, names in (("new", differs.added), ("gone", differs.removed), ("changed keys", differs.altered)):
            if names:
                out.say(f"{word}: {', '.join(names)}")
        out.result(
            {"joined": checked.name, "fingerprint": mark, "changes": asdict(differs)}, f"{checked.name} has joined"
        )


def card_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Renew the date on this site's card; the keys stay. Coordinators refuse cards older than 30 days."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.enrolment import card_path, renew_card
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        card = renew_card(site, datetime.now(UTC))
        path = card_path(site, card.name)
        out.result({"card": str(path), "fingerprint": card.fingerprint()}, f"card: {path}")


def fingerprint_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show this site's fingerprint, to be read aloud by telephone."""
    with command(as_json) as out:
        from dura_client.consortium.enrolment import card_path, load_card
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        card = load_card(site)
        out.result({"fingerprint": card.fingerprint(), "card": str(card_path(site, card.name))}, card.fingerprint())

"""`dura site init | join | card | rotate | fingerprint`: commands to make a site and to change its keys."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.consortium.envelope import MAX_ENVELOPE_BYTES
from dura_common.consortium.roster import roster_digest
from dura_common.runtime.console import JsonOption, Output, YesOption, command, confirm_fingerprint
from dura_common.runtime.files import read_limited

if TYPE_CHECKING:
    from dura_common.consortium.chain import Changes


def register(app: typer.Typer) -> None:
    """Add the commands to `dura site`."""
    app.command("init")(init_command)
    app.command("join")(join_command)
    app.command("card")(card_command)
    app.command("rotate")(rotate_command)
    app.command("fingerprint")(fingerprint_command)
    app.command("passphrase")(passphrase_command)


def init_command(
    name: Annotated[str, typer.Option(help="The site's name on the roster: lower-case letters, digits, hyphens.")],
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Encrypt the private keys with the passphrase in this file.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create the site's keys, which never leave this machine, and the card for the authority."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.enrolment import card_path, init
        from dura_client.site.home import SiteHome
        from dura_common.runtime.private_keys import read_passphrase
        from dura_common.study import check_site_name

        site = SiteHome(home.expanduser())
        passphrase = read_passphrase(passphrase_file) if passphrase_file else None
        card = init(site, check_site_name(name), passphrase, datetime.now(UTC))
        path, mark = card_path(site, name), card.fingerprint()
        out.result(
            {"card": str(path), "fingerprint": mark},
            f"Hand this card to the authority: {path}\nfingerprint: [bold]{mark}[/bold]\n"
            "Read it to the authority by telephone.",
        )


def join_command(
    admission: Annotated[Path, typer.Argument(help="The admission file that the authority sent back.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="The roster's fingerprint, compared by telephone with another hospital as well.")
    ] = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Join the consortium that admitted this site. Join again to install a new certificate.

    Joining also countersigns a first roster.
    """
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.enrolment import check_admission, has_joined, join, load_pinned, roster_changes
        from dura_client.site.home import SiteHome
        from dura_common.errors import DuraError

        site, now = SiteHome(home.expanduser()), datetime.now(UTC)
        content = read_limited(admission, what="the admission", limit=MAX_ENVELOPE_BYTES)
        checked = check_admission(site, content, now)
        differs = roster_changes(site, checked)
        mark = checked.fingerprint()
        _show_changes(out, differs)
        confirm_fingerprint(out, whose="the roster", fingerprint=mark, expected=fingerprint, yes=yes)
        join(site, checked, now, compared=not yes or fingerprint is not None)
        try:
            followed = has_joined(site) and load_pinned(site).digest == roster_digest(checked.roster)
        except DuraError:
            followed = False
        text = (
            f"{checked.name} has joined"
            if followed
            else "the certificate is stored; the roster waits for countersignatures"
        )
        out.result(
            {"joined": checked.name, "fingerprint": mark, "followed": followed, "changes": asdict(differs)}, text
        )


def _show_changes(out: Output, differs: Changes) -> None:
    for word, names in (("new", differs.added), ("gone", differs.removed), ("new keys", differs.rotated)):
        if names:
            out.say(f"{word}: {', '.join(names)}")
    if differs.lost:
        out.say(f"[bold red]OLD KEYS LOST: {', '.join(differs.lost)}[/bold red]")


def rotate_command(
    undo: Annotated[bool, typer.Option("--undo", help="Delete new keys that are not yet on a roster.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Create new keys, signed with the old keys. They are used as soon as this site follows a roster that lists them.

    Ledger, approvals and recordings stay. Stop the node first. Start it again when this site follows the new roster.
    """
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.card import load_card, next_card_path, rotate, undo_rotation
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        if undo:
            undo_rotation(site)
            out.result({"rotated": False}, "the new keys are deleted; the current keys stay")
            return
        card = rotate(site, datetime.now(UTC))
        path = next_card_path(site, load_card(site).name)
        mark = card.fingerprint()
        out.result(
            {"rotated": True, "card": str(path), "fingerprint": mark},
            f"card: {path}\nfingerprint: [bold]{mark}[/bold]\nSend the card to the authority; then `dura site join`.",
        )


def card_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Renew the date of this site's card, with the same keys. Authorities refuse cards older than 30 days."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.enrolment import card_path, renew_card
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        card = renew_card(site, datetime.now(UTC))
        path = card_path(site, card.name)
        out.result({"card": str(path), "fingerprint": card.fingerprint()}, f"card: {path}")


def fingerprint_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show this site's fingerprint, so that people can read it out by telephone."""
    with command(as_json) as out:
        from dura_client.consortium.enrolment import card_path, load_card
        from dura_client.site.home import SiteHome

        site = SiteHome(home.expanduser())
        card = load_card(site)
        out.result({"fingerprint": card.fingerprint(), "card": str(card_path(site, card.name))}, card.fingerprint())


def passphrase_command(
    new_passphrase_file: Annotated[Path, typer.Option(help="File with the passphrase that the keys get.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Encrypt the site's keys with a passphrase, or with another one than DURA_PASSPHRASE_FILE names now."""
    with command(as_json) as out:
        from dura_client.site.home import SiteHome
        from dura_client.site.keys import SiteKeys
        from dura_common.runtime.private_keys import read_passphrase

        keys = SiteKeys(SiteHome(home.expanduser())).change_passphrase(read_passphrase(new_passphrase_file))
        out.result(
            {"keys": keys},
            f"{keys} keys are encrypted with the new passphrase. Set DURA_PASSPHRASE_FILE to the new file, then start "
            "the node again.",
        )

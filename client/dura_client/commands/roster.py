"""`dura site roster | confirm | distrust`: the members, changes of the roster, and this hospital's trust in members."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dura_client.commands.options import DEFAULT_HOME, HomeOption
from dura_common.runtime.console import JsonOption, Output, YesOption, command, confirm, confirm_fingerprint
from dura_common.runtime.files import read_limited

if TYPE_CHECKING:
    from dura_client.consortium.membership import Membership
    from dura_client.site.home import SiteHome
    from dura_common.consortium.chain import Changes, Link
    from dura_common.consortium.roster import Roster

MAX_FILE_BYTES = 32 << 20
FromOption = Annotated[
    Path | None,
    typer.Option("--from", help="File of rosters that the coordinator wrote, for a site that is not connected."),
]
app = typer.Typer(invoke_without_command=True)


def register(parent: typer.Typer) -> None:
    """Add the commands to `dura site`."""
    parent.add_typer(app, name="roster", help="Show the members and pending changes of the roster; countersign them.")
    parent.command("confirm")(confirm_member)
    parent.command("distrust")(distrust_member)


@app.callback()
def show(
    context: typer.Context,
    source: FromOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show the members, the changes in rosters that wait for countersignatures, and who has countersigned them."""
    if context.invoked_subcommand is not None:
        return
    with command(as_json) as out:
        from dura_client.consortium.countersign import waiting_changes

        site = _site(home)
        _take(site, source)
        out.result(_describe(out, site, waiting_changes(site)))


@app.command("confirm")
def confirm_roster(
    fingerprint: Annotated[
        str | None, typer.Option(help="Fingerprint of the newest waiting roster, compared with another hospital.")
    ] = None,
    yes: YesOption = False,
    source: FromOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Countersign the waiting rosters, after somebody at this hospital has examined their changes."""
    with command(as_json) as out:
        from dura_client.consortium.countersign import confirm_pending, waiting_changes
        from dura_common.consortium.roster import roster_fingerprint
        from dura_common.errors import StateError

        site = _site(home)
        _take(site, source)
        rows = waiting_changes(site)
        if not rows:
            raise StateError("no roster waits for this site's countersignature")
        _describe(out, site, rows)
        mark = roster_fingerprint(rows[-1][2].roster)
        confirm_fingerprint(out, whose="the waiting roster", fingerprint=mark, expected=fingerprint, yes=yes)
        here, serials = confirm_pending(site, [link for _, _, link, _ in rows])
        files = [str(site.consortium / "own" / f"{serial:06d}.json") for serial in serials]
        text = f"countersigned: {', '.join(map(str, serials))}; this site follows roster {here.roster.serial}"
        if here.roster.serial < serials[-1]:
            text += f"\nThe coordinator gets the countersignature with the next offer, or as a file: {', '.join(files)}"
        out.result({"countersigned": serials, "follows": here.roster.serial, "files": files}, text)


@app.command("settle")
def settle_roster(
    digest: Annotated[
        str, typer.Argument(help="Digest, or its beginning, of the roster that the other hospitals have.")
    ],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """State which of two rosters with the same serial is right, after comparing with the other hospitals."""
    with command(as_json) as out:
        from dura_client.consortium.membership import settle

        settle(_site(home), digest)
        out.result({"settled": digest}, "settled; both rosters are kept as evidence")


@app.command("accept")
def accept_state(
    name: Annotated[str, typer.Argument(help="A member whose ledger or roster returned to an older state.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask; the member's people have explained what happened.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Accept that a member returned to an older state, after its people have explained the reason."""
    with command(as_json) as out:
        from dura_client.consortium.witness import accept
        from dura_common.errors import PolicyError

        site = _site(home)
        confirm(
            f"Have the people of {name} said that they restored a backup?",
            yes=yes,
            refusal=PolicyError("not accepted; nothing was changed"),
        )
        seen = accept(site, name)
        out.result(
            {"accepted": name, "rows_before": seen.rows},
            f"whatever {name} says of itself next is accepted; its ledger had {seen.rows} requests and draws",
        )


def confirm_member(
    name: Annotated[str, typer.Argument(help="A member of the roster.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="The fingerprint that the member's people read out by telephone.")
    ] = None,
    yes: YesOption = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Record that this hospital has compared a member's fingerprint by telephone. This also ends distrust."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium import people
        from dura_client.consortium.membership import load_membership
        from dura_common.errors import InputError

        site = _site(home)
        member = load_membership(site).roster.member(name)
        if member is None:
            raise InputError(f"the roster has no member named {name}", hint="`dura site roster` lists all members.")
        mark = member.fingerprint()
        confirm_fingerprint(out, whose=f"the {member.kind} {name}", fingerprint=mark, expected=fingerprint, yes=yes)
        people.confirm(site, [member], datetime.now(UTC))
        out.result({"confirmed": name, "fingerprint": mark}, f"{name} is confirmed")


def distrust_member(
    name: Annotated[str, typer.Argument(help="A member of the roster.")],
    why: Annotated[str, typer.Option(help="The reason, for this hospital's own record. It is never sent.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """End all trust in a member at this site. This site's part in every study with this member ends at once."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_client.consortium.membership import load_membership
        from dura_client.consortium.people import distrust

        site = _site(home)
        distrust(site, load_membership(site).roster, name, why, datetime.now(UTC))
        out.result({"distrusted": name}, f"{name} is no longer trusted; `dura site confirm {name}` ends the distrust")


def _site(home: Path) -> SiteHome:
    from dura_client.site.home import SiteHome

    return SiteHome(home.expanduser())


def _take(site: SiteHome, source: Path | None) -> None:
    if source is None:
        return
    from dura_client.consortium.membership import take
    from dura_common.consortium.chain import parse_links

    take(site, parse_links(read_limited(source, what="the rosters", limit=MAX_FILE_BYTES)))


def _describe(out: Output, site: SiteHome, rows: list[tuple[Roster, Roster, Link, Changes]]) -> dict[str, Any]:
    """Print members and these waiting rosters; return the same for scripts."""
    from dura_client.consortium.membership import contradictions, load_membership
    from dura_common.consortium.chain import countersigners
    from dura_common.consortium.roster import roster_digest, roster_fingerprint

    here = load_membership(site)
    out.say(members_table(here))
    mark = roster_fingerprint(here.link.roster)
    out.say(f"fingerprint of this roster: [bold]{mark}[/bold] (valid until {here.roster.expires:%Y-%m-%d})")
    waiting = []
    for before, roster, link, differs in rows:
        said = sorted(countersigners(link, before))
        out.say(f"roster {roster.serial} waits: {len(said)} of {before.needed} have countersigned ({', '.join(said)})")
        for word, names in (("new", differs.added), ("gone", differs.removed), ("new keys", differs.rotated)):
            for name in names:
                member = roster.member(name)
                out.say(f"  {word}: {name} {member.fingerprint() if member is not None else ''}")
        for name in differs.lost:
            member = roster.member(name)
            mark_of = member.fingerprint() if member is not None else ""
            out.say(f"  [bold red]OLD KEYS LOST: {name} {mark_of}[/bold red]")
        if roster.root != before.root:
            out.say("  [bold red]THE ROOT KEY CHANGES[/bold red]")
        waiting.append(
            {
                "serial": roster.serial,
                "digest": roster_digest(link.roster),
                "fingerprint": roster_fingerprint(link.roster),
                "added": differs.added,
                "removed": differs.removed,
                "rotated": differs.rotated,
                "lost": differs.lost,
                "root_changes": roster.root != before.root,
                "countersigned": said,
                "needed": before.needed,
            }
        )
    split = contradictions(site)
    for serial in split:
        out.warn(f"two different rosters of serial {serial} are known: compare with every hospital first")
    return {
        "serial": here.roster.serial,
        "fingerprint": mark,
        "expires": here.roster.expires.isoformat(),
        "members": members_data(here),
        "waiting": waiting,
        "contradictions": list(split),
    }


def members_data(here: Membership, names: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """Return each member with its fingerprint, its date, and who confirmed it here; without ``names``, all members."""
    from dura_client.consortium.witness import load_witnessed

    rows, witnessed = [], load_witnessed(here.home)
    for member in here.roster.members:
        if names is not None and member.name not in names:
            continue
        said, heard = here.people.confirmation(member), witnessed.of(member.name)
        rows.append(
            {
                "kind": member.kind,
                "name": member.name,
                "fingerprint": member.fingerprint(),
                "since": member.since.isoformat(),
                "confirmed": None if said is None else f"{said.by}, {said.when:%Y-%m-%d}",
                "distrusted": here.people.distrusts(member.name),
                "heard": None if heard is None else heard.told(),
            }
        )
    return rows


def members_table(here: Membership, names: tuple[str, ...] | None = None) -> Table:
    """Return the same as a table for people."""
    table = Table(
        "kind", "name", "fingerprint", "since", "confirmed here", "last heard", title=f"roster {here.roster.serial}"
    )
    for row in members_data(here, names):
        word = "[red]DISTRUSTED[/red]" if row["distrusted"] else row["confirmed"] or "[red]no[/red]"
        if row["name"] == here.card.name:
            word = "this site"
        table.add_row(row["kind"], row["name"], row["fingerprint"], row["since"][:10], word, _heard(row["heard"], here))
    return table


def _heard(said: dict[str, Any] | None, here: Membership) -> str:
    """Return what a member said about itself in the last sum with this site."""
    if said is None:
        return ""
    text = f"{said['when'][:10]}, ledger at {said['rows']}"
    if said["serial"] == here.roster.serial:
        return text
    mark = "red" if said["serial"] > here.roster.serial else "yellow"
    return f"{text}, [{mark}]follows roster {said['serial']}[/{mark}]"

"""`dura authority init | admit | remove | issue | rotate | recover | fingerprint`: the commands that issue rosters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dura_common.runtime.console import JsonOption, Output, YesOption, command, confirm_fingerprint
from dura_common.runtime.files import read_limited
from dura_server.commands.options import DEFAULT_AUTHORITY, AuthorityOption, PassphraseOption

if TYPE_CHECKING:
    from dura_common.consortium.roster import Roster
    from dura_server.consortium.enrolment import Service
    from dura_server.home import AuthorityHome

MAX_FILE_BYTES = 32 << 20
ServiceOption = Annotated[Path | None, typer.Option(help="The file service.json of a coordinator on another machine.")]
CoordinatorOption = Annotated[
    Path | None, typer.Option(help="The folder of a coordinator on this machine. New rosters are written there.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `dura authority`."""
    app.command("init")(init_command)
    app.command("admit")(admit_command)
    app.command("remove")(remove_command)
    app.command("issue")(issue_command)
    app.command("rotate")(rotate_command)
    app.command("recover")(recover_command)
    app.command("fingerprint")(fingerprint_command)
    app.command("passphrase")(passphrase_command)


def init_command(
    service: ServiceOption = None,
    coordinator: CoordinatorOption = None,
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Create the root key, and the authority that issues the sites' client certificates."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.errors import InputError
        from dura_server.consortium.authority import init
        from dura_server.home import AuthorityHome, CoordinatorHome

        if (service is None) == (coordinator is None):
            raise InputError("give --coordinator FOLDER or --service FILE, one of them")
        where = CoordinatorHome(coordinator.expanduser()) if coordinator is not None else None
        path = where.service if where is not None else service
        home = AuthorityHome(authority.expanduser())
        init(home, _read_service(path), datetime.now(UTC), coordinator=where, passphrase=_passphrase(passphrase_file))
        out.result(
            {"authority": str(home.path)},
            f"authority at {home.path}\nKeep this folder off the serving host. Admit all founders' cards at once: "
            "`dura authority admit`.",
        )


def admit_command(
    cards: Annotated[list[Path], typer.Argument(help="Cards of sites and researchers. Admit all founders at once.")],
    output: Annotated[Path, typer.Option("--out", help="Folder to which the admissions and rosters.json are written.")],
    fingerprint: Annotated[
        list[str] | None,
        typer.Option(help="The fingerprint read out by telephone; one for each card, in the same order."),
    ] = None,
    lost: Annotated[
        list[str] | None, typer.Option(help="A member whose old keys are lost. The sites have to confirm the loss.")
    ] = None,
    yes: YesOption = False,
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Admit sites and researchers. Send the written files to the sites and to the coordinator's machine."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_common.errors import InputError
        from dura_server.consortium.authority import admit, check_card
        from dura_server.consortium.authority import fingerprint as roster_mark
        from dura_server.home import AuthorityHome

        told = list(fingerprint or ())
        if told and len(told) != len(cards):
            raise InputError(f"{len(cards)} cards need {len(cards)} fingerprints, got {len(told)}")
        home, now = AuthorityHome(authority.expanduser()), datetime.now(UTC)
        checked = [check_card(home, read_limited(path, what="the card"), now) for path in cards]
        for index, card in enumerate(checked):
            confirm_fingerprint(
                out,
                whose=f"the {card.kind} {card.name}",
                fingerprint=card.fingerprint(),
                expected=told[index] if told else None,
                yes=yes,
            )
        admitted = admit(home, checked, output, now, lost=lost or (), passphrase=_passphrase(passphrase_file))
        mark = roster_mark(home)
        lines = [f"admitted {a.name}" + (f", hand back {a.path}" if a.path else "") for a in admitted]
        lines += [f"fingerprint of the roster: [bold]{mark}[/bold]", "Read it to every site by telephone."]
        _warn_alone(out, home)
        out.result(
            {
                "admitted": [{"name": a.name, "admission": str(a.path) if a.path else None} for a in admitted],
                "fingerprint": mark,
            },
            "\n".join(lines),
        )


def remove_command(
    name: Annotated[str, typer.Argument(help="A site or researcher on the roster.")],
    why: Annotated[str, typer.Option(help="The reason that sites see when they are asked to countersign.")] = "",
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Issue a roster without a member. It takes effect when a quorum of the sites has countersigned it."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.authority import remove

        home = _home(authority)
        roster = remove(home, name, datetime.now(UTC), why=why, passphrase=_passphrase(passphrase_file))
        _tell(out, home, roster, {"removed": name}, f"roster {roster.serial} is without {name}")


def issue_command(
    service: ServiceOption = None,
    coordinator: CoordinatorOption = None,
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Issue a new roster with the same members and the service's current addresses, before the old roster expires."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.authority import issue
        from dura_server.home import CoordinatorHome

        home = _home(authority)
        path = service
        if path is None:
            where = coordinator or (Path(home.coordinator.read_text()) if home.coordinator.exists() else None)
            path = CoordinatorHome(where.expanduser()).service if where is not None else None
        roster = issue(
            home,
            _read_service(path) if path is not None else None,
            datetime.now(UTC),
            passphrase=_passphrase(passphrase_file),
        )
        _tell(out, home, roster, {"expires": roster.expires.isoformat()}, f"roster {roster.serial} is issued")


def rotate_command(
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Replace the root key. The next roster is signed with the old key and the new key."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.authority import rotate

        home = _home(authority)
        roster = rotate(home, datetime.now(UTC), passphrase=_passphrase(passphrase_file))
        _tell(out, home, roster, {}, f"roster {roster.serial} names a new root key")


def recover_command(
    rosters: Annotated[Path, typer.Argument(help="The file with all rosters (`dura coordinator chain`).")],
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Continue with a new authority if the root key was lost. Every site has to countersign."""
    with command(as_json) as out:
        from datetime import UTC, datetime

        from dura_server.consortium.authority import recover

        home = _home(authority)
        content = read_limited(rosters, what="the rosters", limit=MAX_FILE_BYTES)
        roster = recover(home, content, datetime.now(UTC), passphrase=_passphrase(passphrase_file))
        _tell(out, home, roster, {}, f"roster {roster.serial} names a new root key; ALL sites must countersign it")


def fingerprint_command(authority: AuthorityOption = DEFAULT_AUTHORITY, as_json: JsonOption = False) -> None:
    """Show the fingerprint of the newest roster, so that people can read it out by telephone."""
    with command(as_json) as out:
        from dura_server.consortium.authority import fingerprint

        mark = fingerprint(_home(authority))
        out.result({"fingerprint": mark}, mark)


def _tell(out: Output, home: AuthorityHome, roster: Roster, data: dict[str, object], text: str) -> None:
    """Write the file for the coordinator's machine, and say what to do next."""
    from dura_server.consortium.authority import write_rosters

    path = home.path / "rosters.json"
    write_rosters(home, path)
    _warn_alone(out, home)
    hint = "The roster takes effect when a quorum of the sites has countersigned it: `dura site roster confirm`."
    where = "" if home.coordinator.exists() else f"\nOn the coordinator's machine: `dura coordinator follow {path}`."
    out.result({**data, "serial": roster.serial, "rosters": str(path)}, f"{text}\n{hint}{where}")


def _warn_alone(out: Output, home: AuthorityHome) -> None:
    from dura_server.consortium.authority import read_newest

    found = read_newest(home)
    if found is not None and not found[0].founded:
        out.warn("the consortium is not founded yet: the roster needs at least two sites")


def _home(authority: Path) -> AuthorityHome:
    from dura_server.home import AuthorityHome

    return AuthorityHome(authority.expanduser())


def passphrase_command(
    new_passphrase_file: Annotated[Path, typer.Option(help="File with the passphrase that the keys get.")],
    passphrase_file: PassphraseOption = None,
    authority: AuthorityOption = DEFAULT_AUTHORITY,
    as_json: JsonOption = False,
) -> None:
    """Encrypt the authority's two keys with a passphrase, or with another one than they have now."""
    with command(as_json) as out:
        from dura_common.runtime.private_keys import change_passphrase, read_passphrase
        from dura_server.home import AuthorityHome

        home, new = AuthorityHome(authority.expanduser()), read_passphrase(new_passphrase_file)
        keys = change_passphrase((home.root, home.clients_key), _passphrase(passphrase_file), new)
        out.result({"keys": keys}, f"{keys} keys are encrypted with the new passphrase.")


def _read_service(path: Path | None) -> Service:
    from pydantic import ValidationError

    from dura_common.errors import InputError
    from dura_common.study import explain_validation
    from dura_server.consortium.enrolment import Service

    if path is None:
        raise InputError("there is no file service.json")
    try:
        return Service.model_validate_json(read_limited(path, what="the service's description"))
    except ValidationError as error:
        raise explain_validation(error, what="the service's description") from error


def _passphrase(path: Path | None) -> bytes | None:
    from dura_common.runtime.private_keys import read_passphrase

    return read_passphrase(path) if path is not None else None

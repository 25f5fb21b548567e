"""This site's countersignatures: one for each serial, stored here, and sent to the coordinator for the other sites."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_client.consortium.membership import Membership, load_membership, pending, take
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.consortium.cards import encode_identity
from dura_common.consortium.chain import COUNTERSIGNATURE_TYPE, Changes, Countersignature, Link, changes
from dura_common.consortium.envelope import canonical_json, payload_of, sign
from dura_common.consortium.roster import Roster, read_claimed_roster, roster_digest
from dura_common.errors import StateError, TrustError
from dura_common.runtime.files import SHARED_FILE, exclusive, private_folder, read_limited, write_atomic

MAX_SENT = 16
"""Number of the newest countersignatures for the coordinator, which needs those of waiting rosters."""


def countersign(key: Ed25519PrivateKey, name: str, link: Link, before: Roster | None) -> str:
    """Return a site's countersignature of one roster; ``before`` is None for a first roster.

    Raises:
        TrustError: the roster whose sites must countersign does not list this site with this key.
    """
    roster = read_claimed_roster(link.roster)
    electors = roster if before is None else before
    mine = electors.site(name)
    if mine is None or mine.identity != encode_identity(key.public_key()):
        raise TrustError(f"roster {electors.serial} does not list this site with its own keys: it cannot countersign")
    word = Countersignature(
        consortium=roster.consortium,
        serial=roster.serial,
        roster=roster_digest(link.roster),
        site=name,
        lost=changes(before, roster).lost if before is not None else (),
    )
    return sign(canonical_json(word), COUNTERSIGNATURE_TYPE, key)


def confirm_pending(home: SiteHome, seen: Sequence[Link]) -> tuple[Membership, list[int]]:
    """Countersign the waiting rosters that somebody here has seen, and follow the chain as far as possible.

    A roster that has arrived since then waits for its own question.

    Args:
        home: of this site.
        seen: the waiting rosters whose changes were shown, oldest first.

    Returns:
        What the site follows now, and the countersigned serials.

    Raises:
        StateError: no roster is waiting, or the first one was not shown.
        TrustError: two rosters with one serial are known, this site has countersigned another roster with this serial,
            or the key is locked.
    """
    known = {roster_digest(link.roster) for link in seen}
    with exclusive(home.members_lock):  # two people could otherwise countersign two rosters of one serial
        waiting = list(takewhile(lambda link: roster_digest(link.roster) in known, pending(home)))
        links, done = _countersign_all(home, load_membership(home), waiting)
    return take(home, links), done


def _countersign_all(home: SiteHome, here: Membership, waiting: Sequence[Link]) -> tuple[list[Link], list[int]]:
    if not waiting:
        raise StateError(
            "no roster that was shown waits for this site's countersignature",
            hint="`dura site roster` shows the current roster, and what waits now.",
        )
    here.require_peace()
    key, before = SiteKeys(home).identity(), here.roster
    links: list[Link] = []
    done: list[int] = []
    for link in waiting:
        roster = read_claimed_roster(link.roster)
        if before.site(here.card.name) is None:
            break
        text = countersign(key, here.card.name, link, before)
        keep_own(home, roster.serial, text)
        links.append(link.model_copy(update={"countersignatures": (*link.countersignatures, text)}))
        done.append(roster.serial)
        before = roster
        mine = roster.site(here.card.name)
        if mine is None or mine.identity != here.card.identity:
            break  # from then on, this site has other keys
    return links, done


def keep_own(home: SiteHome, serial: int, text: str) -> Path:
    """Store a countersignature. A site countersigns only one roster for each serial.

    Raises:
        TrustError: this site has countersigned another roster with this serial.
    """
    folder = private_folder(private_folder(home.consortium) / "own")
    path = folder / f"{serial:06d}.json"
    if path.exists() and _said(path.read_text()).roster != _said(text).roster:
        raise TrustError(f"this site has already countersigned another roster with serial {serial}")
    write_atomic(path, text.encode(), mode=SHARED_FILE)
    return path


def own_countersignatures(home: SiteHome) -> tuple[str, ...]:
    """Return this site's newest countersignatures, oldest first."""
    folder = home.consortium / "own"
    paths = sorted(folder.glob("*.json"))[-MAX_SENT:] if folder.exists() else []
    return tuple(read_limited(path, what="a countersignature").decode() for path in paths)


def waiting_changes(home: SiteHome) -> list[tuple[Roster, Roster, Link, Changes]]:
    """Return for each waiting roster: the previous roster, the roster, its link, and its changes."""
    before, rows = load_membership(home).roster, []
    for link in pending(home):
        roster = read_claimed_roster(link.roster)
        rows.append((before, roster, link, changes(before, roster)))
        before = roster
    return rows


def _said(text: str) -> Countersignature:
    return Countersignature.model_validate_json(payload_of(text))

"""What a roster becomes when somebody comes, changes keys, or leaves: rules without files.

A name belongs to one set of keys and a key to one name, over sites and researchers together. A member who comes again
with the same keys changes nothing. Other keys need the signature of the old identity, or a person who says that the
old keys are lost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError

from dura_common.consortium.cards import ResearcherCard, SiteCard, decode_identity
from dura_common.consortium.chain import former, tombstones, vouched_by_old_keys
from dura_common.consortium.roster import ROSTER_DAYS, Member, Roster, RosterResearcher, RosterSite, Tombstone
from dura_common.errors import InputError, TrustError
from dura_common.study import explain_validation

Card = SiteCard | ResearcherCard


def with_members(roster: Roster, cards: Sequence[Card], now: datetime, *, lost: Collection[str] = ()) -> Roster:
    """Return the roster with these members more, or with their new keys; serial and dates are as they were.

    Args:
        roster: the one before.
        cards: checked.
        now: from when on the new keys count.
        lost: names whose old keys are lost: a quorum of the sites has to say the same.

    Raises:
        InputError: two cards of one name.
        TrustError: a name or key belongs to a member already, in another combination.
    """
    if len({card.name for card in cards}) != len(cards):
        raise InputError("two of the cards carry the same name")
    for card in cards:
        roster = _with(roster, member_of(card, now, lost=card.name in lost))
    return roster


def _with(roster: Roster, member: Member) -> Roster:
    present = roster.member(member.name)
    if present is not None and present.fingerprint() == member.fingerprint():
        return roster
    before = former(roster, member.name)
    if before is not None and not _same(before, member) and not member.lost and not vouched_by_old_keys(member, before):
        raise TrustError(
            f"{member.name} is known with other keys, and the card is not signed by the old ones",
            hint="A hospital rotates its keys with `dura site rotate`. If the old keys are lost, ask the hospital by "
            "telephone and admit the card with --lost.",
        )
    others = [other for other in roster.members if other.name != member.name]
    if any(_keys(other) & _keys(member) for other in others):
        raise TrustError(f"a key on the card of {member.name} belongs to another member of the roster")
    sites = tuple(item for item in others if isinstance(item, RosterSite))
    researchers = tuple(item for item in others if isinstance(item, RosterResearcher))
    if isinstance(member, RosterSite):
        return roster.model_copy(update={"sites": (*sites, member), "researchers": researchers})
    return roster.model_copy(update={"sites": sites, "researchers": (*researchers, member)})


def without(roster: Roster, name: str) -> Roster:
    """Return the roster without a member.

    Raises:
        InputError: nobody of that name is on it.
    """
    if roster.member(name) is None:
        raise InputError(f"nobody called {name} is on the roster")
    sites = tuple(site for site in roster.sites if site.name != name)
    researchers = tuple(item for item in roster.researchers if item.name != name)
    return roster.model_copy(update={"sites": sites, "researchers": researchers})


def successor(old: Roster, old_digest: str, wanted: Roster, now: datetime, *, why: str = "") -> Roster:
    """Return ``wanted`` as the roster that follows ``old``: serial, dates, tombstones.

    Raises:
        InputError: it would not be a sound roster.
    """
    values = {
        **wanted.model_dump(),
        "serial": old.serial + 1,
        "previous": old_digest,
        "issued": now,
        "expires": now + timedelta(days=ROSTER_DAYS),
    }
    try:
        new = Roster.model_validate(values)
        stones = tombstones(old, new, why)
        return Roster.model_validate({**values, "gone": [stone.model_dump() for stone in (*old.gone, *stones)]})
    except ValidationError as error:
        raise explain_validation(error, what="the new roster") from error


def member_of(card: Card, now: datetime, *, lost: bool = False) -> Member:
    """Return a card's entry on the roster."""
    decode_identity(card.identity)
    common = {"name": card.name, "identity": card.identity, "since": now, "handover": card.handover, "lost": lost}
    if isinstance(card, SiteCard):
        return RosterSite.model_validate({**common, "tls_key": card.tls_key, "node_key": card.node_key})
    return RosterResearcher.model_validate(common)


def _same(before: Member | Tombstone, member: Member) -> bool:
    mark = before.fingerprint if isinstance(before, Tombstone) else before.fingerprint()
    return mark == member.fingerprint()


def _keys(member: Member) -> set[str]:
    if isinstance(member, RosterSite):
        return {member.identity, member.tls_key, " ".join(member.node_key.split()[:2])}
    return {member.identity}

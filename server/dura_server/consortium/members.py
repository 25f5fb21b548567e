"""The rules for a new roster when a member joins, changes keys, or leaves; this module reads and writes no files.

A name belongs to one set of keys, and a key belongs to one name, among sites and researchers together. If a member is
admitted again with the same keys, nothing changes. Other keys need the signature of the old identity, or a person who
declares the old keys lost.
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
    """Return the roster with additional members, or with their new keys; serial and dates stay the same.

    Args:
        roster: the previous roster.
        cards: the checked cards of these members.
        now: the time from which the new keys are valid.
        lost: names whose old keys are lost: a quorum of the sites has to declare the same.

    Raises:
        InputError: two cards have the same name.
        TrustError: a name or key already belongs to a member, in another combination.
    """
    if len({card.name for card in cards}) != len(cards):
        raise InputError("two of the cards have the same name")
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
            f"{member.name} is known with other keys, and the old keys have not signed this card",
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
        InputError: the roster has no member with this name.
    """
    if roster.member(name) is None:
        raise InputError(f"the roster has no member named {name}")
    sites = tuple(site for site in roster.sites if site.name != name)
    researchers = tuple(item for item in roster.researchers if item.name != name)
    return roster.model_copy(update={"sites": sites, "researchers": researchers})


def successor(old: Roster, old_digest: str, wanted: Roster, now: datetime, *, why: str = "") -> Roster:
    """Return ``wanted`` with the serial, dates and tombstones of the roster that follows ``old``.

    Raises:
        InputError: the result would not be a valid roster.
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
    return RosterResearcher.model_validate({**common, "tls_key": card.tls_key})


def _same(before: Member | Tombstone, member: Member) -> bool:
    mark = before.fingerprint if isinstance(before, Tombstone) else before.fingerprint()
    return mark == member.fingerprint()


def _keys(member: Member) -> set[str]:
    if isinstance(member, RosterSite):
        return {member.identity, member.tls_key, " ".join(member.node_key.split()[:2])}
    return {member.identity, member.tls_key} - {""}

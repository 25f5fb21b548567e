"""Which members may be on one roster together: rules without files.

A name belongs to one set of keys and a key to one name, over sites and researchers together. A member who comes
again with the same keys changes nothing; other keys need the old entry to be removed first, by a person.
"""

from __future__ import annotations

from dura_common.consortium.roster import ResearcherCard, Roster, RosterResearcher, RosterSite, SiteCard
from dura_common.errors import TrustError


def with_member(roster: Roster, card: SiteCard | ResearcherCard) -> Roster:
    """Return the roster with one member more; serial and dates are as they were.

    Raises:
        TrustError: the name or a key of the card belongs to a member already, in another combination.
    """
    member = _member(card)
    present: tuple[RosterSite | RosterResearcher, ...] = (*roster.sites, *roster.researchers)
    if member in present:
        return roster
    if any(other.name == member.name for other in present):
        raise TrustError(
            f"{member.name} is on the roster with other keys",
            hint="If its keys were really renewed, remove the old entry with `dura coordinator remove` first.",
        )
    if any(_keys(other) & _keys(member) for other in present):
        raise TrustError(f"a key on the card of {member.name} belongs to another member of the roster")
    if isinstance(member, RosterSite):
        return roster.model_copy(update={"sites": (*roster.sites, member)})
    return roster.model_copy(update={"researchers": (*roster.researchers, member)})


def _member(card: SiteCard | ResearcherCard) -> RosterSite | RosterResearcher:
    if isinstance(card, SiteCard):
        return RosterSite(name=card.name, identity=card.identity, node_key=card.node_key)
    return RosterResearcher(name=card.name, identity=card.identity)


def _keys(member: RosterSite | RosterResearcher) -> set[str]:
    if isinstance(member, RosterSite):
        return {member.identity, " ".join(member.node_key.split()[:2])}  # without the comment of an OpenSSH key
    return {member.identity}

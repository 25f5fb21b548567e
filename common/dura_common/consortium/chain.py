"""How one roster follows another: link by link, and only as the sites of the roster before have countersigned.

A site that follows roster n takes n + 1 if

1. it is of the same consortium, has the next serial and names the digest of n;
2. the root key of n has signed it, and its own root key too if that is another one; with the old root key lost, the
   new one has signed and *all* sites of n have countersigned;
3. a quorum of the sites of n has countersigned: more than half, never under two, never fewer than n demands. Demanding
   less than n takes all sites of n;
4. a name that n lists, or that ever was on a roster, comes with the keys that it had, or its former identity has
   signed the new ones, or they are marked as lost, and the quorum has countersigned the word "lost" for this name;
5. whoever is gone, or has other keys, has a tombstone, and no other tombstone comes or goes;
6. it was not issued before n.

Dates are judged where something is done (:func:`dura_common.consortium.roster.check_dates`): a chain may be followed
through rosters that have expired meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from dura_common.consortium.cards import check_handover, decode_identity
from dura_common.consortium.envelope import compact, digest, payload_of, verify
from dura_common.consortium.roster import (
    MAX_MEMBERS,
    ROSTER_TYPE,
    Member,
    Roster,
    Tombstone,
    parse_payload,
    read_claimed_roster,
)
from dura_common.errors import DuraError, TrustError
from dura_common.study import Digest, Frozen, SiteName, Word, explain_validation

COUNTERSIGNATURE_TYPE = "application/vnd.dura.countersignature+json"
MAX_LINKS = 16
"""Most rosters that one message or file carries: a site that missed more follows them in turns."""
Envelope = Annotated[str, Field(max_length=1_048_576)]


class NoQuorum(TrustError):
    """A roster is sound, and too few sites have countersigned it."""


class Countersignature(Frozen):
    """A site's word that the members on a roster are right; signed by the identity that the roster before lists."""

    format: Literal[1] = 1
    consortium: Word
    serial: Annotated[int, Field(ge=1)]
    roster: Digest
    site: SiteName
    lost: Annotated[tuple[SiteName, ...], Field(max_length=MAX_MEMBERS)] = ()
    """Members whose new keys nobody's old key vouches for, and whom this site's people have asked."""


class Link(Frozen):
    """A roster and what sites said of it, on its way to other sites."""

    roster: Envelope
    countersignatures: Annotated[tuple[Annotated[str, Field(max_length=65_536)], ...], Field(max_length=MAX_MEMBERS)]


@dataclass(frozen=True, slots=True)
class Changes:
    """Members that differ between two rosters, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rotated: tuple[str, ...] = ()
    """Other keys, signed by the old ones."""
    lost: tuple[str, ...] = ()
    """Other keys, and the old ones are lost."""

    @property
    def new(self) -> tuple[str, ...]:
        """Everybody whose keys somebody should compare."""
        return tuple(sorted({*self.added, *self.rotated, *self.lost}))


def changes(old: Roster | None, new: Roster) -> Changes:
    """Return what a person should look at before a roster is countersigned."""
    before = {member.name: member for member in old.members} if old is not None else {}
    after = {member.name: member for member in new.members}
    changed = [name for name in before.keys() & after.keys() if before[name].fingerprint() != after[name].fingerprint()]
    lost = {name for name in after if after[name].lost and (name in changed or name not in before)}
    return Changes(
        added=tuple(sorted(after.keys() - before.keys() - lost)),
        removed=tuple(sorted(before.keys() - after.keys())),
        rotated=tuple(sorted(set(changed) - lost)),
        lost=tuple(sorted(lost)),
    )


def read_countersignature(text: str | bytes, sites: Roster) -> Countersignature:
    """Read a countersignature of a site that a roster lists.

    Raises:
        InputError: not a countersignature.
        TrustError: of nobody on that roster, or its signature does not hold.
    """
    try:
        claimed = Countersignature.model_validate_json(payload_of(text))
    except ValidationError as error:
        raise explain_validation(error, what="the countersignature") from error
    site = sites.site(claimed.site)
    if site is None:
        raise TrustError(f"{claimed.site} may not countersign: the roster before does not list this site")
    verify(text, COUNTERSIGNATURE_TYPE, [site.identity_key()])
    return claimed


def countersigners(link: Link, electors: Roster) -> dict[str, Countersignature]:
    """Return who of a roster's sites has countersigned a link, by name; what does not hold does not count."""
    reference, found = digest(payload_of(link.roster)), {}
    for text in link.countersignatures:
        try:
            one = read_countersignature(text, electors)
        except DuraError:
            continue
        if one.roster == reference and one.consortium == electors.consortium:
            found[one.site] = one
    return found


def cleaned(link: Link, electors: Roster) -> Link:
    """Return a link with one countersignature of each site that may give one, and nothing else."""
    reference, found = digest(payload_of(link.roster)), {}
    for text in link.countersignatures:
        try:
            small = compact(text)
            one = read_countersignature(small, electors)
        except DuraError:
            continue
        if one.roster == reference and one.consortium == electors.consortium:
            found[one.site] = small
    return Link(roster=compact(link.roster), countersignatures=tuple(found[name] for name in sorted(found)))


def check_founding(link: Link) -> Roster:
    """Return the first roster of a consortium if a quorum of its own sites has countersigned it.

    Raises:
        TrustError: it is not a first roster, or is not signed by the root key that it names.
        NoQuorum: too few of its sites have countersigned.
    """
    roster = read_claimed_roster(link.roster)
    if roster.serial != 1 or roster.gone:
        raise TrustError(f"expected a first roster, got serial {roster.serial}")
    _check_quorum(countersigners(link, roster), roster.needed, roster)
    return roster


def check_link(old: Roster, old_digest: str, link: Link) -> Roster:
    """Return the roster of a link if a site that follows ``old`` may follow it; see the module's rules.

    Raises:
        InputError: not a roster.
        TrustError: a rule does not hold.
        NoQuorum: every rule holds but the third.
    """
    new = check_sound(old, old_digest, link.roster)
    said = countersigners(link, old)
    everybody = len(old.sites)
    signed_by_old = _signed_by(link.roster, old)
    weaker = new.quorum < old.quorum
    _check_quorum(said, old.needed if signed_by_old and not weaker else everybody, new)
    lost = changes(old, new).lost
    vouched = [one for one in said.values() if set(lost) <= set(one.lost)]
    if lost and len(vouched) < old.needed:
        raise NoQuorum(
            f"only {len(vouched)} of {old.needed} sites have confirmed that the old keys of {', '.join(lost)} are LOST"
        )
    return new


def check_sound(old: Roster, old_digest: str, envelope: str) -> Roster:
    """Return a roster that keeps every rule but the quorum's: one that a person may be asked about.

    Raises:
        InputError: not a roster.
        TrustError: a rule does not hold.
    """
    new = read_claimed_roster(envelope)  # rule 2: its own root key
    if new.consortium != old.consortium:
        raise TrustError("the roster is of another consortium")
    if (new.serial, new.previous) != (old.serial + 1, old_digest):
        raise TrustError(f"the roster (serial {new.serial}) does not follow the one known here (serial {old.serial})")
    if new.issued < old.issued:
        raise TrustError("the roster was issued before the one that it follows")
    _check_members(old, new)
    if new.gone != (*old.gone, *tombstones(old, new)):
        raise TrustError("the roster does not say truthfully who has left")
    return new


def tombstones(old: Roster, new: Roster, why: str | None = None) -> tuple[Tombstone, ...]:
    """Return the tombstones that a roster must add, sorted by name; ``why`` None takes the ones that it has."""
    said = {(stone.name, stone.serial): stone.why for stone in new.gone}
    found = []
    for member in sorted(old.members, key=lambda member: member.name):
        now = new.member(member.name)
        if now is None or now.fingerprint() != member.fingerprint():
            reason = said.get((member.name, new.serial), "") if why is None else why
            found.append(
                Tombstone(
                    kind=member.kind,
                    name=member.name,
                    identity=member.identity,
                    fingerprint=member.fingerprint(),
                    serial=new.serial,
                    why=reason,
                )
            )
    return tuple(found)


def former(roster: Roster, name: str) -> Member | Tombstone | None:
    """Return the last keys that a name had, on the roster or on its latest tombstone."""
    present = roster.member(name)
    if present is not None:
        return present
    return next((stone for stone in reversed(roster.gone) if stone.name == name), None)


def vouched_by_old_keys(member: Member, before: Member | Tombstone) -> bool:
    """Tell whether the former identity of a name has signed the keys that it comes with."""
    return check_handover(decode_identity(before.identity), member.fingerprint(), member.handover)


def parse_links(content: bytes) -> tuple[Link, ...]:
    """Read a file of links, oldest first.

    Raises:
        InputError: not one, or too many links.
    """
    try:
        chain = Chain.model_validate_json(content)
    except ValidationError as error:
        raise explain_validation(error, what="the rosters") from error
    return chain.links


class Chain(Frozen):
    """Rosters on their way as a file, oldest first."""

    format: Literal[1] = 1
    links: Annotated[tuple[Link, ...], Field(min_length=1, max_length=MAX_LINKS)]


def _check_members(old: Roster, new: Roster) -> None:
    for member in new.members:
        before = former(old, member.name)
        mark = member.fingerprint()
        present = old.member(member.name)
        if present is not None and present.fingerprint() == mark:
            if (member.since, member.lost, member.handover) != (present.since, present.lost, present.handover):
                raise TrustError(f"the roster tells another history of {member.name}")
            continue
        if member.since != new.issued:
            raise TrustError(f"the roster says that {member.name} had these keys before it was issued")
        if before is None or _mark(before) == mark:
            continue  # nobody before, or somebody who comes back with the very same keys
        if not member.lost and not vouched_by_old_keys(member, before):
            raise TrustError(
                f"the roster changes the keys of {member.name}, and neither the old key has signed that nor is it "
                "said to be lost",
                hint=f"Ask {member.name} by telephone, and tell the other hospitals.",
            )


def _mark(before: Member | Tombstone) -> str:
    return before.fingerprint if isinstance(before, Tombstone) else before.fingerprint()


def _signed_by(envelope: str, old: Roster) -> bool:
    try:
        verify(envelope, ROSTER_TYPE, [old.root_key()])
    except TrustError:
        return False
    return True


def _check_quorum(said: dict[str, Countersignature], needed: int, roster: Roster) -> None:
    if len(said) < needed:
        raise NoQuorum(
            f"{len(said)} of {needed} sites that it needs have countersigned roster {roster.serial}",
            hint="`dura site roster` shows what would change; `dura site roster confirm` countersigns it.",
        )


def follow(old: Roster, old_digest: str, links: Iterable[Link]) -> tuple[list[Link], TrustError | None]:
    """Return how far a chain may be followed from ``old``, and why not further.

    Links that come before ``old``, or are ``old`` itself, are passed over.
    """
    followed: list[Link] = []
    for link in links:
        claimed = parse_payload(Roster, payload_of(link.roster), what="the roster")
        if claimed.serial <= old.serial:
            continue
        try:
            old = check_link(old, old_digest, link)
        except TrustError as error:
            return followed, error
        old_digest = digest(payload_of(link.roster))
        followed.append(link)
    return followed, None

"""How one roster follows another: step by step, and only with countersignatures from the sites of the earlier roster.

A site that follows roster n accepts roster n + 1 if all of these rules hold:

1. Roster n + 1 belongs to the same consortium, has the next serial and names the digest of n.
2. The root key of n has signed it. If it names another root key, that key has signed it too. If the old root key is
   lost, the new root key has signed it and *all* sites of n have countersigned it.
3. A quorum of the sites of n has countersigned it: more than half, at least two, and at least as many as n demands. If
   n + 1 demands fewer countersignatures than n, all sites of n must have countersigned it.
4. A name that is or ever was on a roster has the same keys as before. Otherwise, its former identity has signed the new
   keys, or the old keys are marked as lost and the quorum has countersigned the word "lost" for this name.
5. A member who is gone or has other keys gets a tombstone. No other tombstone is added or removed.
6. Roster n + 1 was not issued before n.

Dates are checked only when a roster is used (:func:`dura_common.consortium.roster.check_dates`). A site may therefore
follow a chain through rosters that have expired in the meantime.
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
"""The largest number of rosters in one message or file. A site that missed more follows them in several turns."""
Envelope = Annotated[str, Field(max_length=1_048_576)]


class NoQuorum(TrustError):
    """A roster is valid, but too few sites have countersigned it."""


class Countersignature(Frozen):
    """A site's statement that the members on a roster are right, signed by its identity on the previous roster."""

    format: Literal[1] = 1
    consortium: Word
    serial: Annotated[int, Field(ge=1)]
    roster: Digest
    site: SiteName
    lost: Annotated[tuple[SiteName, ...], Field(max_length=MAX_MEMBERS)] = ()
    """Members whose new keys no old key has signed, and whom this site's people have asked by telephone."""


class Link(Frozen):
    """A roster with its countersignatures, in the form that is sent to other sites."""

    roster: Envelope
    countersignatures: Annotated[tuple[Annotated[str, Field(max_length=65_536)], ...], Field(max_length=MAX_MEMBERS)]


@dataclass(frozen=True, slots=True)
class Changes:
    """The members that differ between two rosters, by name."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    rotated: tuple[str, ...] = ()
    """Members with new keys that the old keys have signed."""
    lost: tuple[str, ...] = ()
    """Members with new keys whose old keys are lost."""

    @property
    def new(self) -> tuple[str, ...]:
        """All members whose keys a person should compare."""
        return tuple(sorted({*self.added, *self.rotated, *self.lost}))


def changes(old: Roster | None, new: Roster) -> Changes:
    """Return the changes that a person should examine before countersigning a roster."""
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
            InputError: the text is not a countersignature.
            TrustError: the roster does not list the signer, or the signature is not valid.
    """
    try:
        claimed = Countersignature.model_validate_json(payload_of(text))
    except ValidationError as error:
        raise explain_validation(error, what="the countersignature") from error
    site = sites.site(claimed.site)
    if site is None:
        raise TrustError(f"{claimed.site} may not countersign: the previous roster does not list this site")
    verify(text, COUNTERSIGNATURE_TYPE, [site.identity_key()])
    return claimed


def countersigners(link: Link, electors: Roster) -> dict[str, Countersignature]:
    """Return which of a roster's sites have countersigned a link, by name. Invalid countersignatures do not count."""
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
    """Return a link with exactly one countersignature of each site that may countersign."""
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
        NoQuorum: too few of its sites have countersigned it.
    """
    roster = read_claimed_roster(link.roster)
    if roster.serial != 1 or roster.gone:
        raise TrustError(f"expected a first roster, got serial {roster.serial}")
    _check_quorum(countersigners(link, roster), roster.needed, roster)
    return roster


def check_link(old: Roster, old_digest: str, link: Link) -> Roster:
    """Return the roster of a link if a site that follows ``old`` may follow it; see the module's rules.

    Raises:
        InputError: the content is not a roster.
        TrustError: a rule does not hold.
        NoQuorum: only the third rule does not hold.
    """
    new = check_sound(old, old_digest, link.roster)
    said = countersigners(link, old)
    everybody = len(old.sites)
    signed_by_old = _signed_by(link.roster, old)
    weaker = new.quorum < old.quorum
    _check_quorum(said, old.needed if signed_by_old and not weaker else everybody, new)  # rules 2 and 3
    lost = changes(old, new).lost  # rule 4: keys that are marked as lost
    vouched = [one for one in said.values() if set(lost) <= set(one.lost)]
    if lost and len(vouched) < old.needed:
        raise NoQuorum(
            f"only {len(vouched)} of {old.needed} sites have confirmed that the old keys of {', '.join(lost)} are LOST"
        )
    return new


def check_sound(old: Roster, old_digest: str, envelope: str) -> Roster:
    """Return a roster that meets every rule except the quorum, so that a person may be asked about it.

    Raises:
        InputError: the content is not a roster.
        TrustError: a rule does not hold.
    """
    new = read_claimed_roster(envelope)  # rule 2: its own root key
    if new.consortium != old.consortium:  # rule 1
        raise TrustError("the roster is of another consortium")
    if (new.serial, new.previous) != (old.serial + 1, old_digest):
        raise TrustError(f"the roster (serial {new.serial}) does not follow the one known here (serial {old.serial})")
    if new.issued < old.issued:  # rule 6
        raise TrustError("the roster was issued before the roster that it follows")
    _check_members(old, new)  # rule 4
    if new.gone != (*old.gone, *tombstones(old, new)):  # rule 5
        raise TrustError("the roster's list of members who have left is wrong")
    return new


def tombstones(old: Roster, new: Roster, why: str | None = None) -> tuple[Tombstone, ...]:
    """Return the tombstones that a roster must add, sorted by name; ``why`` None means the reasons on the roster."""
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
    """Return the last keys of a name, from the roster or from its latest tombstone."""
    present = roster.member(name)
    if present is not None:
        return present
    return next((stone for stone in reversed(roster.gone) if stone.name == name), None)


def vouched_by_old_keys(member: Member, before: Member | Tombstone) -> bool:
    """Tell whether the former identity of a name has signed its new keys."""
    return check_handover(decode_identity(before.identity), member.fingerprint(), member.handover)


def parse_links(content: bytes) -> tuple[Link, ...]:
    """Read a file of links, oldest first.

    Raises:
        InputError: the content is not such a file, or has too many links.
    """
    try:
        chain = Chain.model_validate_json(content)
    except ValidationError as error:
        raise explain_validation(error, what="the rosters") from error
    return chain.links


class Chain(Frozen):
    """A file of rosters, oldest first."""

    format: Literal[1] = 1
    links: Annotated[tuple[Link, ...], Field(min_length=1, max_length=MAX_LINKS)]


def _check_members(old: Roster, new: Roster) -> None:
    for member in new.members:
        before = former(old, member.name)
        mark = member.fingerprint()
        present = old.member(member.name)
        if present is not None and present.fingerprint() == mark:
            if (member.since, member.lost, member.handover) != (present.since, present.lost, present.handover):
                raise TrustError(f"the roster gives another history of the keys of {member.name}")
            continue
        if member.since != new.issued:
            raise TrustError(f"the roster says that {member.name} had these keys before it was issued")
        if before is None or _mark(before) == mark:
            continue  # a new member, or a member who comes back with exactly the same keys
        if not member.lost and not vouched_by_old_keys(member, before):
            raise TrustError(
                f"the roster changes the keys of {member.name}, but the old key has not signed the change and was not "
                "declared lost",
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
    """Return how far a chain may be followed from ``old``, and the reason why not further.

    Links before ``old``, and ``old`` itself, are skipped.
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

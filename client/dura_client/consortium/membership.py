"""The members of the consortium, as this site sees them: the followed roster, earlier rosters, and waiting rosters.

:class:`Membership` is read and verified once and then passed on. A site follows rosters step by step
(:mod:`dura_common.consortium.chain`). A valid roster without enough countersignatures waits, and an officer may
countersign it. Two rosters with one serial are evidence against the authority: both are kept, and nothing is followed
or approved until an officer has stated which roster the other hospitals have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from dura_client.consortium.card import finish_rotation, load_card
from dura_client.consortium.people import People, load_people
from dura_client.consortium.rosters import MAX_BYTES, followed, followed_link, link_path, read_link, serial_of
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_common.consortium.cards import SiteCard, decode_identity
from dura_common.consortium.chain import (
    MAX_LINKS,
    Chain,
    Link,
    check_founding,
    check_sound,
    cleaned,
    countersigners,
    follow,
)
from dura_common.consortium.envelope import MAX_ENVELOPE_BYTES, compact, verify
from dura_common.consortium.roster import (
    ROSTER_TYPE,
    Roster,
    RosterSite,
    parse_payload,
    read_claimed_roster,
    roster_digest,
)
from dura_common.errors import DuraError, InputError, StateError, TrustError
from dura_common.runtime.files import exclusive, private_folder, read_limited, write_atomic
from dura_common.study import explain_validation

MAX_EVIDENCE = 8
"""Number of rosters kept as evidence against an authority; more would show nothing new."""
MARK = "consortium.pub"


@dataclass(frozen=True, slots=True)
class Membership:
    """One verified view of card, roster and people, passed on to other functions."""

    home: SiteHome
    card: SiteCard
    link: Link
    """The roster that is followed, with the countersignatures known here."""
    roster: Roster
    digest: str
    people: People

    @property
    def key(self) -> Ed25519PublicKey:
        """The authority's root key."""
        return self.roster.root_key()

    @property
    def authority_file(self) -> Path:
        """Certificate authority of the service (PEM)."""
        return self.home.consortium / "authority.pem"

    @property
    def mine(self) -> RosterSite | None:
        """This site's entry, if the roster lists it with this site's own keys."""
        return own_entry(self.card, self.roster)

    def roster_of(self, digest: str) -> Roster | None:
        """Return a roster that this site follows or has followed, or None."""
        if digest == self.digest:
            return self.roster
        for path in followed(self.home):
            link = read_link(path)
            if roster_digest(link.roster) == digest:
                return read_claimed_roster(link.roster)
        return None

    def require_founded(self) -> None:
        """Refuse to act on a first roster that too few of its sites have countersigned.

        Raises:
            NoQuorum: these sites have not joined yet, or see another roster.
        """
        if self.roster.serial == 1:
            check_founding(self.link)

    def require_peace(self) -> None:
        """Refuse to act while two rosters with one serial are known.

        Raises:
            TrustError: an officer has to decide first.
        """
        serials = contradictions(self.home)
        if serials:
            raise TrustError(
                f"there are two different rosters of serial {', '.join(map(str, serials))}: somebody shows different "
                "members to different hospitals",
                hint="Compare the fingerprint that `dura site roster` shows with every hospital, then name the right "
                "roster: `dura site roster settle DIGEST`.",
            )


def own_entry(card: SiteCard, roster: Roster) -> RosterSite | None:
    """Return the entry of a card's site, if the roster lists it with exactly these keys."""
    mine = roster.site(card.name)
    return mine if mine is not None and mine.fingerprint() == card.fingerprint() else None


def has_joined(home: SiteHome) -> bool:
    """Say whether the site has joined a consortium."""
    return (home.consortium / MARK).exists()


def load_membership(home: SiteHome) -> Membership:
    """Read and verify the roster that this site follows. An altered file is noticed. Dates are not checked here.

    Raises:
        StateError: the site has not joined.
        InputError: the roster comes from an earlier version of dura.
        TrustError: a file was altered.
    """
    if not has_joined(home):
        raise StateError("this site has not joined a consortium", hint="Use `dura site join ADMISSION`.")
    mark = read_limited(home.consortium / MARK, what="the consortium key").decode("ascii", errors="replace")
    root = decode_identity(mark)
    envelope = read_limited(home.consortium / "roster.json", what="the roster", limit=MAX_ENVELOPE_BYTES).decode(
        errors="replace"
    )
    roster = parse_payload(Roster, verify(envelope, ROSTER_TYPE, [root]), what="the roster")
    if roster.root != mark:
        raise TrustError("the roster that this site follows names another root key than the site does")
    finish_rotation(home, roster)
    path = link_path(home, roster.serial)
    link = read_link(path) if path.exists() else Link(roster=envelope, countersignatures=())
    if roster_digest(link.roster) != roster_digest(envelope):
        raise TrustError("the files of the roster that this site follows differ")
    return Membership(home, load_card(home), link, roster, roster_digest(envelope), load_people(home))


def pin(home: SiteHome, link: Link, roster: Roster) -> None:
    """Follow a roster from now on. The caller has checked that this is allowed."""
    folder = private_folder(home.consortium)
    private_folder(folder / "followed")
    write_atomic(link_path(home, roster.serial), link.model_dump_json().encode())
    write_atomic(folder / "authority.pem", roster.authority.encode())
    write_atomic(folder / "clients.pem", roster.clients.encode())
    write_atomic(folder / "roster.json", link.roster.encode())
    write_atomic(folder / MARK, roster.root.encode())  # last, because this file marks the site as joined
    finish_rotation(home, roster)


def forget(home: SiteHome) -> None:
    """Remove rosters that nobody countersigns: of a single site, or of an earlier version of dura."""
    for path in (*followed(home), home.consortium / "pending.json", *(home.consortium / "own").glob("*.json")):
        path.unlink(missing_ok=True)


def pending(home: SiteHome) -> tuple[Link, ...]:
    """Return the waiting rosters, oldest first.

    Raises:
        InputError: the file was altered.
    """
    path = home.consortium / "pending.json"
    if not path.exists():
        return ()
    try:
        content = read_limited(path, what="the waiting rosters", limit=MAX_BYTES)
        return Chain.model_validate_json(content).links
    except ValidationError as error:
        raise explain_validation(error, what="the waiting rosters") from error


def take(home: SiteHome, links: Sequence[Link]) -> Membership:
    """Follow rosters as far as they are countersigned. Keep valid rosters that wait, and evidence of contradictions.

    Raises:
        StateError: the site has not joined.
        InputError: one of them is not a roster.
        TrustError: one of them breaks a rule; earlier rosters were accepted all the same.
    """
    with exclusive(home.members_lock):  # a slower process would go back to an earlier roster
        return _take(home, links)


def _take(home: SiteHome, links: Sequence[Link]) -> Membership:
    here = load_membership(home)
    waiting = {serial_of(link): link for link in pending(home)}
    known = dict(waiting)
    for link in sorted(links[:MAX_LINKS], key=serial_of):
        serial = serial_of(link)
        rival = known.get(serial) if serial > here.roster.serial else followed_link(home, serial)
        if rival is not None and roster_digest(rival.roster) != roster_digest(link.roster):
            _keep_evidence(here, serial, rival, link)
        elif serial == here.roster.serial:
            here = _learn(here, link)
        elif serial > here.roster.serial:
            electors = _electors(here, known, serial)
            if electors is not None:  # a gap: the sender of this link also sends the earlier links
                known[serial] = cleaned(_merged(rival, link), electors)
    return _advance(here, [known[serial] for serial in sorted(known) if serial > here.roster.serial], waiting)


def _advance(here: Membership, links: list[Link], waiting: dict[int, Link]) -> Membership:
    home, why = here.home, None
    if not contradictions(home):
        reached, why = follow(here.roster, here.digest, links)
        for link in reached:
            roster = read_claimed_roster(link.roster)
            if _needs_own_word(home) and here.card.name not in countersigners(link, here.roster):
                break
            pin(home, link, roster)
            here = load_membership(home)
    wait, before, reference = [], here.roster, here.digest
    for link in [link for link in links if serial_of(link) > here.roster.serial][:MAX_LINKS]:
        try:
            before = check_sound(before, reference, link.roster)
        except TrustError as error:
            why = error
            break
        reference = roster_digest(link.roster)
        wait.append(link)
    _write_pending(home, wait, waiting)
    if why is not None and not wait and not contradictions(home) and links:
        raise why
    return here


def _write_pending(home: SiteHome, wait: list[Link], waiting: dict[int, Link]) -> None:
    path = home.consortium / "pending.json"
    if not wait:
        path.unlink(missing_ok=True)
        return
    content = Chain(links=tuple(wait)).model_dump_json().encode()
    if len(content) > MAX_BYTES:
        raise InputError(f"the waiting rosters are larger than {MAX_BYTES} bytes")
    if wait != list(waiting.values()):
        write_atomic(path, content)


def _needs_own_word(home: SiteHome) -> bool:
    return home.policy.exists() and load_policy(home).own_countersignature


def _learn(here: Membership, link: Link) -> Membership:
    """Store countersignatures of the followed roster. At a founding, they arrive after joining."""
    if here.roster.serial != 1:
        return here
    merged = cleaned(_merged(here.link, link), here.roster)
    if len(merged.countersignatures) > len(here.link.countersignatures):
        write_atomic(link_path(here.home, 1), merged.model_dump_json().encode())
        return replace(here, link=merged)
    return here


def _merged(one: Link | None, other: Link) -> Link:
    if one is None:
        return other
    return one.model_copy(update={"countersignatures": (*one.countersignatures, *other.countersignatures)})


def _electors(here: Membership, known: dict[int, Link], serial: int) -> Roster | None:
    """Return the roster whose sites countersign the roster with a given serial."""
    if serial - 1 == here.roster.serial:
        return here.roster
    before = known.get(serial - 1)
    return None if before is None else read_claimed_roster(before.roster)


def _keep_evidence(here: Membership, serial: int, known: Link, other: Link) -> None:
    """Keep two rosters with one serial as evidence, if a root key that this site has followed signed both."""
    electors = here.roster if serial > here.roster.serial else read_claimed_roster(known.roster)
    if not here.roster.founded:
        return
    try:
        verify(other.roster, ROSTER_TYPE, [electors.root_key()])
    except DuraError:
        return  # anybody could have made this roster, so it is no evidence against the authority
    folder = private_folder(here.home.consortium / "evidence")
    if len(list(folder.glob("*.json"))) >= MAX_EVIDENCE:
        return
    for link in (known, other):
        path = folder / f"{serial:06d}-{roster_digest(link.roster)}.json"
        if not path.exists():
            small = Link(roster=compact(link.roster), countersignatures=())
            write_atomic(path, small.model_dump_json().encode())


def contradictions(home: SiteHome) -> tuple[int, ...]:
    """Return the serials with two known rosters for which no officer has stated which roster is right."""
    folder = home.consortium / "evidence"
    settled = {path.stem for path in folder.glob("*.settled")}
    serials = {path.name[:6] for path in folder.glob("*.json")}
    return tuple(sorted(int(serial) for serial in serials - settled))


def settle(home: SiteHome, reference: str) -> None:
    """State which of two rosters with one serial the other hospitals have. The evidence is kept.

    Raises:
        StateError: no such roster is in question.
        TrustError: this site already follows the other roster: it has to join again.
    """
    folder = home.consortium / "evidence"
    found = [path for path in folder.glob("*.json") if path.stem[7:].startswith(reference)]
    if len(found) != 1:
        raise StateError(f"no roster in question begins with {reference[:64]!r}", hint="`dura site roster` lists them.")
    here, link = load_membership(home), read_link(found[0])
    serial = serial_of(link)
    if serial <= here.roster.serial and here.roster_of(roster_digest(link.roster)) is None:
        raise TrustError(
            "this site already follows the other roster with this serial",
            hint="Do not run studies here. Found the consortium again with the hospitals that you trust.",
        )
    if serial > here.roster.serial:
        with exclusive(home.members_lock):
            kept = [item for item in pending(home) if serial_of(item) < serial]
            _write_pending(home, [*kept, link], {})
    write_atomic(folder / f"{serial:06d}.settled", reference.encode())

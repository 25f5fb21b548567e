"""Rosters: what may follow what, whose word it takes, and what a fingerprint covers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.common.consortium.rosters import NOW, Person, after, first, linked, signed

from dura_common.consortium.cards import CARD_TYPE, ResearcherCard, encode_identity, read_card
from dura_common.consortium.chain import NoQuorum, changes, check_founding, check_link, cleaned, countersigners, follow
from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.identity import CLOCK_SKEW, fingerprint, node_public_text, tls_public_text
from dura_common.consortium.roster import Expired, Roster, check_dates, read_claimed_roster, roster_digest
from dura_common.errors import DuraError, InputError, TrustError

ROOT = Ed25519PrivateKey.generate()
NORTH, EAST, SOUTH, WEST = (Person(name) for name in ("north", "east", "south", "west"))
ADA = Person("ada", site=False)
FOUR = (NORTH, EAST, SOUTH, WEST)
OLD = first(ROOT, (*FOUR, ADA))
ENVELOPE = signed(OLD, ROOT)
DIGEST = roster_digest(ENVELOPE)
LATER = NOW + timedelta(days=1)


def _link(
    entries: Sequence[Any] | None = None,
    *,
    by: Sequence[Person] = FOUR[:3],
    keys: Sequence[Ed25519PrivateKey] = (ROOT,),
    lost: Sequence[str] = (),
    **changed: Any,
) -> Any:
    new = after(OLD, ENVELOPE, LATER, entries, **changed)
    return linked(new, signed(new, *keys), by, lost)


def _but(name: str, *more: Any) -> list[Any]:
    return [member for member in OLD.members if member.name != name] + list(more)


def _refused(link: Any, reason: str, error: type[DuraError] = TrustError) -> None:
    with pytest.raises(error, match=reason):
        check_link(OLD, DIGEST, link)


def test_a_quorum_of_the_sites_lets_members_come_and_go() -> None:
    """Three of four sites are enough for a member more and a member less; two are not."""
    entries = _but("west", Person("centre").entry(LATER))
    new = check_link(OLD, DIGEST, _link(entries))
    difference = changes(OLD, new)
    assert (difference.added, difference.removed) == (("centre",), ("west",))
    assert [stone.name for stone in new.gone] == ["west"]
    _refused(_link(entries, by=FOUR[:2]), "2 of 3 sites", NoQuorum)


@pytest.mark.parametrize(("sites", "needed"), [(1, 2), (2, 2), (3, 2), (4, 3), (5, 3), (10, 6), (30, 16)])
def test_a_quorum_is_more_than_half_and_never_one(sites: int, needed: int) -> None:
    """The numbers that the documentation tells."""
    assert first(ROOT, [Person(f"site-{number}") for number in range(sites)]).needed == needed


def test_one_site_counts_once_and_strangers_and_researchers_never() -> None:
    """The same site twice, a site that is only on the new roster, a researcher: none makes a quorum."""
    newcomer = Person("centre")
    entries = [*OLD.members, newcomer.entry(LATER)]
    _refused(_link(entries, by=(NORTH, NORTH, NORTH)), "1 of 3", NoQuorum)
    _refused(_link(entries, by=(NORTH, EAST, newcomer, ADA, Person("west"))), "2 of 3", NoQuorum)


def test_countersignatures_are_for_one_roster() -> None:
    """A quorum that was given to another roster of the same serial counts nothing."""
    honest = _link([*OLD.members, Person("centre").entry(LATER)])
    evil = _link([*OLD.members, Person("evil").entry(LATER)], by=())
    replayed = evil.model_copy(update={"countersignatures": honest.countersignatures})
    _refused(replayed, "0 of 3", NoQuorum)


def test_other_keys_need_the_old_key_or_the_word_lost() -> None:
    """Even a quorum does not swap keys in silence."""
    fresh = Person("east")
    _refused(_link(_but("east", fresh.entry(LATER))), "changes the keys of east")
    _refused(_link(_but("east", fresh.entry(LATER, before=WEST))), "changes the keys of east")
    rotated = check_link(OLD, DIGEST, _link(_but("east", fresh.entry(LATER, before=EAST))))
    assert changes(OLD, rotated).rotated == ("east",)
    entries = _but("east", fresh.entry(LATER, lost=True))
    _refused(_link(entries), "0 of 3 sites have confirmed that the old keys of east are LOST", NoQuorum)
    new = check_link(OLD, DIGEST, _link(entries, lost=["east"]))
    assert changes(OLD, new).lost == ("east",)


def test_a_name_does_not_come_back_with_other_keys() -> None:
    """Removing a member and adding it again is no way around its old key: its tombstone remembers."""
    removed = after(OLD, ENVELOPE, LATER, _but("east"))
    envelope = signed(removed, ROOT)
    check_link(OLD, DIGEST, linked(removed, envelope, FOUR[:3]))
    when = LATER + timedelta(days=1)
    back = after(removed, envelope, when, [*removed.members, Person("east").entry(when)])
    with pytest.raises(TrustError, match="changes the keys of east"):
        check_link(removed, roster_digest(envelope), linked(back, signed(back, ROOT), (NORTH, SOUTH, WEST)))
    same = after(removed, envelope, when, [*removed.members, EAST.entry(when)])
    check_link(removed, roster_digest(envelope), linked(same, signed(same, ROOT), (NORTH, SOUTH, WEST)))


def test_tombstones_cannot_be_dropped_or_invented() -> None:
    """Whoever is gone has a tombstone, and nobody else."""
    _refused(_link(_but("east"), gone=()), "list of members who have left is wrong")
    stones = after(OLD, ENVELOPE, LATER, _but("east")).gone
    _refused(_link(gone=stones), "list of members who have left is wrong")


def test_history_of_a_member_stays() -> None:
    """Since when a member has its keys cannot be told anew."""
    _refused(_link(_but("east", EAST.entry(LATER))), "another history of the keys of east")
    _refused(_link([*OLD.members, Person("centre").entry(NOW)]), "had these keys before")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"serial": 3}, "does not follow"),
        ({"previous": "0" * 64}, "does not follow"),
        ({"consortium": "others"}, "another consortium"),
        ({"issued": NOW - timedelta(days=1), "expires": NOW}, "issued before"),
    ],
)
def test_the_chain_has_no_gap_and_no_fork(changed: dict[str, Any], reason: str) -> None:
    """Serial, digest, consortium and date have to fit, whoever has countersigned."""
    _refused(_link(**changed), reason)


def test_the_root_key_signs_and_rotates() -> None:
    """A new root key needs the old one beside it, or all sites."""
    new_root = Ed25519PrivateKey.generate()
    named = {"root": encode_identity(new_root.public_key())}
    assert check_link(OLD, DIGEST, _link(keys=(new_root, ROOT), **named)).root == named["root"]
    _refused(_link(keys=(new_root,), **named), "3 of 4", NoQuorum)
    assert check_link(OLD, DIGEST, _link(keys=(new_root,), by=FOUR, **named)).root == named["root"]
    _refused(_link(keys=(ROOT,), **named), "signature is not valid")


def test_a_weaker_quorum_needs_everybody() -> None:
    """The rule itself changes only with all sites."""
    strict = first(ROOT, FOUR, quorum=4)
    envelope = signed(strict, ROOT)
    new = after(strict, envelope, LATER, quorum=2)
    reference = roster_digest(envelope)
    with pytest.raises(NoQuorum, match="3 of 4"):
        check_link(strict, reference, linked(new, signed(new, ROOT), FOUR[:3]))
    assert check_link(strict, reference, linked(new, signed(new, ROOT), FOUR)).quorum == 2


def test_a_founding_needs_its_own_sites() -> None:
    """A first roster holds once more than half of its sites have countersigned it."""
    assert check_founding(linked(OLD, ENVELOPE, FOUR[:3])) == OLD
    with pytest.raises(NoQuorum, match="2 of 3"):
        check_founding(linked(OLD, ENVELOPE, FOUR[:2]))


def test_a_chain_is_followed_as_far_as_it_holds() -> None:
    """Links from before are passed over; the first that fails ends it with its reason."""
    second = after(OLD, ENVELOPE, LATER, [*OLD.members, Person("centre").entry(LATER)])
    good = linked(second, signed(second, ROOT), FOUR[:3])
    third = after(second, good.roster, LATER + timedelta(days=1))
    short = linked(third, signed(third, ROOT), FOUR[:1])
    followed, why = follow(OLD, DIGEST, [linked(OLD, ENVELOPE, ()), good, short])
    assert followed == [good]
    assert isinstance(why, NoQuorum)


def test_what_nobody_signed_is_not_kept() -> None:
    """Junk among countersignatures and spaces in envelopes are dropped, and the good ones stay."""
    link = _link()
    padded = link.model_copy(
        update={"countersignatures": ("{}", "x" * 1000, *(text + " " * 5000 for text in link.countersignatures))}
    )
    small = cleaned(padded, OLD)
    assert set(countersigners(small, OLD)) == {"north", "east", "south"}
    assert sum(map(len, small.countersignatures)) < 3000


def test_roster_is_valid_between_its_dates_with_tolerance_for_clocks() -> None:
    """Expired and future rosters are refused; ten minutes of clock difference are not the future."""
    check_dates(OLD, NOW - CLOCK_SKEW)
    with pytest.raises(TrustError, match="issued in the future"):
        check_dates(OLD, NOW - CLOCK_SKEW - timedelta(seconds=1))
    with pytest.raises(Expired, match="expired"):
        check_dates(OLD, NOW + timedelta(days=90, seconds=1))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"expires": "2031-01-01T00:00:00"}, "timezone"),
        ({"expires": NOW + timedelta(days=91)}, "at most 90 days"),
        ({"root": OLD.researchers[0].identity}, "root key must not be a member"),
        ({"serial": 2}, "no previous roster"),
        ({"quorum": 1}, "greater than or equal to 2"),
    ],
)
def test_rosters_that_are_none(changed: dict[str, Any], reason: str) -> None:
    """No eternal roster, no root key that signs studies, no quorum of one, no date that means two moments."""
    with pytest.raises(ValidationError, match=reason):
        Roster.model_validate({**OLD.model_dump(), **changed})


@pytest.mark.parametrize("what", ["name", "identity", "node_key", "tls_key"])
def test_names_and_keys_on_a_roster_are_distinct(what: str) -> None:
    """Two sites share neither name nor key."""
    one, two, *_ = OLD.sites
    clash = two.model_copy(update={what: getattr(one, what)})
    with pytest.raises(ValidationError, match="must be distinct"):
        Roster.model_validate({**OLD.model_dump(), "sites": [one.model_dump(), clash.model_dump()]})


def test_wrong_curves_are_refused() -> None:
    """Keys on other curves than Flower's and gRPC's cannot stand on a roster."""
    small, large = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    values = OLD.sites[0].model_dump()
    with pytest.raises(ValidationError, match="P-384"):
        type(OLD.sites[0]).model_validate({**values, "node_key": node_public_text(small)})
    with pytest.raises(InputError, match="P-256"):
        tls_public_text(large.public_key())


@given(which=st.sampled_from(["name", "identity", "tls_key", "node_key"]))
def test_a_fingerprint_covers_every_key(which: str) -> None:
    """Whatever is swapped, people read another fingerprint; the comment of a key is nothing."""
    site, other = NORTH.entry(NOW), EAST.entry(NOW)
    swapped = site.model_copy(update={which: getattr(other, which)})
    assert swapped.fingerprint() != site.fingerprint()
    assert site.model_copy(update={"node_key": site.node_key + " note"}).fingerprint() == site.fingerprint()


def test_a_card_signed_by_somebody_else_is_refused() -> None:
    """A card is good only if signed by the very identity it carries."""
    card = ResearcherCard(name="ada", identity=OLD.researchers[0].identity, created=NOW)
    with pytest.raises(TrustError, match="signature"):
        read_card(sign(canonical_json(card), CARD_TYPE, ROOT))


def test_kinds_of_documents_are_not_mixed_up() -> None:
    """A roster is not a card, and a card signed as a roster is no roster."""
    with pytest.raises(InputError, match="the card"):
        read_card(ENVELOPE)
    with pytest.raises(TrustError, match="another type"):
        read_claimed_roster(sign(canonical_json(OLD), CARD_TYPE, ROOT))


def test_a_roster_of_an_earlier_dura_says_what_to_do() -> None:
    """The coordinator alone signed it: the hint tells how to found anew and keep everything."""
    text = '{"consortium":"brains","fleet":"localhost:8443","format":1,"serial":3}'
    old = sign(text.encode(), "application/vnd.dura.roster+json", ROOT)
    with pytest.raises(InputError, match="earlier version of dura") as caught:
        read_claimed_roster(old)
    assert "keeps its folder" in caught.value.hint


@given(parts=st.lists(st.binary(max_size=8), min_size=2, max_size=4))
def test_fingerprint_depends_on_where_parts_end(parts: list[bytes]) -> None:
    """Moving a byte from one part to the next gives another fingerprint."""
    merged = [parts[0] + parts[1], b"", *parts[2:]]
    assert (fingerprint(*parts) == fingerprint(*merged)) == (parts == merged)

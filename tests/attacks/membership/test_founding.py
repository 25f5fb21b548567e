"""Attacks on who is a member: what a lying authority, a coordinator or a stranger does, and what a site then follows.

Each test acts with the root key and every key of the coordinator in its hands. What it does not have are the keys of
honest hospitals, and the ears of people who compare a fingerprint.
"""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.attacks.membership.members import NAMES, SITES, forge, study_for, swapped
from tests.common.consortium.rosters import Person, after, linked, signed
from tests.support.consortium import LATER, NOW, Consortium, contents, gather, root_key
from tests.support.studies import study

from dura_client.consortium import enrolment as site_side
from dura_client.consortium import people
from dura_client.consortium.countersign import confirm_pending, own_countersignatures
from dura_client.consortium.membership import contradictions, load_membership, pending, settle, take
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import NotAuthentic, approve, list_offers, receive_offer
from dura_common.consortium.cards import encode_identity
from dura_common.consortium.chain import Link
from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.roster import (
    ADMISSION_TYPE,
    read_admission,
    roster_digest,
    roster_fingerprint,
)
from dura_common.errors import TrustError
from dura_common.messages import Offer
from dura_common.policy import Policy, judge_members
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side
from dura_server.studies.researcher import sign_study

# 13: keys that are swapped


def test_four_forged_rosters_at_join_have_four_fingerprints(made: Consortium) -> None:
    """The fingerprint covers every member: hospitals that were handed different rosters read different words aloud."""
    honest, envelope = coordinator_side.newest(made.coordinator)
    marks = set()
    for victim in NAMES:
        home = made.site(victim)
        shutil.rmtree(home.consortium)
        entries = [site if site.name == victim else Person(site.name).entry(NOW) for site in honest.sites]
        lie = forge(made, honest.model_copy(update={"sites": tuple(entries)}))
        admission = read_admission(made.admission(victim))[0].model_copy(update={"roster": lie})
        text = sign(canonical_json(admission), ADMISSION_TYPE, root_key(made.coordinator)).encode()
        marks.add(site_side.check_admission(home, text, NOW).fingerprint())
    assert len(marks) == 4
    assert roster_fingerprint(envelope) not in marks


def test_a_forged_roster_that_was_joined_runs_no_study_with_honest_sites(made: Consortium) -> None:
    """Who joined a forged roster without comparing follows another one than the rest, and no study fits both."""
    offer, _ = made.offer(study(sites=SITES))
    honest, _ = coordinator_side.newest(made.coordinator)
    home = made.site("north")
    shutil.rmtree(home.consortium)
    lie = forge(made, honest.model_copy(update={"fleet": "evil.example.org:8443"}))
    admission = read_admission(made.admission("north"))[0].model_copy(update={"roster": lie})
    site_side.join(home, admission, NOW, compared=False)
    with pytest.raises(NotAuthentic, match="does not follow"):
        receive_offer(home, offer, NOW)
    assert contradictions(home) == (1,)
    with pytest.raises(TrustError, match="countersigned another roster"):
        coordinator_side.collect(made.coordinator, own_countersignatures(home))


def test_a_key_swapped_in_a_later_roster_is_not_followed(made: Consortium) -> None:
    """Other keys without the old key's word are refused, and nothing of the offer is kept."""
    old, envelope = coordinator_side.newest(made.coordinator)
    entries, _ = swapped(old, "east", LATER)
    lie = forge(made, after(old, envelope, LATER, entries))
    north = made.site("north")
    before = contents(north.path)
    with pytest.raises(NotAuthentic, match="changes the keys of east"):
        receive_offer(north, study_for(made, lie)[0], NOW)
    assert contents(north.path) == before


def test_remove_then_add_does_not_swap_a_key(made: Consortium) -> None:
    """An honest quorum that lets a hospital go does not let somebody else come back under its name."""
    authority_side.remove(made.authority, "east", LATER)
    made.agree()
    old, envelope = coordinator_side.newest(made.coordinator)
    assert old.site("east") is None
    when = LATER + timedelta(hours=1)
    evil = Person("east")
    lie = forge(made, after(old, envelope, when, [*old.members, evil.entry(when)]))
    north = made.site("north")
    with pytest.raises(TrustError, match="changes the keys of east"):
        take(north, [Link(roster=lie, countersignatures=())])
    assert pending(north) == ()
    made.make_site("elsewhere")
    card = authority_side.read_card(made.card("elsewhere")).model_copy(update={"name": "east"})
    with pytest.raises(TrustError, match="known with other keys"):
        authority_side.admit(made.authority, [card], made.post, when)


def test_lost_keys_need_officers_who_say_so(made: Consortium) -> None:
    """A member with lost keys comes back only after a majority has countersigned the word."""
    east = made.site("east")
    shutil.rmtree(east.path)
    made.make_site("east", LATER)
    card = authority_side.check_card(made.authority, made.card("east"), LATER)
    authority_side.admit(made.authority, [card], made.post, LATER, lost=["east"])
    others = [made.site(name) for name in NAMES if name != "east"]
    links = gather(made.coordinator, ())
    for home in others:
        take(home, links)
        assert load_membership(home).roster.serial == 1
    for home in others:
        confirm_pending(home, pending(home))
    links = gather(made.coordinator, others)
    north = others[0]
    assert take(north, links).roster.serial == 2
    assert load_membership(north).people.confirmation(load_membership(north).roster.sites[-1]) is None


# 14: two truths


def test_two_rosters_of_one_serial_are_kept_and_nothing_is_followed(made: Consortium) -> None:
    """The evidence stays, no study is approved, and an officer settles it after asking the others."""
    old, envelope = coordinator_side.newest(made.coordinator)
    offer, reference = made.offer(study(sites=SITES))
    north = made.site("north")
    receive_offer(north, offer, NOW)
    one = after(old, envelope, LATER, [*old.members, Person("centre").entry(LATER)])
    two = after(old, envelope, LATER, [*old.members, Person("evil").entry(LATER)])
    texts = [forge(made, one), forge(made, two)]
    for text in texts:
        take(north, [Link(roster=text, countersignatures=())])
    assert contradictions(north) == (2,)
    evidence = {path.stem[7:] for path in (north.consortium / "evidence").glob("*.json")}
    assert evidence == {roster_digest(text) for text in texts}
    with pytest.raises(NotAuthentic, match="two different rosters"):
        approve(north, reference, "ward-3", NOW)
    with pytest.raises(TrustError, match="two different rosters"):
        confirm_pending(north, pending(north))
    settle(north, roster_digest(texts[0])[:12])
    assert [roster_digest(link.roster) for link in pending(north)] == [roster_digest(texts[0])]
    approve(north, reference, "ward-3", NOW)
    assert confirm_pending(north, pending(north))[1] == [2]


def test_nobody_but_the_authority_can_stop_a_site_with_a_second_roster(made: Consortium) -> None:
    """What another key has signed is no evidence, and is not kept."""
    old, envelope = coordinator_side.newest(made.coordinator)
    north = made.site("north")
    honest = after(old, envelope, LATER, [*old.members, Person("centre").entry(LATER)])
    take(north, [Link(roster=forge(made, honest), countersignatures=())])
    stranger = Ed25519PrivateKey.generate()
    named = {"root": encode_identity(stranger.public_key())}
    rival = after(old, envelope, LATER, [*old.members, Person("evil").entry(LATER)], **named)
    before = contents(north.path)
    take(north, [Link(roster=signed(rival, stranger), countersignatures=())])
    assert contents(north.path) == before


def test_a_site_countersigns_one_roster_of_a_serial(made: Consortium) -> None:
    """An officer who is shown a second roster of the same serial cannot sign it too."""
    old, envelope = coordinator_side.newest(made.coordinator)
    north = made.site("north")
    texts = [
        forge(made, after(old, envelope, LATER, [*old.members, Person(name).entry(LATER)])) for name in ("aa", "bb")
    ]
    take(north, [Link(roster=texts[0], countersignatures=())])
    confirm_pending(north, pending(north))
    (north.consortium / "pending.json").unlink()
    take(north, [Link(roster=texts[1], countersignatures=())])
    with pytest.raises(TrustError, match="another roster with serial 2"):
        confirm_pending(north, pending(north))


# 15: sybils


def test_invented_hospitals_need_the_honest_ones(made: Consortium) -> None:
    """A study whose other members are all invented names a roster that no quorum has countersigned."""
    old, envelope = coordinator_side.newest(made.coordinator)
    sybils = [Person(f"clinic-{number}") for number in range(9)]
    new = after(old, envelope, LATER, [*old.members, *(one.entry(LATER) for one in sybils)])
    link = linked(new, forge(made, new), sybils)
    wanted = study(sites=dict.fromkeys(("north", *(one.name for one in sybils)), 40))
    text, _ = sign_study(made.researcher, wanted, link.roster)
    north = made.site("north")
    with pytest.raises(NotAuthentic, match="does not follow"):
        receive_offer(north, Offer(study=text, roster=link.roster, links=(link,)), NOW)
    assert list_offers(north, NOW) == []
    assert pending(north)[0].countersignatures == ()


def test_sybils_can_countersign_each_other_and_cannot_be_confirmed(made: Consortium) -> None:
    """Where officers let strangers in, the policy still asks that their fingerprints were compared here."""
    for name in ("clinic-a", "clinic-b"):
        made.make_site(name)
    made.admit(*(made.card(name) for name in ("clinic-a", "clinic-b")))
    made.agree()
    here = load_membership(made.site("north"))
    wanted = study(sites=dict.fromkeys(("north", "east", "clinic-a", "clinic-b"), 40))
    confirmed = here.people.confirmed_names(here.roster)
    finding = judge_members(POLICY, wanted, site="north", confirmed=confirmed)
    assert not finding.passed
    assert "clinic-a, clinic-b" in finding.sentence
    for name in ("clinic-a", "clinic-b"):
        member = here.roster.member(name)
        assert member is not None
        people.confirm(made.site("north"), [member], NOW)
    known = people.load_people(made.site("north")).confirmed_names(here.roster)
    assert judge_members(POLICY, wanted, site="north", confirmed=known).passed


POLICY = Policy(
    epsilon_per_study=8.0,
    epsilon_total=10.0,
    delta=1e-3,
    minimum_patients=5,
    minimum_sites=2,
    public_data_without_noise=False,
)


# 16: signatures from elsewhere


# 17: time


# 18: a researcher of the coordinator's own


# 19 and 20: in a running study


# the policy's own word


def test_a_policy_may_ask_for_this_sites_own_countersignature(made: Consortium) -> None:
    """A quorum of the others is then not enough."""
    north = made.site("north")
    write_policy(north, POLICY.model_copy(update={"own_countersignature": True}))
    authority_side.issue(made.authority, None, LATER)
    others = [made.site(name) for name in NAMES if name != "north"]
    links = gather(made.coordinator, ())
    for home in others:
        take(home, links)
        confirm_pending(home, pending(home))
    links = gather(made.coordinator, others)
    assert take(north, links).roster.serial == 1
    assert confirm_pending(north, pending(north))[0].roster.serial == 2

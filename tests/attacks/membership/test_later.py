"""Attacks on members later on: old signatures, clocks, researchers of the authority, and changes in a running study."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.attacks.membership.members import NAMES, SITES, approved, forge
from tests.common.consortium.rosters import Person, after
from tests.support.commands import dura
from tests.support.consortium import LATER, NOW, Consortium, contents, gather, root_key
from tests.support.studies import study

from dura_client.commands import roster as roster_commands
from dura_client.consortium import people
from dura_client.consortium.card import next_card_path, rotate
from dura_client.consortium.countersign import own_countersignatures
from dura_client.consortium.membership import load_membership, pending, take
from dura_client.studies.approvals import NotAuthentic, approve, list_offers, receive_offer, require_approved
from dura_common.consortium.chain import Countersignature, Link, NoQuorum
from dura_common.consortium.envelope import canonical_json, digest, payload_of, sign
from dura_common.consortium.roster import (
    Roster,
    RosterResearcher,
    roster_digest,
    roster_fingerprint,
)
from dura_common.messages import Offer, RefusalReason
from dura_common.study import STUDY_TYPE, StudyDocument
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side


def _other_roster(refusal: NotAuthentic) -> bool:
    return refusal.reason == RefusalReason.OTHER_ROSTER


def test_countersignatures_of_an_older_roster_are_no_quorum(made: Consortium) -> None:
    """A quorum is for one digest: what sites signed under roster 2 vouches for no other roster 2 and no roster 3."""
    made.make_site("centre")
    made.admit(made.card("centre"), now=LATER)
    made.agree()
    links = gather(made.coordinator, made.joined())
    old, envelope = coordinator_side.newest(made.coordinator)
    when = LATER + timedelta(hours=1)
    evil = after(old, envelope, when, [*old.members, Person("evil").entry(when)])
    words = tuple(text for link in links for text in link.countersignatures)
    north = made.site("north")
    here = take(north, [Link(roster=forge(made, evil), countersignatures=words)])
    assert here.roster.serial == 2
    assert pending(north)[0].countersignatures == ()


def test_what_comes_while_an_officer_reads_is_not_countersigned(
    made: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The officer is asked about one roster; the next one, which arrives before the answer, gets no signature."""
    north = made.site("north")
    first, envelope = coordinator_side.newest(made.coordinator)
    links: list[Link] = []
    for number, name in enumerate(("centre", "evil"), start=1):
        when = NOW + timedelta(hours=number)
        first = after(first, envelope, when, [*first.members, Person(name).entry(when)])
        envelope = forge(made, first)
        links.append(Link(roster=envelope, countersignatures=()))
    take(north, links[:1])
    shown: list[str] = []

    def reads(*_: object, fingerprint: str, **__: object) -> None:
        shown.append(fingerprint)
        take(north, links)  # as the node does, whenever the coordinator likes

    monkeypatch.setattr(roster_commands, "confirm_fingerprint", reads)
    answer = dura("site", "roster", "confirm", "--home", north.path, here=True)
    assert shown == [roster_fingerprint(links[0].roster)]
    assert answer["countersigned"] == [2]
    assert [Countersignature.model_validate_json(payload_of(text)).roster for text in own_countersignatures(north)] == [
        roster_digest(made.roster()[1]),
        roster_digest(links[0].roster),
    ]


def test_an_expired_roster_approves_nothing_new_and_lets_the_old_run(made: Consortium) -> None:
    """A coordinator that freezes the roster is noticed after 90 days; approved studies go on to their own end."""
    far = {"expires": "2031-01-01"}
    running = approved(made, **far)
    offer, reference = made.offer(study(sites=SITES, name="feet", **far))
    north = made.site("north")
    receive_offer(north, offer, NOW)
    late = NOW + timedelta(days=91)
    with pytest.raises(NotAuthentic, match="expired") as caught:
        approve(north, reference, "ward-3", late)
    assert caught.value.reason == RefusalReason.EXPIRED
    assert require_approved(north, running, late).digest == running
    authority_side.issue(made.authority, None, late)
    made.agree()
    assert load_membership(north).roster.expires > late


def test_a_clock_that_was_set_back_follows_no_older_roster(made: Consortium) -> None:
    """Serials only grow, whatever the clock says; and a clock before the roster stops approvals."""
    offer, reference = made.offer(study(sites=SITES))
    north = made.site("north")
    receive_offer(north, offer, NOW)
    authority_side.issue(made.authority, None, LATER)
    first = gather(made.coordinator, ())[:1]
    made.agree()
    take(north, first)
    assert load_membership(north).roster.serial == 2
    with pytest.raises(NotAuthentic, match="names an older roster"):
        approve(north, reference, "ward-3", NOW - timedelta(days=1))


def test_the_root_key_signs_no_studies(made: Consortium) -> None:
    """It cannot stand on a roster as a member."""
    roster, _ = coordinator_side.newest(made.coordinator)
    root = RosterResearcher(name="mallory", identity=roster.root, since=NOW)
    with pytest.raises(ValidationError, match="root key must not be a member"):
        Roster.model_validate({**roster.model_dump(), "researchers": [root.model_dump()]})


def test_a_researcher_whom_nobody_has_countersigned_offers_nothing(made: Consortium) -> None:
    """The authority appoints its own researcher: the study is refused, and the roster waits for the officers."""
    old, envelope = coordinator_side.newest(made.coordinator)
    mallory = Person("mallory", site=False)
    text = forge(made, after(old, envelope, LATER, [*old.members, mallory.entry(LATER)]))
    document = StudyDocument(study=study(sites=SITES), roster=digest(payload_of(text)))
    forged = sign(canonical_json(document), STUDY_TYPE, mallory.identity)
    north = made.site("north")
    with pytest.raises(NotAuthentic, match="does not follow") as caught:
        receive_offer(north, Offer(study=forged, roster=text), NOW)
    assert caught.value.reason == RefusalReason.OTHER_ROSTER
    present = StudyDocument(study=study(sites=SITES), roster=digest(payload_of(envelope)))
    for key in (mallory.identity, root_key(made.coordinator)):
        with pytest.raises(NotAuthentic, match="no researcher on the roster"):
            receive_offer(north, Offer(study=sign(canonical_json(present), STUDY_TYPE, key), roster=envelope), NOW)
    assert list_offers(north, NOW) == []


def test_the_serving_host_holds_nothing_that_a_site_would_follow(made: Consortium) -> None:
    """A thief of the whole coordinator's home finds no key whose signature a site takes under a roster."""
    keys = {path.name for path in made.coordinator.keys.iterdir()}
    assert keys == {"authority.key", "authority.pem", "clients.pem", "server.key", "server.pem", "superexec.secret"}
    root = made.authority.root.read_bytes()
    assert all(root not in content for content in contents(made.coordinator.path).values())


@pytest.mark.parametrize("who", ["east", "ada"])
def test_a_distrusted_member_ends_a_running_study_here_at_once(made: Consortium, who: str) -> None:
    """One fixed word, for a site and for the researcher, with no roster changed; confirming again lets it go on."""
    reference = approved(made)
    north = made.site("north")
    assert require_approved(north, reference, LATER)
    people.distrust(north, load_membership(north).roster, who, "a call", LATER)
    with pytest.raises(NotAuthentic, match=f"distrusts {who}", check=_other_roster):
        require_approved(north, reference, LATER)
    with pytest.raises(NotAuthentic, match="distrusts"):
        receive_offer(north, made.offer(study(sites=SITES, name="feet"))[0], LATER)
    member = load_membership(north).roster.member(who)
    assert member is not None
    people.confirm(north, [member], LATER)
    assert require_approved(north, reference, LATER).digest == reference


@pytest.mark.parametrize("who", ["east", "north"])
def test_a_rotated_key_ends_a_running_study(made: Consortium, who: str) -> None:
    """A study runs under its roster's keys: once one of them is replaced, by a member or by this site, it is over."""
    reference = approved(made)
    north = made.site("north")
    rotate(made.site(who), LATER)
    made.admit(next_card_path(made.site(who), who).read_bytes(), now=LATER)
    assert require_approved(north, reference, LATER)
    made.agree()
    with pytest.raises(NotAuthentic, match=r"changed keys|its current keys", check=_other_roster):
        require_approved(north, reference, LATER)


def test_nothing_is_approved_before_a_quorum_of_founders_has_joined(tmp_path: Path) -> None:
    """A first roster that one hospital alone has countersigned runs no study."""
    made = Consortium(tmp_path, NAMES)
    made.make_all()
    for name in ("east", "south", "west"):
        shutil.rmtree(made.site(name).consortium)
    path = made.coordinator.rosters / "000001.json"
    link = Link.model_validate_json(path.read_bytes())
    path.write_text(link.model_copy(update={"countersignatures": ()}).model_dump_json())
    north = made.site("north")
    offer, reference = made.offer(study(sites=SITES))
    receive_offer(north, offer, NOW)
    with pytest.raises(NotAuthentic, match="1 of 3 sites") as caught:
        approve(north, reference, "ward-3", NOW)
    assert isinstance(caught.value.__cause__, NoQuorum)

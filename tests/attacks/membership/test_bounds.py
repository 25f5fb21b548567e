"""What a stranger, the coordinator or the authority can make a site keep: it is bounded, in count and in size."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.attacks.membership.members import SITES, approved, forge
from tests.common.consortium.rosters import Person, after
from tests.support.consortium import LATER, NOW, Consortium
from tests.support.studies import study

from dura_client.consortium.membership import take
from dura_client.studies.approvals import list_offers, receive_offer
from dura_client.studies.offers import MAX_OFFERS, OFFER_DAYS
from dura_common.consortium.chain import Link
from dura_common.consortium.envelope import digest, payload_of
from dura_common.errors import StateError
from dura_common.messages import Offer
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side

# what a stranger or the coordinator can make a site keep


def test_offers_hold_nothing_that_nobody_signed(made: Consortium) -> None:
    """Padding in envelopes, junk signatures and copies of the roster are not stored."""
    offer, _ = made.offer(study(sites=SITES))
    north = made.site("north")
    pad = " " * 1_000_000
    receive_offer(north, Offer(study=offer.study + pad, roster=offer.roster + pad, links=offer.links), NOW)
    assert sum(path.stat().st_size for path in north.path.rglob("*") if path.is_file()) < 100_000


def test_offers_are_bounded_and_expired_ones_make_room(made: Consortium) -> None:
    """No more than a fixed number waits; when studies expire undecided, honest offers are taken again by themselves."""
    north = made.site("north")
    reference = approved(made, "north", question="Mine?", expires="2030-05-02")
    for number in range(MAX_OFFERS):
        receive_offer(north, made.offer(study(sites=SITES, name=f"s{number}", expires="2030-05-02"))[0], NOW)
    honest = made.offer(study(sites=SITES, name="honest"))[0]
    with pytest.raises(StateError, match="waiting for a decision"):
        receive_offer(north, honest, NOW)
    assert receive_offer(north, honest, NOW + timedelta(days=2)).state == "offered"
    assert sorted(path.stem for path in north.offers.glob("*.json")) == sorted(
        [reference, digest(payload_of(honest.study))]
    )


def test_an_offer_that_nobody_decides_on_goes(made: Consortium) -> None:
    """A study that never expires does not lie at a site for ever."""
    north = made.site("north")
    receive_offer(north, made.offer(study(sites=SITES, name="eternal", expires="9999-12-31"))[0], NOW)
    late = NOW + timedelta(days=OFFER_DAYS + 1)
    authority_side.issue(made.authority, None, late)
    made.agree()
    receive_offer(north, made.offer(study(sites=SITES, name="new", expires="2031-01-01"))[0], late)
    assert [item.study.name for item in list_offers(north, late)] == ["new"]


def test_rosters_and_evidence_are_bounded(made: Consortium) -> None:
    """However many rosters an authority signs, a site keeps a few of them."""
    old, envelope = coordinator_side.newest(made.coordinator)
    north = made.site("north")
    for number in range(40):
        text = forge(made, after(old, envelope, LATER, [*old.members, Person(f"evil-{number}").entry(LATER)]))
        take(north, [Link(roster=text + " " * 100_000, countersignatures=("x" * 60_000,) * 10)])
    assert len(list((north.consortium / "evidence").glob("*.json"))) <= 9
    assert sum(path.stat().st_size for path in north.consortium.rglob("*") if path.is_file()) < 300_000

"""A site's yes: given by a person to one study, verified at every use, and refused for one reason word each."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.consortium import LATER, NOW, Consortium, contents, root_key
from tests.support.studies import study

from dura_client.consortium.enrolment import load_pinned
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.studies.approvals import (
    NotApproved,
    NotAuthentic,
    approve,
    decline,
    find_offer,
    list_offers,
    receive_offer,
    require_approved,
    standing,
)
from dura_common.consortium.cards import encode_identity
from dura_common.consortium.envelope import canonical_json, digest, payload_of, sign, verify
from dura_common.consortium.keyfile import load_private
from dura_common.consortium.roster import ROSTER_TYPE, Roster, roster_digest
from dura_common.errors import DuraError, StateError
from dura_common.messages import Offer, RefusalReason
from dura_common.study import STUDY_TYPE, StudyDocument
from dura_common.study.approval import APPROVAL_TYPE, parse_approval
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """A consortium in which everybody has joined."""
    made = Consortium(tmp_path)
    made.make_all()
    return made


@pytest.fixture
def north(consortium: Consortium) -> SiteHome:
    """The hospital under test."""
    return consortium.site("north")


def _approved(consortium: Consortium, north: SiteHome) -> str:
    offer, reference = consortium.offer()
    receive_offer(north, offer, NOW)
    approve(north, reference, "ward-3", NOW)
    return reference


def _refused(
    north: SiteHome, action: Callable[[], object], reason: RefusalReason, error: type[DuraError] = NotAuthentic
) -> None:
    before = contents(north.path)
    with pytest.raises(error, check=lambda refusal: getattr(refusal, "reason", None) == reason):
        action()
    assert contents(north.path) == before


def _signed_by_authority(consortium: Consortium, /, **changed: Any) -> str:
    """Return a roster after the present one with altered parts, signed by the root key: a lying authority's."""
    roster, envelope = coordinator_side.newest(consortium.coordinator)
    values = {"issued": NOW, "expires": NOW + timedelta(days=90), "previous": roster_digest(envelope), "serial": 2}
    altered = Roster.model_validate({**roster.model_dump(), **values, **changed})
    return sign(canonical_json(altered), ROSTER_TYPE, root_key(consortium.coordinator))


def _next(consortium: Consortium) -> None:
    """Admit one more hospital and let all follow the roster that lists it."""
    consortium.make_site("south")
    consortium.admit(consortium.card("south"), now=NOW + timedelta(minutes=1))
    consortium.agree()


def _signed_by_ada(consortium: Consortium, roster: str, /, **changed: Any) -> str:
    key = load_private(consortium.researcher.key.read_bytes())
    assert isinstance(key, Ed25519PrivateKey)
    document = StudyDocument(study=study(**changed), roster=digest(payload_of(roster)))
    return sign(canonical_json(document), STUDY_TYPE, key)


def test_from_offer_to_approval(consortium: Consortium, north: SiteHome) -> None:
    """An offer waits for a person; the approval is signed by the site and says nothing about its data."""
    offer, reference = consortium.offer()
    assert receive_offer(north, offer, NOW).state == "offered"
    _refused(north, lambda: require_approved(north, reference, NOW), RefusalReason.NOT_APPROVED, error=NotApproved)
    assert [item.digest for item in list_offers(north, NOW)] == [reference]
    assert find_offer(north, reference[:8], NOW).study == study()
    approve(north, reference[:8], "ward-3", NOW)
    found = require_approved(north, reference, LATER)
    assert (found.study, found.dataset, found.digest) == (study(), "ward-3", reference)
    answer = standing(north, reference, LATER)
    assert answer.state == "approved"
    assert answer.approval is not None
    payload = verify(answer.approval, APPROVAL_TYPE, [SiteKeys(north).identity().public_key()])
    assert parse_approval(payload).study == reference
    assert b"ward-3" not in payload
    assert "ward-3" not in answer.approval


def test_same_offer_again_changes_nothing(consortium: Consortium, north: SiteHome) -> None:
    """A coordinator may repeat an offer; it does not undo a decision."""
    reference = _approved(consortium, north)
    before = contents(north.path)
    assert receive_offer(north, consortium.offer()[0], NOW).state == "approved"
    assert contents(north.path) == before
    assert find_offer(north, reference, NOW).state == "approved"


def test_declining_withdraws_an_approval(consortium: Consortium, north: SiteHome) -> None:
    """No is no, also after yes."""
    reference = _approved(consortium, north)
    decline(north, reference)
    assert standing(north, reference, NOW).state == "declined"
    _refused(north, lambda: require_approved(north, reference, NOW), RefusalReason.NOT_APPROVED, error=NotApproved)


def test_unknown_study(consortium: Consortium, north: SiteHome) -> None:
    """A study that was never offered has its own word."""
    for action in (require_approved, standing):
        _refused(
            north,
            lambda action=action: action(north, "0" * 64, NOW),
            RefusalReason.UNKNOWN_STUDY,
            error=NotApproved,
        )
    with pytest.raises(StateError, match="none of the offered studies"):
        find_offer(north, "0" * 64, NOW)
    with pytest.raises(NotApproved, match="never offered"):
        decline(north, "0" * 64)
    assert consortium.offer()[1] not in contents(north.path)


def test_study_signed_by_nobody_on_the_roster(consortium: Consortium, north: SiteHome) -> None:
    """The coordinator cannot sign studies, nor can anybody else."""
    offer, _ = consortium.offer()
    forged = sign(payload_of(offer.study), STUDY_TYPE, Ed25519PrivateKey.generate())
    _refused(
        north,
        lambda: receive_offer(north, Offer(study=forged, roster=offer.roster), NOW),
        RefusalReason.NOT_AUTHENTIC,
    )


def test_altered_study(consortium: Consortium, north: SiteHome) -> None:
    """A study with a larger epsilon than was signed is refused."""
    offer, _ = consortium.offer()
    envelope = json.loads(offer.study)
    other = json.loads(_signed_by_ada(consortium, offer.roster, question="Something else?"))
    envelope["payload"] = other["payload"]
    altered = Offer(study=json.dumps(envelope), roster=offer.roster)
    _refused(north, lambda: receive_offer(north, altered, NOW), RefusalReason.NOT_AUTHENTIC)


def test_study_for_another_roster(consortium: Consortium, north: SiteHome) -> None:
    """A study is bound to the roster that its researcher saw."""
    offer, _ = consortium.offer()
    newer = _signed_by_authority(consortium)
    _refused(
        north,
        lambda: receive_offer(north, Offer(study=offer.study, roster=newer), NOW),
        RefusalReason.OTHER_ROSTER,
    )


@pytest.mark.parametrize("attack", ["keys", "rollback", "fork", "consortium", "without-me", "no-quorum"])
def test_rosters_that_a_malicious_authority_could_sign(consortium: Consortium, north: SiteHome, attack: str) -> None:
    """New keys, older, forked, foreign and uncountersigned rosters are refused, however well signed."""
    roster = load_pinned(north).roster
    sites = [site.model_dump() for site in roster.sites]
    stranger = encode_identity(Ed25519PrivateKey.generate().public_key())
    first = {"serial": 1, "previous": None}
    changed: dict[str, Any] = {
        "keys": {"sites": [{**s, "identity": stranger, "since": NOW} if s["name"] == "east" else s for s in sites]},
        "rollback": {**first, "issued": NOW - timedelta(days=1), "expires": NOW},
        "fork": {**first, "fleet": "evil.example.org:8443"},
        "consortium": {"consortium": "others"},
        "without-me": {"sites": [s for s in sites if s["name"] != "north"]},
        "no-quorum": {"fleet": "evil.example.org:8443"},
    }[attack]
    envelope = _signed_by_authority(consortium, **changed)
    offer = Offer(study=_signed_by_ada(consortium, envelope), roster=envelope)
    with pytest.raises(NotAuthentic, match="roster"):
        receive_offer(north, offer, NOW)
    assert load_pinned(north).roster == roster
    assert list_offers(north, NOW) == []


def test_roster_of_a_foreign_key(consortium: Consortium, north: SiteHome) -> None:
    """A roster that another key signed is refused."""
    envelope = _signed_by_authority(consortium)
    forged = sign(payload_of(envelope), ROSTER_TYPE, Ed25519PrivateKey.generate())
    offer = Offer(study=_signed_by_ada(consortium, envelope), roster=forged)
    _refused(north, lambda: receive_offer(north, offer, NOW), RefusalReason.NOT_AUTHENTIC)


def test_expired_study_and_roster(consortium: Consortium, north: SiteHome) -> None:
    """Nothing runs after its last day, approved or not; the last day itself counts."""
    reference = _approved(consortium, north)
    last = NOW.replace(month=6, day=1, hour=23)
    assert require_approved(north, reference, last).digest == reference
    for when in (last + timedelta(hours=1), NOW + timedelta(days=400)):
        _refused(north, lambda when=when: require_approved(north, reference, when), RefusalReason.EXPIRED)
    offer, _ = consortium.offer(study(name="old", expires=date(2030, 4, 30)))
    _refused(north, lambda: receive_offer(north, offer, NOW), RefusalReason.EXPIRED)


def test_clock_that_went_back(consortium: Consortium, north: SiteHome) -> None:
    """An approval from the future means that a clock is wrong: nothing runs."""
    reference = _approved(consortium, north)
    assert require_approved(north, reference, NOW - timedelta(minutes=9))
    _refused(
        north, lambda: require_approved(north, reference, NOW - timedelta(minutes=11)), RefusalReason.NOT_AUTHENTIC
    )


def test_study_without_this_site(consortium: Consortium, north: SiteHome) -> None:
    """A study that does not list this site is none of its business."""
    _next(consortium)
    offer, _ = consortium.offer(study(sites={"east": 40, "south": 40}))
    _refused(north, lambda: receive_offer(north, offer, NOW), RefusalReason.NOT_AUTHENTIC)


def test_a_roster_is_followed_with_the_sites_not_with_a_study(consortium: Consortium, north: SiteHome) -> None:
    """An offer under a roster that nobody has countersigned is refused, and the roster waits for the officer."""
    before = load_pinned(north).roster.serial
    consortium.make_site("south")
    consortium.admit(consortium.card("south"), now=NOW + timedelta(minutes=1))
    offer, reference = consortium.offer()
    with pytest.raises(NotAuthentic, match="does not follow") as caught:
        receive_offer(north, offer, NOW)
    assert caught.value.reason == RefusalReason.OTHER_ROSTER
    assert load_pinned(north).roster.serial == before
    consortium.agree()
    assert load_pinned(north).roster.serial == before + 1
    receive_offer(north, consortium.offer()[0], NOW)
    approve(north, reference, "ward-3", NOW)


def test_a_running_study_outlives_a_newer_roster(consortium: Consortium, north: SiteHome) -> None:
    """Following a newer roster does not stop a study whose members stay; nothing new is approved under the old one."""
    first = _approved(consortium, north)
    repeated = consortium.offer()[0]
    _next(consortium)
    offer, second = consortium.offer(study(name="feet"))
    receive_offer(north, offer, NOW)
    approve(north, second, "ward-3", NOW)
    followed = load_pinned(north).roster.serial
    assert require_approved(north, first, LATER).digest == first
    assert receive_offer(north, repeated, LATER).state == "approved"
    with pytest.raises(NotAuthentic, match="older"):
        approve(north, first, "ward-4", LATER)
    assert load_pinned(north).roster.serial == followed
    assert require_approved(north, first, LATER).dataset == "ward-3"


@pytest.mark.parametrize("gone", ["east", "ada"])
def test_a_running_study_stops_when_a_participant_left(consortium: Consortium, north: SiteHome, gone: str) -> None:
    """Once the site follows a roster without a participant or the researcher, the old study runs no more."""
    first = _approved(consortium, north)
    authority_side.remove(consortium.authority, gone, NOW)
    consortium.agree()
    _refused(north, lambda: require_approved(north, first, LATER), RefusalReason.OTHER_ROSTER)


def test_offer_altered_on_disk(consortium: Consortium, north: SiteHome) -> None:
    """Swapping one stored study for another under its name is noticed."""
    reference = _approved(consortium, north)
    other, _ = consortium.offer(study(question="Something else?"))
    (north.offers / f"{reference}.json").write_text(other.model_dump_json())
    _refused(north, lambda: require_approved(north, reference, NOW), RefusalReason.NOT_AUTHENTIC)
    _refused(north, lambda: find_offer(north, reference, NOW), RefusalReason.NOT_AUTHENTIC)
    assert list_offers(north, NOW) == []


@pytest.mark.parametrize("what", ["truncated", "approval", "choice", "other-study", "other-site", "garbage"])
def test_decision_altered_on_disk(consortium: Consortium, north: SiteHome, what: str) -> None:
    """A decision is good only as the site's own key signed it, for this study and this data set."""
    reference = _approved(consortium, north)
    path = north.approvals / f"{reference}.json"
    stored = json.loads(path.read_text())
    offer, other = consortium.offer(study(name="feet"))
    receive_offer(north, offer, NOW)
    approve(north, other, "ward-4", NOW)
    foreign = json.loads((north.approvals / f"{other}.json").read_text())
    if what == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif what == "garbage":
        path.write_bytes(b"\x00\xff")
    elif what == "other-study":
        path.write_text(json.dumps(foreign))
    elif what == "other-site":
        key = SiteKeys(consortium.site("east")).identity()
        path.write_text(json.dumps({**stored, "approval": sign(payload_of(stored["approval"]), APPROVAL_TYPE, key)}))
    else:
        path.write_text(json.dumps({**stored, what: foreign[what]}))
    _refused(north, lambda: require_approved(north, reference, NOW), RefusalReason.NOT_AUTHENTIC)

"""A researcher joins with one file, follows what the sites countersign, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.consortium import LATER, NOW, Consortium, contents, gather, root_key
from tests.support.studies import study

from dura_common.consortium.chain import Link
from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.roster import ADMISSION_TYPE, ROSTER_TYPE, read_admission, roster_digest
from dura_common.errors import StateError, TrustError
from dura_server.consortium.authority import remove
from dura_server.consortium.members import successor, with_members
from dura_server.desk.membership import check_admission, follow, has_joined, join, load_membership
from dura_server.studies.researcher import ResearcherHome, create_identity, sign_study


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a consortium whose researcher was admitted and has not joined."""
    made = Consortium(tmp_path)
    made.make_all()
    return made


def _join(consortium: Consortium, name: str = "ada") -> None:
    home = consortium.researcher
    join(home, *check_admission(home, consortium.admission(name), NOW))


def test_one_file_there_and_one_back(consortium: Consortium) -> None:
    """The answer holds roster, addresses and certificate; the roster in it is good for signing."""
    assert not has_joined(consortium.researcher)
    _join(consortium)
    here = load_membership(consortium.researcher)
    roster, envelope = consortium.roster()
    assert (here.roster, here.mine) == (roster, roster.researchers[0])
    assert here.roster.aggregation == consortium.settings.aggregation
    assert here.mine.tls_key
    sign_study(consortium.researcher, study(), here.link.roster)
    assert roster_digest(envelope) == roster_digest(here.link.roster)


def test_the_fingerprint_covers_the_key_of_the_desk(consortium: Consortium) -> None:
    """Who exchanges the TLS key on the way changes what is read out by telephone."""
    mine = consortium.roster()[0].researchers[0]
    other = consortium.roster()[0].sites[0].tls_key
    assert mine.model_copy(update={"tls_key": other}).fingerprint() != mine.fingerprint()


def test_answers_for_somebody_else(consortium: Consortium, tmp_path: Path) -> None:
    """Another researcher's file, a site's, one with a site's certificate, one that the root key did not sign."""
    admission, _ = read_admission(consortium.admission("ada"))
    other = ResearcherHome(tmp_path / "eve")
    create_identity(other, "eve", NOW)
    before = contents(tmp_path)
    with pytest.raises(TrustError, match="not for this researcher's keys"):
        check_admission(other, consortium.admission("ada"), NOW)
    with pytest.raises(TrustError, match="not for this researcher's keys"):
        check_admission(consortium.researcher, consortium.admission("north"), NOW)
    of_north = read_admission(consortium.admission("north"))[0].certificate
    stolen = admission.model_copy(update={"certificate": of_north})
    wrong = sign(canonical_json(stolen), ADMISSION_TYPE, root_key(consortium.coordinator))
    with pytest.raises(TrustError, match="does not name this researcher"):
        check_admission(consortium.researcher, wrong.encode(), NOW)
    forged = sign(canonical_json(admission), ADMISSION_TYPE, other.identity())
    with pytest.raises(TrustError, match="signature"):
        check_admission(consortium.researcher, forged.encode(), NOW)
    with pytest.raises(StateError, match="has no key"):
        check_admission(ResearcherHome(tmp_path / "nobody"), consortium.admission("ada"), NOW)
    assert contents(tmp_path) == before


def test_changes_are_followed_once_countersigned(consortium: Consortium) -> None:
    """A new hospital counts for the researcher when a quorum of the old ones has said so, not before."""
    _join(consortium)
    consortium.make_site("south")
    consortium.admit(consortium.card("south"), now=LATER)
    links = gather(consortium.coordinator, consortium.joined())
    assert follow(consortium.researcher, links).roster.serial == 1
    consortium.agree()
    links = gather(consortium.coordinator, consortium.joined())
    here = follow(consortium.researcher, links)
    assert (here.roster.serial, here.roster.site("south") is not None) == (2, True)
    assert follow(consortium.researcher, links).roster.serial == 2


def test_a_coordinator_that_shows_another_roster(consortium: Consortium) -> None:
    """Of the same serial: said at once, and nothing changes."""
    _join(consortium)
    roster, _ = consortium.roster()
    root = root_key(consortium.coordinator)
    split = sign(canonical_json(roster.model_copy(update={"fleet": "evil.example.org:8443"})), ROSTER_TYPE, root)
    before = contents(consortium.researcher.path)
    with pytest.raises(TrustError, match="another roster of serial 1"):
        follow(consortium.researcher, [Link(roster=split, countersignatures=())])
    assert contents(consortium.researcher.path) == before


def test_a_removed_researcher_is_told(consortium: Consortium) -> None:
    """After the sites have countersigned the removal; until then, the authority alone changes nothing."""
    _join(consortium)
    remove(consortium.authority, "ada", LATER)
    assert follow(consortium.researcher, gather(consortium.coordinator, consortium.joined())).roster.serial == 1
    consortium.agree()
    with pytest.raises(TrustError, match="does not list this researcher"):
        follow(consortium.researcher, gather(consortium.coordinator, consortium.joined()))
    with pytest.raises(TrustError, match="does not list this researcher"):
        load_membership(consortium.researcher)


def test_a_folder_of_an_earlier_dura_gets_its_second_key(consortium: Consortium) -> None:
    """Its signing key stays and vouches for the new card, so the sites see a change of keys and no new person."""
    old = ResearcherHome(consortium.root / "old")
    _, path = create_identity(old, "bob", NOW)
    first = old.key.read_bytes()
    old.tls.unlink()
    plain, _ = create_identity(old, "bob", NOW)
    assert old.key.read_bytes() == first
    assert plain.handover
    with pytest.raises(StateError, match="already a key"):
        create_identity(old, "bob", NOW)
    without_tls = plain.model_copy(update={"request": "", "handover": ""})
    roster, envelope = consortium.roster()
    listed = with_members(roster, [without_tls], NOW)
    changed = with_members(listed, [plain], LATER)
    assert changed.researchers[-1].tls_key == plain.tls_key
    bad = plain.model_copy(update={"handover": ""})
    with pytest.raises(TrustError, match="is known with other keys"):
        with_members(listed, [bad], LATER)
    new = successor(listed, roster_digest(envelope), changed, LATER)
    assert [stone.name for stone in new.gone] == ["bob"]
    assert path.exists()


def test_a_second_consortium_and_an_older_roster(consortium: Consortium, tmp_path: Path) -> None:
    """Neither takes the place of what is followed."""
    _join(consortium)
    other = Consortium(tmp_path / "other")
    other.make_coordinator()
    for name in ("north", "east"):
        other.make_site(name)
    card = (consortium.researcher.path / "ada.card.json").read_bytes()
    other.admit(other.card("north"), other.card("east"), card)
    admission, roster = read_admission(other.admission("ada"))
    renamed = roster.model_copy(update={"consortium": "nerves"})
    envelope = sign(canonical_json(renamed), ROSTER_TYPE, root_key(other.coordinator))
    moved = sign(
        canonical_json(admission.model_copy(update={"roster": envelope})), ADMISSION_TYPE, root_key(other.coordinator)
    )
    before = contents(consortium.researcher.path)
    with pytest.raises(TrustError, match="already joined another consortium"):
        check_admission(consortium.researcher, moved.encode(), NOW)
    with pytest.raises(TrustError, match="two different rosters have the same serial"):
        check_admission(consortium.researcher, other.admission("ada"), NOW)
    assert contents(consortium.researcher.path) == before

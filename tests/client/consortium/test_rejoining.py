"""A site goes on through newer rosters, new keys and a new root, and keeps all that it has."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.consortium import LATER, NOW, Consortium, contents, gather

from dura_client.consortium.card import next_card_path, rotate
from dura_client.consortium.enrolment import (
    check_admission,
    join,
    load_card,
    load_consortium,
    load_pinned,
    renew_card,
    roster_changes,
)
from dura_client.consortium.membership import take
from dura_client.site.keys import SiteKeys
from dura_common.consortium.cards import encode_identity
from dura_common.consortium.chain import Chain
from dura_common.consortium.envelope import sign
from dura_common.consortium.identity import (
    load_certificate,
)
from dura_common.errors import DuraError, InputError
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side
from dura_server.consortium.enrolment import Service
from dura_server.home import AuthorityHome

PRIVATE_MARK = b"PRIVATE KEY"


@pytest.fixture
def admitted(tmp_path: Path) -> Consortium:
    """Two hospitals that were admitted and have not joined yet."""
    consortium = Consortium(tmp_path)
    consortium.make_coordinator()
    for name in ("north", "east"):
        consortium.make_site(name)
    consortium.admit(consortium.card("north"), consortium.card("east"))
    return consortium


def _refused(consortium: Consortium, admission: bytes, reason: str, now: datetime = NOW) -> None:
    before = contents(consortium.site("north").path)
    with pytest.raises(DuraError, match=reason):
        check_admission(consortium.site("north"), admission, now)
    assert contents(consortium.site("north").path) == before


def test_old_admission_cannot_roll_back_the_roster(admitted: Consortium) -> None:
    """An admission from before a removal is refused by a site that knows better."""
    old = admitted.admission("north")
    admitted.join("north")
    admitted.join("east")
    admitted.make_site("south")
    admitted.admit(admitted.card("south"))
    admitted.agree()
    _refused(admitted, old, "older")


def test_a_changed_roster_waits_for_the_sites(admitted: Consortium) -> None:
    """Joining again with a newer roster follows nothing that the sites have not countersigned."""
    admitted.join("north")
    admitted.join("east")
    home = admitted.site("north")
    admitted.make_site("south")
    admitted.admit(admitted.card("north"), admitted.card("south"))
    admission = check_admission(home, admitted.admission("north"), NOW)
    assert roster_changes(home, admission).added == ("south",)
    join(home, admission)
    assert load_pinned(home).roster.serial == 1
    admitted.agree()
    assert load_pinned(home).roster == coordinator_side.newest(admitted.coordinator)[0]


def test_founding_goes_on_until_two_sites_are_listed(tmp_path: Path) -> None:
    """A roster of one site binds nobody: the founding is made again, and a site that has joined joins again."""
    consortium = Consortium(tmp_path)
    consortium.make_coordinator()
    for name in ("north", "east"):
        consortium.make_site(name)
    consortium.admit(consortium.card("north"))
    consortium.join("north")
    consortium.admit(consortium.card("east"), consortium.card("north"))
    for name in ("north", "east"):
        consortium.join(name)
    assert {load_pinned(consortium.site(name)).digest for name in ("north", "east")} == {
        load_pinned(consortium.site("north")).digest
    }
    assert load_pinned(consortium.site("north")).roster.serial == 1


def test_an_expired_roster_is_renewed_by_the_next_one(admitted: Consortium) -> None:
    """The next roster is followed after the old one has expired; keys and fingerprint stay."""
    admitted.join("north")
    admitted.join("east")
    home, later = admitted.site("north"), NOW + timedelta(days=100)
    old_mark = load_card(home).fingerprint()
    card = renew_card(home, later)
    assert card.fingerprint() == old_mark
    authority_side.issue(admitted.authority, None, later)
    admitted.agree()
    admitted.admit(admitted.card("north"), now=later)
    admitted.join("north", now=later)
    assert load_consortium(home, later).roster.expires > later


def test_keys_rotate_and_everything_else_stays(admitted: Consortium) -> None:
    """New keys serve once the sites follow them; until then the old ones do, and no file of the ledger is touched."""
    admitted.join("north")
    admitted.join("east")
    home = admitted.site("north")
    home.ledger.write_bytes(b"all that was spent")
    before, old = SiteKeys(home).identity().private_bytes_raw(), load_card(home)
    secret = SiteKeys(home).pseudonym_key()
    fresh = rotate(home, LATER)
    assert SiteKeys(home).identity().private_bytes_raw() == before
    admitted.admit(next_card_path(home, "north").read_bytes(), now=LATER)
    admitted.join("north", now=LATER)
    assert load_card(home) == old
    admitted.agree()
    here = load_pinned(home)
    assert here.card.fingerprint() == fresh.fingerprint()
    assert here.mine is not None
    assert SiteKeys(home).identity().private_bytes_raw() != before
    assert load_certificate((home.consortium / "certificate.pem").read_bytes()).public_key() == (
        SiteKeys(home).tls().public_key()
    )
    assert SiteKeys(home).pseudonym_key() == secret
    assert home.ledger.read_bytes() == b"all that was spent"


def test_an_earlier_consortium_is_left_without_leaving_the_home(admitted: Consortium) -> None:
    """A home of an earlier dura says what to do, and joins a new founding with its ledger as it was."""
    home = admitted.site("north")
    home.consortium.mkdir()
    text = b'{"consortium":"brains","fleet":"localhost:8443","format":1,"serial":3}'
    key = Ed25519PrivateKey.generate()
    (home.consortium / "roster.json").write_text(sign(text, "application/vnd.dura.roster+json", key))
    (home.consortium / "consortium.pub").write_text(encode_identity(key.public_key()))
    home.ledger.write_bytes(b"all that was spent")
    with pytest.raises(InputError, match="earlier version of dura") as caught:
        load_pinned(home)
    assert "dura site join" in caught.value.hint
    admitted.join("north")
    assert load_pinned(home).roster.serial == 1
    assert home.ledger.read_bytes() == b"all that was spent"


def test_a_new_root_key_is_followed_with_everything_kept(admitted: Consortium) -> None:
    """A rotated root needs its old key and a quorum; a lost one needs all sites; no home is left."""
    admitted.join("north")
    admitted.join("east")
    home = admitted.site("north")
    home.ledger.write_bytes(b"all that was spent")
    old = load_pinned(home).roster.root
    authority_side.rotate(admitted.authority, LATER)
    admitted.agree()
    rotated = load_pinned(home).roster.root
    assert rotated != old
    chain = Chain(links=gather(admitted.coordinator, ())).model_dump_json().encode()
    fresh = AuthorityHome(admitted.root / "fresh")
    service = Service.model_validate_json(admitted.coordinator.service.read_bytes())
    authority_side.init(fresh, service, LATER, coordinator=admitted.coordinator)
    authority_side.recover(fresh, chain, LATER + timedelta(hours=1))
    take(home, gather(admitted.coordinator, ()))
    assert load_pinned(home).roster.root == rotated
    admitted.agree()
    assert load_pinned(home).roster.root not in {old, rotated}
    assert home.ledger.read_bytes() == b"all that was spent"

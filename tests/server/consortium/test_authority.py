"""The authority issues rosters apart from the serving host, which renews only its own certificate."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.consortium import NOW, Consortium, contents

from dura_common.consortium.chain import Chain
from dura_common.consortium.identity import load_certificate
from dura_common.errors import InputError, StateError, TrustError
from dura_server.consortium import authority
from dura_server.consortium.authority import admit, check_card, read_newest, remove
from dura_server.consortium.enrolment import collect, install, links, newest, read_roster, renew
from dura_server.home import AuthorityHome


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """A coordinator and two hospitals whose cards lie ready."""
    made = Consortium(tmp_path)
    made.make_coordinator()
    for name in ("north", "east"):
        made.make_site(name)
    return made


def test_removal(consortium: Consortium) -> None:
    """A member who leaves is off the next roster, which waits for the sites; an unknown name changes nothing."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    for name in ("north", "east"):
        consortium.join(name)
    remove(consortium.authority, "east", NOW, why="closed")
    roster, _ = newest(consortium.coordinator)
    assert ([site.name for site in roster.sites], roster.serial) == (["north"], 2)
    assert [(stone.name, stone.why) for stone in roster.gone] == [("east", "closed")]
    assert read_roster(consortium.coordinator)[0].serial == 1
    consortium.agree()
    assert read_roster(consortium.coordinator)[0].serial == 2
    before = contents(consortium.root)
    with pytest.raises(InputError, match="no member named east"):
        remove(consortium.authority, "east", NOW)
    assert contents(consortium.root) == before


def test_the_certificate_is_renewed_without_the_root_key(consortium: Consortium) -> None:
    """The serving host renews its own certificate, with the same key and the same authority."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    consortium.authority.root.unlink()
    before = newest(consortium.coordinator)
    certificate = load_certificate((consortium.coordinator.keys / "server.pem").read_bytes())
    renew(consortium.coordinator, NOW + timedelta(days=300))
    renewed = load_certificate((consortium.coordinator.keys / "server.pem").read_bytes())
    assert renewed.public_key() == certificate.public_key()
    assert renewed.not_valid_after_utc - certificate.not_valid_after_utc == timedelta(days=300)
    assert newest(consortium.coordinator) == before


def test_the_services_authority_is_limited_to_its_own_names(consortium: Consortium) -> None:
    """What the serving host's certificate authority vouches for are the names of the serving host."""
    authority_pem = (consortium.coordinator.keys / "authority.pem").read_bytes()
    limits = load_certificate(authority_pem).extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert [name.value for name in limits.value.permitted_subtrees or ()] == ["localhost"]


def test_a_roster_is_issued_anew(consortium: Consortium) -> None:
    """The next roster has the same members, later dates, and the addresses that the service has now."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    old, _ = newest(consortium.coordinator)
    settings = consortium.coordinator.settings
    settings.write_text(settings.read_text().replace("8443", "9443"))
    service = renew(consortium.coordinator, NOW)
    new = authority.issue(consortium.authority, service, NOW + timedelta(days=80))
    assert (new.sites, new.serial, new.expires) == (old.sites, 2, old.expires + timedelta(days=80))
    assert new.fleet == "localhost:9443"


def test_an_authority_on_another_machine(consortium: Consortium, tmp_path: Path) -> None:
    """Two files travel: the service's description one way, the rosters the other."""
    far = AuthorityHome(tmp_path / "stick")
    service = json.loads(consortium.coordinator.service.read_text())
    authority.init(far, authority.Service.model_validate(service), NOW, passphrase=b"correct horse")
    cards = [check_card(far, consortium.card(name), NOW) for name in ("north", "east")]
    with pytest.raises(TrustError, match="needs a passphrase"):
        admit(far, cards, consortium.post, NOW)
    admit(far, cards, consortium.post, NOW, passphrase=b"correct horse")
    install(consortium.coordinator, (consortium.post / "rosters.json").read_bytes())
    found = read_newest(far)
    assert found is not None
    assert newest(consortium.coordinator) == found


def test_another_roster_of_the_same_serial_is_not_taken(consortium: Consortium, tmp_path: Path) -> None:
    """The serving host keeps one history; countersignatures of another one are refused with the alarm."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    other = Consortium(tmp_path / "other")
    other.make_coordinator()
    for name in ("north", "east"):
        other.make_site(name)
    other.admit(other.card("north"), other.card("east"))
    chain = Chain(links=tuple(links(other.coordinator))).model_dump_json().encode()
    before = contents(consortium.coordinator.path)
    with pytest.raises(TrustError, match="another roster with serial 1"):
        install(consortium.coordinator, chain)
    other.join("north")
    text = (other.site("north").consortium / "own" / "000001.json").read_text()
    with pytest.raises(TrustError, match=r"signature is not valid|another roster"):
        collect(consortium.coordinator, [text])
    assert contents(consortium.coordinator.path) == before


def test_a_coordinator_of_an_earlier_dura_says_what_to_do(consortium: Consortium) -> None:
    """A root key on the serving host is refused with the way out."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    (consortium.coordinator.keys / "consortium.key").write_bytes(b"old")
    with pytest.raises(StateError, match="earlier version of dura") as caught:
        read_roster(consortium.coordinator)
    assert "dura authority" in caught.value.hint

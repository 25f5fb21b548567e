"""The coordinator admits cards: each wrong one is refused with a reason, and the roster stays as it was."""

from __future__ import annotations

import json
import stat
import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError
from tests.support.consortium import NOW, Consortium, contents
from tests.support.studies import study

from dura_client.site.keys import SiteKeys
from dura_common.consortium.cards import CARD_TYPE, ResearcherCard, SiteCard, encode_identity, read_card
from dura_common.consortium.envelope import canonical_json, digest, payload_of, sign, verify
from dura_common.consortium.identity import load_certificate, make_request, node_public_text
from dura_common.errors import DuraError, HostError, InputError, StateError, TrustError
from dura_common.study import STUDY_TYPE, StudyDocument
from dura_server.consortium.authority import admit, check_card
from dura_server.consortium.enrolment import init, newest, read_roster
from dura_server.home import CoordinatorHome
from dura_server.settings import CoordinatorSettings, load_settings
from dura_server.studies.researcher import ResearcherHome, create_identity, sign_study


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """A coordinator and two hospitals whose cards lie ready."""
    made = Consortium(tmp_path)
    made.make_coordinator()
    for name in ("north", "east"):
        made.make_site(name)
    return made


def _card(consortium: Consortium, owner: str = "north", /, **changed: object) -> bytes:
    """Return a card with altered parts, signed by that hospital."""
    card = read_card(consortium.card(owner)).model_copy(update=changed)
    return sign(canonical_json(card), CARD_TYPE, SiteKeys(consortium.site(owner)).identity()).encode()


def _refused(consortium: Consortium, content: bytes, reason: str) -> None:
    before = contents(consortium.root)
    with pytest.raises(DuraError, match=reason):
        consortium.admit(content)
    assert contents(consortium.root) == before


def test_init_makes_private_keys_and_no_root_key(consortium: Consortium) -> None:
    """Secrets are 0600, and the serving host holds none with which a roster could be signed."""
    home = consortium.coordinator
    assert stat.S_IMODE(home.path.stat().st_mode) == stat.S_IMODE(home.keys.stat().st_mode) == 0o700
    for path in home.keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex((home.keys / "superexec.secret").read_text())) >= 32
    assert {path.name for path in home.keys.iterdir()} == {
        *("authority.key", "authority.pem", "server.key", "server.pem", "superexec.secret")
    }
    with pytest.raises(StateError, match="no roster yet"):
        read_roster(home)
    assert stat.S_IMODE(consortium.authority.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(consortium.authority.root.stat().st_mode) == 0o600
    assert tomllib.loads(home.settings.read_text())["port"] == 8443


def test_second_init_is_refused_and_changes_nothing(consortium: Consortium) -> None:
    """A consortium is made once."""
    before = contents(consortium.root)
    with pytest.raises(StateError, match="already"):
        consortium.make_coordinator()
    assert contents(consortium.root) == before


@pytest.mark.parametrize(
    "host", ["", "my host", "a/b", "http://a", "[::1]", "a:8443", 'x"\nport = 1', "a..b", "é.org", "a" * 300]
)
def test_hosts_that_are_none(host: str) -> None:
    """A host that sites could not reach, or that would break the settings file, is refused at once."""
    with pytest.raises(ValidationError, match="host name or an IP address"):
        CoordinatorSettings(consortium="brains", host=host, port=8443)


@pytest.mark.parametrize(
    ("host", "fleet"),
    [("fl.example.org", "fl.example.org:8443"), ("10.0.0.7", "10.0.0.7:8443"), ("fd00::7", "[fd00::7]:8443")],
)
def test_hosts_reach_certificate_settings_and_roster(tmp_path: Path, host: str, fleet: str) -> None:
    """Names and addresses of both families stand in the server's certificate and on the roster."""
    home = CoordinatorHome(tmp_path / "coordinator")
    settings = CoordinatorSettings(consortium="brains", host=host, port=8443)
    init(home, settings, NOW)
    assert load_settings(home) == settings
    assert load_settings(home).fleet == fleet
    certificate = load_certificate((home.keys / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert host in {str(name.value) for name in names}


def test_one_port_for_both_is_refused() -> None:
    """Gateway and aggregator cannot share a port."""
    with pytest.raises(ValidationError, match="must differ"):
        CoordinatorSettings(consortium="brains", host="localhost", port=8444)


def test_the_settings_of_an_older_version_are_read(tmp_path: Path) -> None:
    """A file that still names the port of the SuperLink means the same as one without."""
    home = CoordinatorHome(tmp_path / "coordinator")
    init(home, CoordinatorSettings(consortium="brains", host="localhost", port=8443), NOW)
    expected = load_settings(home)
    home.settings.write_text(home.settings.read_text() + "internal_port = 8000\n")
    assert load_settings(home) == expected


def test_all_cards_together_make_one_new_roster(consortium: Consortium) -> None:
    """However many come, the serial grows by one; every admission carries the same roster."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    roster, envelope = read_roster(consortium.coordinator)
    assert roster.serial == 1
    assert [site.name for site in roster.sites] == ["north", "east"]
    for name in ("north", "east"):
        document = json.loads(payload_of(consortium.admission(name)))
        assert document["roster"] == envelope


def test_same_card_again_changes_no_member(consortium: Consortium) -> None:
    """Admitting a member again hands out a fresh admission and leaves the members as they are."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    before = newest(consortium.coordinator)
    consortium.admit(consortium.card("north"))
    assert newest(consortium.coordinator) == before


def test_cards_from_the_past_and_the_future(consortium: Consortium) -> None:
    """Old and future cards are refused; clocks may be ten minutes apart."""
    _refused(consortium, _card(consortium, created=NOW - timedelta(days=31)), "older than 30 days")
    _refused(consortium, _card(consortium, created=NOW + timedelta(minutes=11)), "made in the future")
    consortium.admit(_card(consortium, created=NOW + timedelta(minutes=9)))


def test_altered_card_is_refused(consortium: Consortium) -> None:
    """A card with another name, date, node key or signing request than was signed is refused."""
    good = read_card(consortium.card("north"))
    assert isinstance(good, SiteCard)
    east = read_card(consortium.card("east"))
    assert isinstance(east, SiteCard)
    for changed in (
        {"name": "south"},
        {"created": NOW + timedelta(seconds=1)},
        {"node_key": east.node_key},
        {"request": east.request},
    ):
        altered = canonical_json(good.model_copy(update=changed))
        envelope = json.loads(consortium.card("north"))
        forged = json.loads(sign(altered, CARD_TYPE, Ed25519PrivateKey.generate()))
        forged["signatures"] = envelope["signatures"]
        _refused(consortium, json.dumps(forged).encode(), "signature is not valid")


def test_keys_of_the_wrong_kind_are_refused(consortium: Consortium) -> None:
    """Requests and node keys on other curves, or none at all, are refused."""
    other = ec.generate_private_key(ec.SECP384R1())
    _refused(consortium, _card(consortium, request=make_request(other, "north").decode()), "P-256")
    _refused(consortium, _card(consortium, request="no request"), "no certificate signing request")
    small = ec.generate_private_key(ec.SECP256R1())
    _refused(consortium, _card(consortium, node_key=node_public_text(small)), "P-384")
    _refused(consortium, _card(consortium, node_key="ssh-rsa AAAA"), "OpenSSH")


def test_wrong_kinds_of_files_are_refused(consortium: Consortium) -> None:
    """Rosters, admissions and noise are no cards."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    _refused(consortium, consortium.coordinator.roster.read_bytes(), "the card")
    _refused(consortium, b"no json", "not a signed document")


def test_request_signed_by_another_key_is_refused(consortium: Consortium) -> None:
    """Whoever asks for a certificate must hold its key."""
    card = read_card(consortium.card("north"))
    assert isinstance(card, SiteCard)
    request = x509.load_pem_x509_csr(card.request.encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM)
    _refused(consortium, _card(consortium, request=broken.decode()), "not signed by its own key")


def test_name_and_keys_belong_together(consortium: Consortium, tmp_path: Path) -> None:
    """No second hospital of a name, no second name for a hospital, no new node key on the quiet."""
    consortium.admit(consortium.card("north"))
    double = Consortium(tmp_path / "double")
    double.make_site("north")
    _refused(consortium, double.card("north"), "is known with other keys")
    _refused(consortium, _card(consortium, "north", name="west"), "belongs to another member")
    node = node_public_text(ec.generate_private_key(ec.SECP384R1()))
    _refused(consortium, _card(consortium, node_key=node), "is known with other keys")
    north = read_card(consortium.card("north"))
    assert isinstance(north, SiteCard)
    _refused(consortium, _card(consortium, "east", node_key=north.node_key), "belongs to another member")
    _refused(consortium, _card(consortium, "east", node_key=north.node_key + " note"), "belongs to another member")


def test_names_are_unique_over_sites_and_researchers(consortium: Consortium) -> None:
    """A researcher cannot take the name of a hospital."""
    consortium.admit(consortium.card("north"))
    key = Ed25519PrivateKey.generate()
    card = ResearcherCard(name="north", identity=encode_identity(key.public_key()), created=NOW)
    _refused(consortium, sign(canonical_json(card), CARD_TYPE, key).encode(), "is known with other keys")


def test_two_cards_of_one_name_in_one_call(consortium: Consortium, tmp_path: Path) -> None:
    """The second of two equal names does not silently win."""
    double = Consortium(tmp_path / "double")
    double.make_site("north")
    before = contents(consortium.root)
    with pytest.raises(InputError, match="same name"):
        consortium.admit(consortium.card("north"), double.card("north"))
    assert contents(consortium.root) == before


def test_output_that_cannot_be_written_changes_nothing(consortium: Consortium) -> None:
    """A file where the folder should be: the roster stays as it was."""
    consortium.post.write_bytes(b"")
    before = contents(consortium.root)
    card = check_card(consortium.authority, consortium.card("north"), NOW)
    with pytest.raises(HostError, match="cannot create"):
        admit(consortium.authority, [card], consortium.post, NOW)
    assert contents(consortium.root) == before


def test_admission_does_not_follow_a_symbolic_link(consortium: Consortium) -> None:
    """A link planted in the output folder is replaced; its target stays as it is."""
    victim = consortium.root / "victim"
    victim.write_bytes(b"precious")
    consortium.post.mkdir()
    (consortium.post / "north.admission.json").symlink_to(victim)
    consortium.admit(consortium.card("north"))
    assert victim.read_bytes() == b"precious"
    consortium.join("north")


def test_roster_altered_on_disk_is_noticed(consortium: Consortium) -> None:
    """The authority does not build on a roster that somebody changed."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    path = consortium.authority.rosters / "000001.json"
    envelope = json.loads(path.read_text())
    envelope["payload"] = envelope["payload"][:40] + "AAAA" + envelope["payload"][44:]
    path.write_text(json.dumps(envelope))
    consortium.make_site("south")
    with pytest.raises(DuraError, match=r"roster|signature"):
        consortium.admit(consortium.card("south"))


def test_researcher_signs_for_one_roster(consortium: Consortium) -> None:
    """A signed study names the digest of its roster and verifies under the researcher's key alone."""
    _, path = create_identity(consortium.researcher, "ada", NOW)
    assert stat.S_IMODE(consortium.researcher.key.stat().st_mode) == 0o600
    consortium.admit(consortium.card("north"), consortium.card("east"), path.read_bytes())
    roster, envelope = read_roster(consortium.coordinator)
    signed, reference = sign_study(consortium.researcher, study(), envelope)
    payload = verify(signed, STUDY_TYPE, [roster.researchers[0].public_key()])
    assert digest(payload) == reference
    document = StudyDocument.model_validate_json(payload)
    assert (document.study, document.roster) == (study(), digest(payload_of(envelope)))
    with pytest.raises(StateError, match="already a key"):
        create_identity(consortium.researcher, "ada", NOW)


def test_researcher_who_cannot_sign(consortium: Consortium) -> None:
    """Without key, off the roster, or for unknown sites there is no signature."""
    consortium.admit(consortium.card("north"), consortium.card("east"))
    _, envelope = newest(consortium.coordinator)
    with pytest.raises(StateError, match="no key"):
        sign_study(ResearcherHome(consortium.root / "nobody"), study(), envelope)
    _, path = create_identity(consortium.researcher, "ada", NOW)
    with pytest.raises(TrustError, match="does not list this researcher"):
        sign_study(consortium.researcher, study(), envelope)
    consortium.admit(path.read_bytes())
    _, envelope = newest(consortium.coordinator)
    with pytest.raises(InputError, match="does not list these sites of the study: west"):
        sign_study(consortium.researcher, study(sites={"north": 40, "west": 40}), envelope)

"""A hospital makes its keys, hands over a card and joins; every wrong admission is refused and changes nothing."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.consortium import LATER, NOW, Consortium, contents, root_key

from dura_client.consortium.enrolment import (
    card_path,
    check_admission,
    init,
    load_card,
    load_consortium,
)
from dura_client.site.home import SiteHome
from dura_client.site.keys import PASSPHRASE_FILE, SiteKeys
from dura_common.consortium.envelope import canonical_json, payload_of, sign
from dura_common.consortium.identity import (
    LEAF_DAYS,
    certificate_pem,
    load_certificate,
    load_request,
    make_authority,
    make_site_certificate,
)
from dura_common.consortium.keyfile import load_private
from dura_common.consortium.roster import ADMISSION_TYPE, read_admission
from dura_common.errors import DuraError, HostError, InputError, StateError, TrustError
from dura_common.runtime.private_keys import read_passphrase
from dura_server.consortium import authority as authority_side
from dura_server.consortium import enrolment as coordinator_side

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


def _resigned(consortium: Consortium, **changed: object) -> bytes:
    """Return north's admission with altered parts, signed by the root key: what a malicious authority can do."""
    admission = read_admission(consortium.admission("north"))[0].model_copy(update=changed)
    return sign(canonical_json(admission), ADMISSION_TYPE, root_key(consortium.coordinator)).encode()


def _refused(consortium: Consortium, admission: bytes, reason: str, now: datetime = NOW) -> None:
    before = contents(consortium.site("north").path)
    with pytest.raises(DuraError, match=reason):
        check_admission(consortium.site("north"), admission, now)
    assert contents(consortium.site("north").path) == before


def test_keys_and_folders_are_private(admitted: Consortium) -> None:
    """Secrets are 0600 in folders that are 0700."""
    home = admitted.site("north")
    for folder in (home.path, home.keys):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in home.keys.iterdir()) == [
        "identity.pem",
        "node.pem",
        "pseudonym.key",
        "tls.pem",
    ]
    for path in (*home.keys.iterdir(), home.settings):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_open_folder_is_closed(tmp_path: Path) -> None:
    """A folder that everybody could read before is closed before keys come into it."""
    home = SiteHome(tmp_path / "open")
    home.keys.mkdir(parents=True)
    for folder in (home.path, home.keys):
        folder.chmod(0o755)
    init(home, "north", None, NOW)
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (home.path, home.keys)} == {0o700}


def test_no_private_key_is_in_any_exchanged_file(admitted: Consortium) -> None:
    """Cards and admissions hold public keys only, in any encoding that the keys themselves have."""
    exchanged = [admitted.card("north"), admitted.admission("north"), admitted.coordinator.roster.read_bytes()]
    payloads = [payload_of(content) for content in exchanged]
    keys = SiteKeys(admitted.site("north"))
    secrets = [keys.pseudonym_key(), keys.identity().private_bytes_raw()]
    secrets += [
        key.private_numbers().private_value.to_bytes(key.key_size // 8, "big") for key in (keys.node(), keys.tls())
    ]
    for content in (*exchanged, *payloads):
        assert PRIVATE_MARK not in content
        assert not any(secret in content or secret.hex().encode() in content for secret in secrets)


def test_second_init_is_refused_and_changes_nothing(admitted: Consortium) -> None:
    """Keys are made once."""
    home = admitted.site("north")
    before = contents(home.path)
    with pytest.raises(StateError, match="already"):
        init(home, "north", None, LATER)
    home.settings.rename(home.path / "aside")
    with pytest.raises(StateError, match="already keys"):
        init(home, "north", None, LATER)
    (home.path / "aside").rename(home.settings)
    assert contents(home.path) == before


def test_a_full_disk_leaves_nothing_half_made(tmp_path: Path) -> None:
    """When a key cannot be written, none stays, and init works once there is space."""
    code = (
        "import resource, signal, sys\n"
        "from datetime import UTC, datetime\n"
        "from pathlib import Path\n"
        "from dura_client.consortium.enrolment import init\n"
        "from dura_client.site.home import SiteHome\n"
        "from dura_common.errors import HostError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"  # the Ed25519 key fits, the next one does not
        "try:\n    init(SiteHome(Path(sys.argv[1])), 'north', None, datetime.now(UTC))\n"
        "except HostError as error:\n    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "north")], capture_output=True, text=True, check=True
    )
    assert "cannot write" in done.stdout
    assert contents(tmp_path / "north") == {}
    init(SiteHome(tmp_path / "north"), "north", None, NOW)


@pytest.mark.parametrize("name", ["North", "n", "north_", "../north", "", "a" * 40])
def test_bad_names_make_no_site(tmp_path: Path, name: str) -> None:
    """A name that cannot stand on a roster is refused before anything is made."""
    with pytest.raises(InputError, match="name must be"):
        init(SiteHome(tmp_path / "home"), name, None, NOW)
    assert not (tmp_path / "home").exists()


def test_joining_pins_the_consortium(admitted: Consortium) -> None:
    """After joining the site follows the roster, with a certificate of its own key, and has countersigned it."""
    admitted.join("north")
    consortium = load_consortium(admitted.site("north"), NOW)
    assert {site.name for site in consortium.roster.sites} == {"north", "east"}
    certificate = load_certificate((admitted.site("north").consortium / "certificate.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["urn:dura:site:north"]
    assert certificate.public_key() == SiteKeys(admitted.site("north")).tls().public_key()


def test_admission_of_another_site_is_refused(admitted: Consortium) -> None:
    """Files for another hospital do not fit."""
    _refused(admitted, admitted.admission("east"), "for the site east, but this site is north")


def test_altered_and_foreign_files_are_refused(admitted: Consortium, tmp_path: Path) -> None:
    """Altered admissions, cards, rosters and noise are refused with the reason."""
    good = json.loads(admitted.admission("north"))
    altered = {**good, "payload": good["payload"][:-8] + "AAAA" + good["payload"][-4:]}
    _refused(admitted, json.dumps(altered).encode(), "admission|signature|signed document")
    _refused(admitted, admitted.card("north"), "the admission")
    _refused(admitted, admitted.coordinator.roster.read_bytes(), "the admission")
    _refused(admitted, b"\x00" * 100, "not a signed document")
    _refused(admitted, b" " * 5_000_000, "larger than")
    other = Consortium(tmp_path / "other")
    other.make_coordinator()
    other.make_site("north")
    other.admit(other.card("north"))
    _refused(admitted, other.admission("north"), "not for this site's key")


def test_expired_and_future_admissions_are_refused(admitted: Consortium) -> None:
    """Certificates hold between their dates; a clock that is wrong by days is named as a possible cause."""
    _refused(admitted, admitted.admission("north"), "has expired", NOW + timedelta(days=LEAF_DAYS, seconds=1))
    _refused(admitted, admitted.admission("north"), "the roster has expired", NOW + timedelta(days=91))
    _refused(admitted, admitted.admission("north"), "not valid yet", NOW - timedelta(days=1))
    check_admission(admitted.site("north"), admitted.admission("north"), NOW - timedelta(minutes=9))


def test_certificate_of_another_authority_is_refused(admitted: Consortium) -> None:
    """A certificate must come from the clients' authority that the roster names."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = make_authority(key, "brains", NOW)
    request = load_request(load_card(admitted.site("north")).request.encode())
    foreign = make_site_certificate(authority, key, request, "north", NOW)
    _refused(admitted, _resigned(admitted, certificate=certificate_pem(foreign).decode()), "not issued by")


def test_certificate_without_the_site_name_is_refused(admitted: Consortium) -> None:
    """A certificate that names nobody, issued for the right key by the right authority, is refused."""
    authority = load_certificate(admitted.authority.clients.read_bytes())
    key = load_private(admitted.authority.clients_key.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    nameless = (
        x509.CertificateBuilder()
        .subject_name(authority.subject)
        .issuer_name(authority.subject)
        .public_key(SiteKeys(admitted.site("north")).tls().public_key())
        .serial_number(5)
        .not_valid_before(NOW)
        .not_valid_after(LATER)
        .sign(key, hashes.SHA256())
    )
    _refused(admitted, _resigned(admitted, certificate=certificate_pem(nameless).decode()), "does not name this site")


def test_roster_without_this_site_is_refused(admitted: Consortium) -> None:
    """The roster in an admission must list the site with its own keys."""
    authority_side.remove(admitted.authority, "north", NOW)
    _, roster = coordinator_side.newest(admitted.coordinator)
    _refused(admitted, _resigned(admitted, roster=roster), "does not list this site")


def test_admission_signed_by_somebody_else_is_refused(admitted: Consortium) -> None:
    """An admission is good only if signed by the root key of the roster in it."""
    admission, _ = read_admission(admitted.admission("north"))
    forged = sign(canonical_json(admission), ADMISSION_TYPE, Ed25519PrivateKey.generate())
    _refused(admitted, forged.encode(), "signature is not valid")


def test_another_consortium_cannot_take_over_a_site(admitted: Consortium, tmp_path: Path) -> None:
    """A site that has joined does not follow a second consortium, whatever that one signs."""
    admitted.join("north")
    other = Consortium(tmp_path / "other")
    other.make_coordinator()
    other.make_site("west")
    other.admit(admitted.card("north"), other.card("west"))
    _refused(admitted, other.admission("north"), "joined another consortium")


@pytest.mark.parametrize("name", ["roster.json", "consortium.pub"])
def test_pinned_files_altered_on_disk_are_noticed(admitted: Consortium, name: str) -> None:
    """What the site pinned is verified at every reading."""
    admitted.join("north")
    path = admitted.site("north").consortium / name
    path.write_bytes(path.read_bytes()[:-20] + b"A" * 20)
    with pytest.raises(DuraError, match=r"not a signed document|an identity key must be"):
        load_consortium(admitted.site("north"), NOW)


def test_card_does_not_follow_a_symbolic_link(tmp_path: Path) -> None:
    """A link planted where the card will lie is replaced; its target stays as it is."""
    home, victim = SiteHome(tmp_path / "home"), tmp_path / "victim"
    home.path.mkdir()
    victim.write_bytes(b"precious")
    card_path(home, "north").symlink_to(victim)
    init(home, "north", None, NOW)
    assert victim.read_bytes() == b"precious"
    assert not card_path(home, "north").is_symlink()


def test_passphrase_protects_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys with a passphrase open with it and with nothing else; the node key reaches a child in memory only."""
    monkeypatch.delenv(PASSPHRASE_FILE, raising=False)
    home, secret = SiteHome(tmp_path / "home"), tmp_path / "passphrase"
    secret.write_bytes(b"correct horse\n")
    init(home, "north", read_passphrase(secret), NOW)
    for name in ("identity.pem", "node.pem", "tls.pem"):
        assert b"ENCRYPTED" in (home.keys / name).read_bytes()
    with pytest.raises(TrustError, match="needs a passphrase"):
        SiteKeys(home).identity()
    with pytest.raises(TrustError, match="does not open"):
        SiteKeys(home, b"wrong").identity()
    before = contents(tmp_path)
    monkeypatch.setenv(PASSPHRASE_FILE, str(secret))
    with SiteKeys(home).node_file() as (path, descriptor):
        read = ["cat", path]
        for _ in range(2):  # Flower may read it again after a restart
            content = subprocess.run(read, pass_fds=(descriptor,), capture_output=True, check=True).stdout
            assert content.startswith(b"-----BEGIN OPENSSH PRIVATE KEY")
    assert contents(tmp_path) == before
    with pytest.raises(FileNotFoundError, match="No such file"):
        Path(path).read_bytes()


@pytest.mark.parametrize("content", [b"", b"\n", None])
def test_empty_or_missing_passphrase_file(tmp_path: Path, content: bytes | None) -> None:
    """A passphrase file without a passphrase must not mean: no passphrase."""
    if content is not None:
        (tmp_path / "passphrase").write_bytes(content)
    with pytest.raises(InputError, match="passphrase file"):
        read_passphrase(tmp_path / "passphrase")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file where the folder should be is one clear error."""
    (tmp_path / "home").write_bytes(b"")
    with pytest.raises(HostError, match="cannot create the folder"):
        init(SiteHome(tmp_path / "home"), "north", None, NOW)

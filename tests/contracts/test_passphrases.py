"""The two commands that put keys under another passphrase, on a site's keys and on the authority's."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.commands import dura, failed
from tests.support.consortium import Consortium

from dura_client.site.keys import SiteKeys
from dura_common.consortium.keyfile import is_sealed
from dura_common.errors import TrustError
from dura_server.consortium.authority import remove


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """A founded consortium whose keys have no passphrase yet."""
    made = Consortium(tmp_path)
    made.make_all()
    return made


def written(path: Path, text: str) -> Path:
    """Return a file with a passphrase."""
    path.write_text(text + "\n")
    return path


def test_a_site_gets_a_passphrase_and_then_another(consortium: Consortium, tmp_path: Path) -> None:
    """All keys open with the newest passphrase only and are the same keys as before; a wrong one changes nothing."""
    home = consortium.site("north")
    identity = SiteKeys(home).identity().private_bytes_raw()
    one, two = written(tmp_path / "one", "correct horse"), written(tmp_path / "two", "battery staple")
    words = ("site", "passphrase", "--home", home, "--new-passphrase-file")
    assert dura(*words, one, here=True) == {"keys": 3}
    before = {path: path.read_bytes() for path in home.keys.glob("*.pem")}
    assert len(before) == 3
    assert all(map(is_sealed, before.values()))
    failed(*words, two, code=11, here=True, env={"DURA_PASSPHRASE_FILE": str(two)})
    assert {path: path.read_bytes() for path in before} == before
    assert dura(*words, two, here=True, env={"DURA_PASSPHRASE_FILE": str(one)}) == {"keys": 3}
    assert SiteKeys(home, b"battery staple").identity().private_bytes_raw() == identity
    with pytest.raises(TrustError, match="does not open"):
        SiteKeys(home, b"correct horse").identity()


def test_the_authority_gets_a_passphrase(consortium: Consortium, tmp_path: Path) -> None:
    """Root key and the sites' authority are encrypted together; without the passphrase no roster is issued any more."""
    new = written(tmp_path / "one", "correct horse")
    words = ("authority", "passphrase", "--authority", consortium.authority, "--new-passphrase-file", new)
    assert dura(*words, here=True) == {"keys": 2}
    assert is_sealed(consortium.authority.root.read_bytes())
    assert is_sealed(consortium.authority.clients_key.read_bytes())
    with pytest.raises(TrustError, match="needs a passphrase"):
        remove(consortium.authority, "east", consortium.now())
    assert remove(consortium.authority, "east", consortium.now(), passphrase=b"correct horse").serial == 2

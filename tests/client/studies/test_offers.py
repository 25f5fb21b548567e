"""What lies at a site waits for a person, stays bounded, and needs the passphrase only to be signed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.consortium import NOW, Consortium, contents

from dura_client.consortium.enrolment import init, load_card
from dura_client.site.home import SiteHome
from dura_client.site.keys import PASSPHRASE_FILE
from dura_client.studies.approvals import (
    approve,
    receive_offer,
    require_approved,
)
from dura_client.studies.offers import MAX_OFFERS
from dura_common.errors import StateError, TrustError
from dura_server.studies.researcher import create_identity


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


def test_only_signing_needs_the_passphrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers and the check of an approval work with locked keys; joining, which countersigns, and saying yes do not."""
    consortium = Consortium(tmp_path)
    init(consortium.site("north"), "north", b"correct horse", NOW)
    consortium.make_coordinator()
    consortium.make_site("east")
    _, path = create_identity(consortium.researcher, "ada", NOW)
    consortium.admit(consortium.card("north"), consortium.card("east"), path.read_bytes())
    consortium.join("east")
    before = contents(tmp_path)
    with pytest.raises(TrustError, match="needs a passphrase"):
        consortium.join("north")
    assert contents(tmp_path) == before
    (tmp_path / "passphrase").write_text("correct horse")
    monkeypatch.setenv(PASSPHRASE_FILE, str(tmp_path / "passphrase"))
    consortium.join("north")
    monkeypatch.delenv(PASSPHRASE_FILE)
    north = consortium.site("north")
    offer, reference = consortium.offer()
    receive_offer(north, offer, NOW)
    before = contents(tmp_path)
    with pytest.raises(TrustError, match="needs a passphrase"):
        approve(north, reference, "ward-3", NOW)
    assert contents(tmp_path) == before
    monkeypatch.setenv(PASSPHRASE_FILE, str(tmp_path / "passphrase"))
    approve(north, reference, "ward-3", NOW)
    monkeypatch.delenv(PASSPHRASE_FILE)
    assert require_approved(north, reference, NOW).digest == reference


def test_disk_is_not_filled_with_offers(consortium: Consortium, north: SiteHome) -> None:
    """Beyond the limit offers are refused; the ones that lie there stay."""
    north.offers.mkdir()
    for number in range(MAX_OFFERS):
        path = north.offers / f"{number:064x}.json"
        path.touch()
        os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    before = contents(north.offers)
    with pytest.raises(StateError, match="offers are already waiting"):
        receive_offer(north, consortium.offer()[0], NOW)
    assert contents(north.offers) == before


def test_site_that_has_not_joined(consortium: Consortium) -> None:
    """A site without a consortium accepts no offers."""
    consortium.make_site("south")
    with pytest.raises(StateError, match="not joined"):
        receive_offer(consortium.site("south"), consortium.offer()[0], NOW)
    assert load_card(consortium.site("south")).name == "south"

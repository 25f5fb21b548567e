"""This site's card, and the change of its keys: new keys wait until the site follows a roster that lists them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from dura_client.site.home import SiteHome
from dura_client.site.keys import NEXT, SiteKeys
from dura_client.site.settings import load_settings
from dura_common.consortium.cards import CARD_TYPE, SiteCard, encode_identity, hand_over, read_card
from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.identity import make_request, node_public_text
from dura_common.consortium.roster import Roster
from dura_common.errors import StateError, TrustError
from dura_common.runtime.files import SHARED_FILE, read_limited, write_atomic


def card_path(home: SiteHome, name: str) -> Path:
    """Return the path of the site's card."""
    return home.path / f"{name}.card.json"


def next_card_path(home: SiteHome, name: str) -> Path:
    """Return the path of the card of the waiting keys."""
    return home.path / f"{name}.next.card.json"


def write_card(home: SiteHome, keys: SiteKeys, name: str, request: str, now: datetime) -> SiteCard:
    """Write the card of a site's current keys."""
    return _write(card_path(home, name), keys, name, request, now)


def _write(path: Path, keys: SiteKeys, name: str, request: str, now: datetime, handover: str = "") -> SiteCard:
    identity = keys.identity()
    card = SiteCard(
        name=name,
        identity=encode_identity(identity.public_key()),
        node_key=node_public_text(keys.node()),
        request=request,
        created=now,
        handover=handover,
    )
    write_atomic(path, sign(canonical_json(card), CARD_TYPE, identity).encode(), mode=SHARED_FILE)
    return card


def renew_card(home: SiteHome, now: datetime) -> SiteCard:
    """Renew the date of the card; keys and fingerprint stay. Authorities refuse old cards."""
    old = load_card(home)
    return _write(card_path(home, old.name), SiteKeys(home), old.name, old.request, now, old.handover)


def load_card(home: SiteHome) -> SiteCard:
    """Return the site's own card."""
    return _read(card_path(home, load_settings(home).name))


def next_card(home: SiteHome) -> SiteCard | None:
    """Return the card of the waiting keys, or None."""
    path = next_card_path(home, load_settings(home).name)
    return _read(path) if path.exists() else None


def rotate(home: SiteHome, now: datetime) -> SiteCard:
    """Create new keys and their card, which the old identity signs too. The old keys are used until the roster changes.

    Raises:
        StateError: new keys are already waiting.
    """
    keys, name = SiteKeys(home), load_settings(home).name
    old = keys.identity()
    fresh = keys.create_next()
    request = make_request(fresh.tls(), name).decode()
    path = next_card_path(home, name)
    plain = _write(path, fresh, name, request, now)
    return _write(path, fresh, name, request, now, hand_over(old, plain.fingerprint()))


def undo_rotation(home: SiteHome) -> None:
    """Undo a change of keys that is not yet on a roster.

    Raises:
        StateError: no keys are waiting.
    """
    path = next_card_path(home, load_settings(home).name)
    if not path.exists() and not (home.keys / NEXT).exists():
        raise StateError("no new keys are waiting here")
    path.unlink(missing_ok=True)
    SiteKeys(home, b"").drop_next()


def finish_rotation(home: SiteHome, roster: Roster) -> None:
    """Start using the waiting keys as soon as the roster that the site follows lists them."""
    name = load_settings(home).name
    path = next_card_path(home, name)
    if not path.exists():
        return
    mine, card = roster.site(name), _read(path)
    if mine is None or mine.fingerprint() != card.fingerprint():
        return
    SiteKeys(home, b"").promote_next()
    certificate = home.consortium / "next-certificate.pem"
    if certificate.exists():
        certificate.replace(home.consortium / "certificate.pem")
    path.replace(card_path(home, name))  # last, because without this card the change of keys is complete


def _read(path: Path) -> SiteCard:
    card = read_card(read_limited(path, what="the site's card"))
    if not isinstance(card, SiteCard):
        raise TrustError("the card at this site is not a site's card")
    return card

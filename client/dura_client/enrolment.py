"""How a site becomes one: keys and a card at home, then the coordinator's admission, each compared by telephone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dura_client.home import SiteHome
from dura_client.keys import SiteKeys
from dura_client.settings import load_settings
from dura_common.envelope import canonical_json, sign
from dura_common.errors import StateError, TrustError
from dura_common.identity import check_issued, load_certificate, make_request, node_public_text, site_uri
from dura_common.roster import (
    CARD_TYPE,
    Admission,
    Roster,
    SiteCard,
    check_successor,
    decode_identity,
    encode_identity,
    read_admission,
    read_card,
    read_roster,
)
from dura_common.runtime.files import SHARED_FILE, private_folder, read_limited, write_atomic


@dataclass(frozen=True, slots=True)
class Consortium:
    """What a site keeps of the consortium that it joined; all of it was verified."""

    key: Ed25519PublicKey
    authority_file: Path
    roster: Roster


def card_path(home: SiteHome, name: str) -> Path:
    """Return where a site's card lies."""
    return home.path / f"{name}.card.json"


def init(home: SiteHome, name: str, passphrase: bytes | None, now: datetime) -> SiteCard:
    """Make a site: keys, settings, card.

    Raises:
        StateError: there is a site already; nothing is changed.
    """
    if home.settings.exists():
        raise StateError(f"there is a site already at {home.path}", hint="Take another --home.")
    private_folder(home.path)
    keys = SiteKeys(home, passphrase)
    keys.create()
    identity, node, tls = keys.identity(), keys.node(), keys.tls()
    card = SiteCard(
        name=name,
        identity=encode_identity(identity.public_key()),
        node_key=node_public_text(node),
        request=make_request(tls, name).decode(),
        created=now,
    )
    envelope = sign(canonical_json(card), CARD_TYPE, identity)
    write_atomic(card_path(home, name), envelope.encode(), mode=SHARED_FILE)
    text = f'# The site\'s own settings.\nname = "{name}"\ndevice = "cpu"  # or "cuda"\n'
    write_atomic(home.settings, text.encode())
    return card


def load_card(home: SiteHome) -> SiteCard:
    """Return the site's own card."""
    name = load_settings(home).name
    card = read_card(read_limited(card_path(home, name), what="the site's card"))
    if not isinstance(card, SiteCard):
        raise TrustError("the card at this site is not a site's card")
    return card


def check_admission(home: SiteHome, text: bytes, now: datetime) -> Admission:
    """Check everything about an admission but the fingerprint, which a person compares.

    Raises:
        InputError: not an admission.
        TrustError: for another site or other keys, altered, expired, or of another consortium than joined.
    """
    admission = read_admission(text)
    card = load_card(home)
    if admission.name != card.name:
        raise TrustError(f"the admission is for the site {admission.name}, this is {card.name}")
    authority = load_certificate(admission.authority.encode())
    certificate = load_certificate(admission.certificate.encode())
    check_issued(certificate, authority, now)
    if certificate.public_key() != SiteKeys(home).tls().public_key():
        raise TrustError("the certificate in the admission is not for this site's key")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if [item.value for item in names] != [site_uri(card.name)]:
        raise TrustError("the certificate in the admission does not name this site")
    roster = read_roster(admission.roster, decode_identity(admission.consortium_key), now)
    mine = roster.site(card.name)
    if mine is None or (mine.identity, mine.node_key) != (card.identity, card.node_key):
        raise TrustError("the roster in the admission does not list this site with its own keys")
    if (home.consortium / "consortium.pub").exists():
        known = load_consortium(home, now)
        if encode_identity(known.key) != admission.consortium_key:
            raise TrustError("this site has joined another consortium already")
        check_successor(known.roster, roster)
    return admission


def join(home: SiteHome, admission: Admission) -> None:
    """Keep a checked admission whose fingerprint was confirmed."""
    folder = private_folder(home.consortium)
    write_atomic(folder / "authority.pem", admission.authority.encode())
    write_atomic(folder / "certificate.pem", admission.certificate.encode())
    write_atomic(folder / "roster.json", admission.roster.encode())
    write_atomic(folder / "consortium.pub", admission.consortium_key.encode())  # last: it marks the site as joined


def load_consortium(home: SiteHome, now: datetime) -> Consortium:
    """Read the pinned consortium and verify it again: a file altered on disk is noticed.

    Raises:
        StateError: the site has not joined.
        TrustError: a file was altered, or the roster has expired.
    """
    folder = home.consortium
    if not (folder / "consortium.pub").exists():
        raise StateError("this site has not joined a consortium", hint="Use `dura site join ADMISSION`.")
    key = decode_identity(read_limited(folder / "consortium.pub", what="the consortium key").decode(errors="replace"))
    roster = read_roster(read_limited(folder / "roster.json", what="the pinned roster"), key, now)
    return Consortium(key=key, authority_file=folder / "authority.pem", roster=roster)


def pin_roster(home: SiteHome, envelope: str) -> None:
    """Follow a roster that a person has approved together with a study."""
    write_atomic(home.consortium / "roster.json", envelope.encode())

"""How a site becomes one: keys and a card at home, then the coordinator's admission, each compared by telephone."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys, closed_folder
from dura_client.site.settings import load_settings
from dura_common.consortium.envelope import MAX_ENVELOPE_BYTES, canonical_json, sign
from dura_common.consortium.identity import (
    check_issued,
    load_certificate,
    load_request,
    make_request,
    node_public_text,
    site_uri,
)
from dura_common.consortium.roster import (
    CARD_TYPE,
    Admission,
    Changes,
    Roster,
    SiteCard,
    changes,
    check_successor,
    decode_identity,
    encode_identity,
    read_admission,
    read_any_roster,
    read_card,
    read_roster,
)
from dura_common.errors import DuraError, StateError, TrustError
from dura_common.runtime.files import SHARED_FILE, private_folder, read_limited, write_atomic
from dura_common.study import check_site_name


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
        InputError: the name cannot stand on a roster.
        StateError: there is a site already, or keys are; nothing is changed.
        HostError: the disk is full; the keys made so far are removed again.
    """
    check_site_name(name)
    if home.settings.exists():
        raise StateError(f"there is a site already at {home.path}", hint="Take another --home.")
    keys = SiteKeys(home, passphrase)
    keys.require_none()
    closed_folder(home.path)
    try:
        keys.create()
        card = _write_card(home, keys, name, make_request(keys.tls(), name).decode(), now)
        text = (
            f'# The site\'s own settings.\nname = "{name}"\ndevice = "cpu"  # or "cuda"\n'
            "threads = 1  # cores that training takes\n"
        )
        write_atomic(home.settings, text.encode())  # last: it marks the site as made
    except DuraError:
        shutil.rmtree(home.keys, ignore_errors=True)  # made just now and never used
        card_path(home, name).unlink(missing_ok=True)
        raise
    return card


def renew_card(home: SiteHome, now: datetime) -> SiteCard:
    """Date the card anew; keys and fingerprint stay. Coordinators refuse old cards."""
    old = load_card(home)
    return _write_card(home, SiteKeys(home), old.name, old.request, now)


def _write_card(home: SiteHome, keys: SiteKeys, name: str, request: str, now: datetime) -> SiteCard:
    identity = keys.identity()
    card = SiteCard(
        name=name,
        identity=encode_identity(identity.public_key()),
        node_key=node_public_text(keys.node()),
        request=request,
        created=now,
    )
    envelope = sign(canonical_json(card), CARD_TYPE, identity)
    write_atomic(card_path(home, name), envelope.encode(), mode=SHARED_FILE)
    return card


def load_card(home: SiteHome) -> SiteCard:
    """Return the site's own card."""
    name = load_settings(home).name
    card = read_card(read_limited(card_path(home, name), what="the site's card"))
    if not isinstance(card, SiteCard):
        raise TrustError("the card at this site is not a site's card")
    return card


def check_admission(home: SiteHome, text: bytes, now: datetime, *, accepted: Collection[str] = ()) -> Admission:
    """Check everything about an admission but the fingerprint, which a person compares.

    Args:
        home: the site's folder.
        text: the file that the coordinator handed back.
        now: the present time (UTC).
        accepted: other sites whose new keys a person has compared with the people there.

    Raises:
        StateError: there is no site here.
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
    if certificate.public_key() != load_request(card.request.encode()).public_key():
        raise TrustError("the certificate in the admission is not for this site's key")
    if _names(certificate) != [site_uri(card.name)]:
        raise TrustError("the certificate in the admission does not name this site")
    roster = read_roster(admission.roster, decode_identity(admission.consortium_key), now)
    mine = roster.site(card.name)
    if mine is None or (mine.identity, mine.node_key) != (card.identity, card.node_key):
        raise TrustError("the roster in the admission does not list this site with its own keys")
    if has_joined(home):
        known = load_pinned(home)  # may have expired: that is why sites join again
        pinned_authority = read_limited(known.authority_file, what="the pinned authority")
        if encode_identity(known.key) != admission.consortium_key or (pinned_authority != admission.authority.encode()):
            raise TrustError("this site has joined another consortium already", hint="Take another --home.")
        check_successor(known.roster, roster, accepted=accepted)
    return admission


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return []
    return [str(name.value) for name in names if isinstance(name, x509.UniformResourceIdentifier)] + [
        f"other kind: {type(name).__name__}" for name in names if not isinstance(name, x509.UniformResourceIdentifier)
    ]


def roster_changes(home: SiteHome, admission: Admission) -> Changes:
    """Return which sites the roster in a checked admission adds, drops and alters, compared with the pinned one."""
    new = read_any_roster(admission.roster, decode_identity(admission.consortium_key))
    old = load_pinned(home).roster if has_joined(home) else new.model_copy(update={"sites": ()})
    return changes(old, new)


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
    pinned = load_pinned(home)
    read_roster(_pinned_roster(home), pinned.key, now)
    return pinned


def load_pinned(home: SiteHome) -> Consortium:
    """Read the pinned consortium even if its roster has expired: enough to compare with, not to act on.

    Raises:
        StateError: the site has not joined.
        TrustError: a file was altered.
    """
    if not has_joined(home):
        raise StateError("this site has not joined a consortium", hint="Use `dura site join ADMISSION`.")
    content = read_limited(home.consortium / "consortium.pub", what="the consortium key")
    key = decode_identity(content.decode("ascii", errors="replace"))
    roster = read_any_roster(_pinned_roster(home), key)
    return Consortium(key=key, authority_file=home.consortium / "authority.pem", roster=roster)


def has_joined(home: SiteHome) -> bool:
    """Say whether the site has joined a consortium."""
    return (home.consortium / "consortium.pub").exists()


def _pinned_roster(home: SiteHome) -> bytes:
    return read_limited(home.consortium / "roster.json", what="the pinned roster", limit=MAX_ENVELOPE_BYTES)


def pin_roster(home: SiteHome, envelope: str) -> None:
    """Follow a roster that a person has approved together with a study."""
    write_atomic(home.consortium / "roster.json", envelope.encode())

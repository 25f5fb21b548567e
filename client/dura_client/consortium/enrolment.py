"""How a site becomes one: keys and a card at home, then the authority's admission, each compared by telephone."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from cryptography import x509

from dura_client.consortium import people
from dura_client.consortium.card import card_path, load_card, next_card, renew_card, write_card
from dura_client.consortium.countersign import countersign, keep_own
from dura_client.consortium.membership import Membership, forget, has_joined, load_membership, pending, pin, take
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.consortium.cards import SiteCard
from dura_common.consortium.chain import Changes, Link, changes, check_sound
from dura_common.consortium.envelope import compact, payload_of
from dura_common.consortium.identity import (
    alternative_names,
    check_issued,
    load_certificate,
    load_request,
    make_request,
    site_uri,
)
from dura_common.consortium.roster import Admission, Roster, check_dates, read_admission, roster_digest
from dura_common.errors import DuraError, InputError, TrustError
from dura_common.runtime.files import closed_folder, private_folder, read_limited, write_atomic
from dura_common.study import check_site_name

__all__ = [
    "Membership",
    "card_path",
    "check_admission",
    "has_joined",
    "init",
    "join",
    "load_card",
    "load_consortium",
    "load_pinned",
    "renew_card",
    "roster_changes",
]


def init(home: SiteHome, name: str, passphrase: bytes | None, now: datetime) -> SiteCard:
    """Make a site: keys, settings, card.

    Raises:
        InputError: the name cannot stand on a roster.
        StateError: there is a site already, or keys are; nothing is changed.
        HostError: the disk is full; the keys made so far are removed again.
    """
    check_site_name(name)
    if home.settings.exists():
        raise _exists(home)
    keys = SiteKeys(home, passphrase)
    keys.require_none()
    closed_folder(home.path)
    try:
        keys.create()
        card = write_card(home, keys, name, make_request(keys.tls(), name).decode(), now)
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


def _exists(home: SiteHome) -> DuraError:
    from dura_common.errors import StateError  # noqa: PLC0415

    return StateError(f"there is a site already at {home.path}", hint="Take another --home.")


def check_admission(home: SiteHome, text: bytes, now: datetime) -> Admission:
    """Check everything about an admission but the fingerprint, which a person compares.

    Raises:
        StateError: there is no site here.
        InputError: not an admission.
        TrustError: for another site or other keys, altered, expired, or of another consortium than joined.
    """
    admission, roster = read_admission(text)
    card = load_card(home)
    if admission.name != card.name:
        raise TrustError(f"the admission is for the site {admission.name}, this is {card.name}")
    certificate = load_certificate(admission.certificate.encode())
    check_issued(certificate, load_certificate(roster.clients.encode()), now)
    if _names(certificate) != [site_uri(card.name)]:
        raise TrustError("the certificate in the admission does not name this site")
    mine = _own_card(home, card, certificate)
    check_dates(roster, now)
    entry = roster.site(card.name)
    if entry is None or entry.fingerprint() != mine.fingerprint():
        raise TrustError("the roster in the admission does not list this site with its own keys")
    here = _joined(home)
    if here is not None:
        _check_same_chain(here, admission, roster)
    return admission


def _own_card(home: SiteHome, card: SiteCard, certificate: x509.Certificate) -> SiteCard:
    """Return the card, present or next, for whose TLS key a certificate is."""
    for mine in (card, next_card(home)):
        if mine is not None and certificate.public_key() == load_request(mine.request.encode()).public_key():
            return mine
    raise TrustError("the certificate in the admission is not for this site's key")


def _check_same_chain(here: Membership, admission: Admission, roster: Roster) -> None:
    reference = roster_digest(admission.roster)
    if roster.consortium != here.roster.consortium or (
        roster.root != here.roster.root and roster.serial <= here.roster.serial
    ):
        raise TrustError("this site has joined another consortium already", hint="Take another --home.")
    if roster.serial < here.roster.serial:
        raise TrustError(f"the roster is older (serial {roster.serial}) than the one known here ({here.roster.serial})")
    if roster.serial == here.roster.serial:
        if reference != here.digest:
            raise TrustError("two different rosters carry the same serial: the authority is not consistent")
        return
    if any(roster_digest(link.roster) == reference for link in pending(here.home)):
        return
    if roster.serial == here.roster.serial + 1:
        check_sound(here.roster, here.digest, admission.roster)
        return
    raise TrustError(
        f"rosters are missing between serial {here.roster.serial}, which is followed here, and {roster.serial}",
        hint="Take them first: `dura site roster --from rosters.json` with the file that the coordinator writes.",
    )


def _names(certificate: x509.Certificate) -> list[str]:
    names = alternative_names(certificate)
    return [str(name.value) for name in names if isinstance(name, x509.UniformResourceIdentifier)] + [
        f"other kind: {type(name).__name__}" for name in names if not isinstance(name, x509.UniformResourceIdentifier)
    ]


def roster_changes(home: SiteHome, admission: Admission) -> Changes:
    """Return which members the roster in a checked admission adds, drops and alters, compared with the followed one."""
    new = Roster.model_validate_json(payload_of(admission.roster))
    here = _joined(home)
    return changes(None if here is None else here.roster, new)


def join(home: SiteHome, admission: Admission, now: datetime | None = None, *, compared: bool = True) -> None:
    """Keep a checked admission, and countersign a first roster.

    Args:
        home: the site's folder.
        admission: checked.
        now: the present time; the admission's date without it.
        compared: whether a person has compared the fingerprint: then all members of the roster count as confirmed.

    Raises:
        TrustError: the identity key is locked, so that nothing can be countersigned; nothing was changed.
    """
    when = now or admission.issued
    roster = Roster.model_validate_json(payload_of(admission.roster))
    link = Link(roster=compact(admission.roster), countersignatures=())
    here = _joined(home)
    if here is not None:
        _rejoin(home, admission, roster, link, here)
        return
    own = countersign(SiteKeys(home).identity(), load_card(home).name, link, None) if roster.serial == 1 else None
    forget(home)
    private_folder(home.consortium)
    write_atomic(home.consortium / "certificate.pem", admission.certificate.encode())
    if own is not None:
        keep_own(home, roster.serial, own)
        link = link.model_copy(update={"countersignatures": (own,)})
    if compared:
        people.confirm(home, roster.members, when)
    pin(home, link, roster)


def _rejoin(home: SiteHome, admission: Admission, roster: Roster, link: Link, here: Membership) -> None:
    certificate = load_certificate(admission.certificate.encode())
    present = load_request(load_card(home).request.encode()).public_key() == certificate.public_key()
    name = "certificate.pem" if present else "next-certificate.pem"
    write_atomic(home.consortium / name, admission.certificate.encode())
    if roster.serial > here.roster.serial:
        take(home, [link])


def _joined(home: SiteHome) -> Membership | None:
    """Return what the site follows; None if it has not joined, or only a roster that binds nobody.

    A roster of an earlier dura, or one that lists a single site, was countersigned by nobody: joining again means
    comparing the fingerprint again. Ledger, approvals and recordings stay as they are.
    """
    if not has_joined(home):
        return None
    envelope = read_limited(home.consortium / "roster.json", what="the roster")
    try:
        old = b'"format":1,' in payload_of(envelope)[:1200]
    except InputError:
        old = False
    if old:
        return None
    here = load_membership(home)
    return here if here.roster.founded else None


def load_consortium(home: SiteHome, now: datetime) -> Membership:
    """Read what the site follows and verify it again; an expired roster still serves what was approved under it.

    Raises:
        StateError: the site has not joined.
        TrustError: a file was altered, or the roster is from the future.
    """
    here = load_membership(home)
    if now < here.roster.issued:
        check_dates(here.roster, now)
    return here


def load_pinned(home: SiteHome) -> Membership:
    """Read what the site follows, whatever the date.

    Raises:
        StateError: the site has not joined.
        TrustError: a file was altered.
    """
    return load_membership(home)


def certificate_path(home: SiteHome) -> Path:
    """Return where the site's client certificate lies."""
    return home.consortium / "certificate.pem"

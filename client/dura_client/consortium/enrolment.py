"""Enrolment of a site: its keys and its card, then the authority's admission; people compare both by telephone."""

from __future__ import annotations

import shutil
from datetime import datetime

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
    """Create a site: keys, settings, card.

    Raises:
        InputError: the name is not valid for a roster.
        StateError: there is already a site, or there are keys; nothing is changed.
        HostError: the disk is full; the new keys are removed again.
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
            "threads = 1  # processor cores for training\n"
        )
        write_atomic(home.settings, text.encode())  # last, because this file marks the site as complete
    except DuraError:
        shutil.rmtree(home.keys, ignore_errors=True)  # new and never used
        card_path(home, name).unlink(missing_ok=True)
        raise
    return card


def _exists(home: SiteHome) -> DuraError:
    from dura_common.errors import StateError  # noqa: PLC0415

    return StateError(f"there is already a site at {home.path}", hint="Take another --home.")


def check_admission(home: SiteHome, text: bytes, now: datetime) -> Admission:
    """Check everything about an admission except the fingerprint, which a person compares.

    Raises:
        StateError: there is no site here.
        InputError: the content is not an admission.
        TrustError: the admission is for another site, other keys or another consortium, was altered, or has expired.
    """
    admission, roster = read_admission(text)
    card = load_card(home)
    if admission.name != card.name:
        raise TrustError(f"the admission is for the site {admission.name}, but this site is {card.name}")
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
    """Return the current or the next card, depending on the TLS key of a certificate."""
    for mine in (card, next_card(home)):
        if mine is not None and certificate.public_key() == load_request(mine.request.encode()).public_key():
            return mine
    raise TrustError("the certificate in the admission is not for this site's key")


def _check_same_chain(here: Membership, admission: Admission, roster: Roster) -> None:
    reference = roster_digest(admission.roster)
    if roster.consortium != here.roster.consortium or (
        roster.root != here.roster.root and roster.serial <= here.roster.serial
    ):
        raise TrustError("this site has already joined another consortium", hint="Take another --home.")
    if roster.serial < here.roster.serial:
        raise TrustError(f"the roster (serial {roster.serial}) is older than the one known here ({here.roster.serial})")
    if roster.serial == here.roster.serial:
        if reference != here.digest:
            raise TrustError("two different rosters have the same serial: the authority contradicts itself")
        return
    if any(roster_digest(link.roster) == reference for link in pending(here.home)):
        return
    if roster.serial == here.roster.serial + 1:
        check_sound(here.roster, here.digest, admission.roster)
        return
    raise TrustError(
        f"rosters are missing between serial {here.roster.serial}, which is followed here, and {roster.serial}",
        hint="First read them with `dura site roster --from rosters.json`, from a file that the coordinator writes.",
    )


def _names(certificate: x509.Certificate) -> list[str]:
    names = alternative_names(certificate)
    return [str(name.value) for name in names if isinstance(name, x509.UniformResourceIdentifier)] + [
        f"other kind: {type(name).__name__}" for name in names if not isinstance(name, x509.UniformResourceIdentifier)
    ]


def roster_changes(home: SiteHome, admission: Admission) -> Changes:
    """Return which members the roster of a checked admission adds, removes and changes."""
    new = Roster.model_validate_json(payload_of(admission.roster))
    here = _joined(home)
    return changes(None if here is None else here.roster, new)


def join(home: SiteHome, admission: Admission, now: datetime | None = None, *, compared: bool = True) -> None:
    """Store a checked admission, and countersign a first roster.

    Args:
        home: the site's folder.
        admission: the checked admission.
        now: the current time; by default, the admission's date.
        compared: whether a person has compared the fingerprint: then all members of the roster count as confirmed.

    Raises:
        TrustError: the identity key is locked, so nothing can be countersigned; nothing was changed.
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
    """Return the membership of the site; None if it has not joined, or has only a roster that nobody countersigned.

    Nobody countersigns a roster of an earlier version of dura, or a roster with a single site. To join again, people
    must compare the fingerprint again. Ledger, approvals and recordings stay unchanged.
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
    """Read the followed roster and verify it again. An expired roster is still valid for earlier approvals.

    Raises:
        StateError: the site has not joined.
        TrustError: a file was altered, or the roster is dated in the future.
    """
    here = load_membership(home)
    if now < here.roster.issued:
        check_dates(here.roster, now)
    return here


def load_pinned(home: SiteHome) -> Membership:
    """Read the roster that the site follows, without checking dates.

    Raises:
        StateError: the site has not joined.
        TrustError: a file was altered.
    """
    return load_membership(home)

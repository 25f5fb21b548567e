"""A researcher's membership: the authority's answer to the card, and the rosters that follow.

A researcher follows rosters as a site does (:mod:`dura_common.consortium.chain`): the first by a fingerprint that
people compare by voice, each later one because a quorum of the sites has countersigned it. The coordinator cannot make
a researcher follow another roster, nor speak in the name of another coordinator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from pydantic import ValidationError

from dura_common.consortium.cards import encode_identity
from dura_common.consortium.chain import Link, NoQuorum
from dura_common.consortium.chain import follow as follow_chain
from dura_common.consortium.envelope import compact
from dura_common.consortium.identity import (
    alternative_names,
    check_issued,
    load_certificate,
    researcher_uri,
    tls_public_text,
)
from dura_common.consortium.roster import (
    Admission,
    Roster,
    RosterResearcher,
    check_dates,
    read_admission,
    read_claimed_roster,
    roster_digest,
)
from dura_common.errors import StateError, TrustError
from dura_common.runtime.files import read_limited, write_atomic
from dura_common.study import explain_validation
from dura_server.studies.researcher import ResearcherHome

MAX_LINK_BYTES = 32 << 20
"""A roster with the countersignatures of 500 sites."""
RENEWAL = "Ask the authority to admit the researcher's card again, then `dura study join`."


@dataclass(frozen=True, slots=True)
class Membership:
    """What a researcher follows."""

    home: ResearcherHome
    link: Link
    roster: Roster
    mine: RosterResearcher
    """This researcher's entry, with the keys in this folder."""


def check_admission(home: ResearcherHome, content: bytes, now: datetime) -> tuple[Admission, Roster]:
    """Check everything about an admission except the fingerprint, which a person compares.

    Raises:
        StateError: this folder has no keys.
        InputError: the content is not an admission.
        TrustError: it is for somebody else, for other keys or another consortium, was altered, or has expired.
    """
    admission, roster = read_admission(content)
    mine = _own_entry(home, roster)
    if mine is None or admission.name != mine.name:
        raise TrustError("the admission is not for this researcher's keys", hint=RENEWAL)
    certificate = load_certificate(admission.certificate.encode())
    check_issued(certificate, load_certificate(roster.clients.encode()), now, renewal=RENEWAL)
    names = alternative_names(certificate)
    if names != [x509.UniformResourceIdentifier(researcher_uri(mine.name))]:
        raise TrustError("the certificate in the admission does not name this researcher")
    if tls_public_text(certificate.public_key()) != mine.tls_key:
        raise TrustError("the certificate in the admission is not for this researcher's key")
    check_dates(roster, now)
    if has_joined(home):
        _check_same_chain(*_read(home), admission, roster)
    return admission, roster


def join(home: ResearcherHome, admission: Admission, roster: Roster) -> None:
    """Store a checked admission whose fingerprint a person has compared."""
    newer = not has_joined(home) or _read(home)[1].serial < roster.serial
    write_atomic(home.certificate, admission.certificate.encode())
    if newer:
        _pin(home, Link(roster=compact(admission.roster), countersignatures=()))


def has_joined(home: ResearcherHome) -> bool:
    """Tell whether this researcher has a coordinator."""
    return home.roster.exists()


def load_membership(home: ResearcherHome) -> Membership:
    """Read the followed roster and verify it again.

    Raises:
        StateError: this researcher has not joined.
        InputError, TrustError: a file was altered, or the roster does not list these keys.
    """
    if not has_joined(home):
        raise StateError(
            "this researcher has not joined a consortium",
            hint="Send the card of `dura study identity` to the authority, then `dura study join` with the answer.",
        )
    link, roster = _read(home)
    mine = _own_entry(home, roster)
    if mine is None:
        raise TrustError("the roster does not list this researcher with the keys in this folder", hint=RENEWAL)
    return Membership(home, link, roster, mine)


def follow(home: ResearcherHome, links: Sequence[Link]) -> Membership:
    """Follow rosters as far as they are countersigned; the others wait.

    Raises:
        TrustError: a roster contradicts the one followed here or breaks a rule of the chain, or the newest one does not
            list this researcher. What was followed before stays followed.
    """
    link, roster = _read(home)
    here = roster_digest(link.roster)
    for other in links:
        if read_claimed_roster(other.roster).serial == roster.serial and roster_digest(other.roster) != here:
            raise TrustError(
                f"the coordinator shows another roster of serial {roster.serial} than the one that was compared",
                hint="Compare the fingerprint of the roster with the hospitals before you sign anything.",
            )
    found, reason = follow_chain(roster, here, links)
    if found:
        _pin(home, Link(roster=compact(found[-1].roster), countersignatures=found[-1].countersignatures))
    if reason is not None and not isinstance(reason, NoQuorum):
        raise reason
    return load_membership(home)


def _pin(home: ResearcherHome, link: Link) -> None:
    write_atomic(home.roster, link.model_dump_json().encode())


def _read(home: ResearcherHome) -> tuple[Link, Roster]:
    try:
        link = Link.model_validate_json(read_limited(home.roster, what="the roster", limit=MAX_LINK_BYTES))
    except ValidationError as error:
        raise explain_validation(error, what="the researcher's roster") from error
    return link, read_claimed_roster(link.roster)


def _own_entry(home: ResearcherHome, roster: Roster) -> RosterResearcher | None:
    identity = encode_identity(home.identity().public_key())
    tls = tls_public_text(home.tls_key().public_key())
    return next((one for one in roster.researchers if (one.identity, one.tls_key) == (identity, tls)), None)


def _check_same_chain(link: Link, here: Roster, admission: Admission, roster: Roster) -> None:
    if roster.consortium != here.consortium:
        raise TrustError("this researcher has already joined another consortium", hint="Take another --researcher.")
    if roster.serial < here.serial:
        raise TrustError(f"the roster (serial {roster.serial}) is older than the one known here ({here.serial})")
    if roster.serial == here.serial and roster_digest(admission.roster) != roster_digest(link.roster):
        raise TrustError("two different rosters have the same serial: the authority contradicts itself")

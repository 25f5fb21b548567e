"""Offered studies from the coordinator. They are stored only after verification, and verified again at every reading.

An offer is authentic if all of this is true: the study names a roster that this site follows or has followed; a
researcher on that roster has signed the study; the roster lists this site with its own keys; the study lists this site;
and the study has not expired.

The storage is limited, whoever sends offers. Unsigned content is not stored. An undecided offer is removed when its
study has expired, or after :data:`OFFER_DAYS` days. At most :data:`MAX_OFFERS` offers wait for a decision.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from pydantic import ValidationError

from dura_client.consortium.membership import Membership, own_entry
from dura_client.site.home import SiteHome
from dura_common.consortium.envelope import compact, digest, payload_of, verify
from dura_common.consortium.roster import Roster, RosterResearcher, roster_digest
from dura_common.errors import DuraError, PolicyError, StateError, TrustError
from dura_common.messages import Offer, RefusalReason
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import STUDY_TYPE, Study, StudyDocument, explain_validation

MAX_OFFERS = 100
"""Largest number of offers that wait for a decision; with :data:`MAX_STUDY_BYTES`, at most 25 MiB."""
MAX_STUDY_BYTES = 262_144
"""Largest signed study; a study with 500 sites is below 50 kB."""
MAX_OFFER_BYTES = 8 << 20
"""Largest file in which an earlier version of dura stored an offer."""
OFFER_DAYS = 90


class NotApproved(PolicyError):
    """The site has not approved this study."""

    def __init__(self, message: str, reason: RefusalReason) -> None:
        super().__init__(message, hint="`dura site review` shows it; `dura site approve` approves it.")
        self.reason = reason


class NotAuthentic(TrustError):
    """A study, roster or approval is not authentic."""

    def __init__(self, message: str, reason: RefusalReason = RefusalReason.NOT_AUTHENTIC, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CheckedOffer:
    """An authentic offer and the facts with which it was checked. It is read once and then passed on."""

    here: Membership
    digest: str
    study: Study
    study_envelope: str
    roster: Roster
    """The roster that the study names."""
    roster_digest: str
    researcher: RosterResearcher
    """The researcher who signed the study."""


def check_offer(here: Membership, study_envelope: str, now: datetime) -> CheckedOffer:
    """Check that an offer is authentic; see the module's rules.

    Raises:
        NotAuthentic: a rule does not hold.
    """
    document = _claimed(study_envelope)
    roster = here.roster_of(document.roster)
    if roster is None:
        raise NotAuthentic(
            "the study names a roster that this site does not follow",
            RefusalReason.OTHER_ROSTER,
            hint="`dura site roster` shows rosters that wait for countersignatures.",
        )
    payload, researcher = _signed(study_envelope, roster)
    study = StudyDocument.model_validate_json(payload).study
    if own_entry(here.card, roster) is None:
        raise NotAuthentic(
            "the study's roster does not list this site with its current keys", RefusalReason.OTHER_ROSTER
        )
    if here.card.name not in study.sites:
        raise NotAuthentic("the study does not list this site")
    if now > end_of(study):
        raise NotAuthentic("the study has expired", RefusalReason.EXPIRED)
    return CheckedOffer(here, digest(payload), study, study_envelope, roster, document.roster, researcher)


def _claimed(study_envelope: str) -> StudyDocument:
    try:
        return StudyDocument.model_validate_json(payload_of(study_envelope))
    except ValidationError as error:
        fault = explain_validation(error, what="the offered study").message
        raise NotAuthentic(f"{fault} (the study was altered, or has another form)") from error
    except DuraError as error:
        raise NotAuthentic(error.message) from error


def _signed(study_envelope: str, roster: Roster) -> tuple[bytes, RosterResearcher]:
    for researcher in roster.researchers:
        try:
            return verify(study_envelope, STUDY_TYPE, [researcher.public_key()]), researcher
        except DuraError:
            continue
    raise NotAuthentic("no researcher on the roster has signed the study")


def check_parties(checked: CheckedOffer) -> None:
    """Refuse a study if one of its members has left, has other keys now, or is distrusted here.

    Raises:
        NotAuthentic: a member of the study has changed; the reason is always the same word.
    """
    here = checked.here
    names = (*checked.study.sites, checked.researcher.name)
    gone = checked.roster.same_members(here.roster, names)
    if gone:
        raise NotAuthentic(
            f"these members of the study have left or changed keys: {', '.join(gone)}", RefusalReason.OTHER_ROSTER
        )
    distrusted = sorted(name for name in names if here.people.distrusts(name))
    if distrusted:
        raise NotAuthentic(f"this site distrusts {', '.join(distrusted)}", RefusalReason.OTHER_ROSTER)


def store_offer(home: SiteHome, checked: CheckedOffer, now: datetime) -> None:
    """Store an offer. A stored offer stays unchanged.

    Raises:
        NotAuthentic: the study is too large.
        StateError: too many offers are waiting for a decision.
    """
    folder = private_folder(home.offers)
    path = folder / f"{checked.digest}.json"
    if path.exists():
        return
    kept = Offer(study=compact(checked.study_envelope), roster="").model_dump_json().encode()
    if len(kept) > 2 * MAX_STUDY_BYTES:
        raise NotAuthentic(f"the offered study is larger than {MAX_STUDY_BYTES} bytes")
    clear_offers(home, now)
    if sum(1 for one in folder.glob("*.json") if not _decided(home, one)) >= MAX_OFFERS:
        raise StateError(
            f"{MAX_OFFERS} offers are already waiting for a decision here",
            hint="Decide on some: `dura site offers`, `dura site approve`, `dura site decline`.",
        )
    write_atomic(path, kept)
    os.utime(path, (now.timestamp(), now.timestamp()))  # the time of arrival, by the clock of all other checks


def clear_offers(home: SiteHome, now: datetime) -> None:
    """Delete offers that nobody approved and that can no longer run."""
    for path in home.offers.glob("*.json") if home.offers.exists() else ():
        decision = home.approvals / path.name
        if decision.exists() and b'"approved"' in decision.read_bytes()[:64]:
            continue  # the ledger names studies by their offers
        if _over(path, now):
            path.unlink(missing_ok=True)
            decision.unlink(missing_ok=True)


def _over(path: Path, now: datetime) -> bool:
    try:
        if now.timestamp() - path.stat().st_mtime > timedelta(days=OFFER_DAYS).total_seconds():
            return True
        offer = Offer.model_validate_json(read_limited(path, what="the offered study", limit=MAX_OFFER_BYTES))
        return now > end_of(StudyDocument.model_validate_json(payload_of(offer.study)).study)
    except (DuraError, ValidationError, OSError):
        return False  # altered: `review` with its digest says so


def _decided(home: SiteHome, path: Path) -> bool:
    return (home.approvals / path.name).exists()


def load_offer(home: SiteHome, reference: str) -> Offer:
    """Read a stored offer. It is NOT verified.

    Raises:
        NotApproved: the study was never offered.
        NotAuthentic: the file is no longer an offer.
    """
    path = home.offers / f"{reference}.json"
    if not path.exists():
        raise NotApproved("this study was never offered to this site", RefusalReason.UNKNOWN_STUDY)
    try:
        return Offer.model_validate_json(read_limited(path, what="the offered study", limit=MAX_OFFER_BYTES))
    except ValidationError as error:
        raise NotAuthentic("the stored offer was altered") from error


def load_checked(here: Membership, reference: str, now: datetime) -> CheckedOffer:
    """Read a stored offer and check it like a new one.

    Raises:
        NotApproved: the study was never offered.
        NotAuthentic: the offer was altered on disk, or is no longer authentic.
    """
    checked = check_offer(here, load_offer(here.home, reference).study, now)
    if checked.digest != reference:
        raise NotAuthentic("the stored offer was altered: its digest is not its name")
    return checked


def name_of(home: SiteHome, reference: str) -> str | None:
    """Return the name of a study with this digest, even if it has expired; None if its offer is gone.

    Only the digest is compared, because the digest comes from the ledger.
    """
    try:
        payload = payload_of(load_offer(home, reference).study)
        return StudyDocument.model_validate_json(payload).study.name if digest(payload) == reference else None
    except (DuraError, ValidationError):
        return None


def end_of(study: Study) -> datetime:
    """Return the last moment at which a study may run."""
    return datetime.combine(study.expires, time.max, tzinfo=UTC)


def names_roster(offer: Offer) -> bool:
    """Tell whether an offer's study names the roster that came with it."""
    return _claimed(offer.study).roster == roster_digest(offer.roster)

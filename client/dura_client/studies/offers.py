"""Offered studies: what a coordinator sends, kept only after it verified, and verified again at every reading.

An offer is authentic if: the consortium signed the roster and it is valid now, a researcher on that roster
signed the study, the study names that roster, the roster lists this site with its own keys, the study lists
this site, and neither has expired. Whether the roster may follow the pinned one is decided with the approval.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time

from pydantic import ValidationError

from dura_client.consortium.enrolment import load_card, load_pinned
from dura_client.site.home import SiteHome
from dura_common.consortium.envelope import digest, payload_of, verify
from dura_common.consortium.roster import Expired, Roster, read_roster
from dura_common.errors import DuraError, PolicyError, StateError, TrustError
from dura_common.messages import Offer, RefusalReason
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import STUDY_TYPE, Study, StudyDocument, explain_validation

MAX_OFFERS = 1000
"""A coordinator must not fill a hospital's disk with offers."""
MAX_OFFER_BYTES = 8 << 20
"""Two envelopes at their largest."""


class NotApproved(PolicyError):
    """The site has not said yes to this study."""

    def __init__(self, message: str, reason: RefusalReason) -> None:
        super().__init__(message, hint="`dura site review` shows it; `dura site approve` approves it.")
        self.reason = reason


class NotAuthentic(TrustError):
    """A study, roster or approval does not verify."""

    def __init__(self, message: str, reason: RefusalReason = RefusalReason.NOT_AUTHENTIC) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class CheckedOffer:
    """An offer that is authentic."""

    digest: str
    study: Study
    roster: Roster
    offer: Offer

    @property
    def roster_digest(self) -> str:
        """SHA-256 of the roster, as the study names it."""
        return digest(payload_of(self.offer.roster))


def check_offer(home: SiteHome, offer: Offer, now: datetime) -> CheckedOffer:
    """Check that an offer is authentic; see the module's rules.

    Raises:
        StateError: the site has not joined.
        NotAuthentic: a rule does not hold.
    """
    pinned = load_pinned(home)
    try:
        roster = read_roster(offer.roster, pinned.key, now)
        payload = verify(offer.study, STUDY_TYPE, [item.public_key() for item in roster.researchers])
        document = StudyDocument.model_validate_json(payload)
    except ValidationError as error:
        raise NotAuthentic(explain_validation(error, what="the offered study").message) from error
    except Expired as error:
        raise NotAuthentic(error.message, RefusalReason.EXPIRED) from error
    except DuraError as error:
        raise NotAuthentic(error.message) from error
    if document.roster != digest(payload_of(offer.roster)):
        raise NotAuthentic("the study was signed for another roster", RefusalReason.OTHER_ROSTER)
    card = load_card(home)
    mine = roster.site(card.name)
    if mine is None or (mine.identity, mine.node_key) != (card.identity, card.node_key):
        raise NotAuthentic("the study's roster does not list this site", RefusalReason.OTHER_ROSTER)
    if card.name not in document.study.sites:
        raise NotAuthentic("the study does not list this site")
    if now > end_of(document.study):
        raise NotAuthentic("the study has expired", RefusalReason.EXPIRED)
    return CheckedOffer(digest(payload), document.study, roster, offer)


def store_offer(home: SiteHome, checked: CheckedOffer) -> None:
    """Keep an offer; one that lies here already stays as it is.

    Raises:
        StateError: too many offers lie here already.
    """
    folder = private_folder(home.offers)
    path = folder / f"{checked.digest}.json"
    if path.exists():
        return
    if sum(1 for _ in folder.glob("*.json")) >= MAX_OFFERS:
        raise StateError(f"{MAX_OFFERS} offers lie here already", hint=f"Delete old files in {folder}.")
    write_atomic(path, checked.offer.model_dump_json().encode())


def load_offer(home: SiteHome, reference: str) -> Offer:
    """Read a stored offer, NOT verified.

    Raises:
        NotApproved: it was never offered.
        NotAuthentic: the file is not an offer any more.
    """
    path = home.offers / f"{reference}.json"
    if not path.exists():
        raise NotApproved("this study was never offered to this site", RefusalReason.UNKNOWN_STUDY)
    try:
        return Offer.model_validate_json(read_limited(path, what="the offered study", limit=MAX_OFFER_BYTES))
    except ValidationError as error:
        raise NotAuthentic("the stored offer was altered") from error


def load_checked(home: SiteHome, reference: str, now: datetime) -> CheckedOffer:
    """Read a stored offer and check it as if it had just come.

    Raises:
        NotApproved: it was never offered.
        NotAuthentic: it was altered on disk, or does not verify any more.
    """
    checked = check_offer(home, load_offer(home, reference), now)
    if checked.digest != reference:
        raise NotAuthentic("the stored offer was altered: its digest is not its name")
    return checked


def name_of(home: SiteHome, reference: str) -> str | None:
    """Return the name of a study by its digest, also of one that has expired; None if its offer is gone.

    Only the digest is compared: the ledger, which names the study, vouches for it.
    """
    try:
        payload = payload_of(load_offer(home, reference).study)
        return StudyDocument.model_validate_json(payload).study.name if digest(payload) == reference else None
    except (DuraError, ValidationError):
        return None


def end_of(study: Study) -> datetime:
    """Return the last moment at which a study may run."""
    return datetime.combine(study.expires, time.max, tzinfo=UTC)

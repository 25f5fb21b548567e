"""Offered studies and the site's decisions. Everything is verified when it comes and again whenever it is used.

A study may run here only if: the consortium signed the roster, a researcher on that roster signed the study,
the study names that roster, the roster lists this site with its own keys and changes no known site, and this
site's own key signed the approval of exactly this digest. Files altered on disk fail one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from dura_client.enrolment import load_card, load_consortium, pin_roster
from dura_client.home import SiteHome
from dura_client.keys import SiteKeys
from dura_common.approval import APPROVAL_TYPE, Approval, parse_approval
from dura_common.envelope import canonical_json, digest, payload_of, sign, verify
from dura_common.errors import DuraError, PolicyError, StateError, TrustError
from dura_common.messages import Offer, RefusalReason, Standing
from dura_common.roster import Roster, check_successor, decode_identity, read_roster
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import STUDY_TYPE, Frozen, Study, StudyDocument, Word, explain_validation

State = Literal["offered", "approved", "declined"]
MAX_OFFERS = 1000
"""A coordinator must not fill a hospital's disk with offers."""


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


class Decision(Frozen):
    """What the site keeps of its decision; the data set's name stays at the site."""

    state: Literal["approved", "declined"]
    approval: str = ""
    dataset: Word | None = None


@dataclass(frozen=True, slots=True)
class OfferedStudy:
    """A study as it was offered, verified."""

    digest: str
    study: Study
    roster: Roster
    roster_envelope: str
    state: State


@dataclass(frozen=True, slots=True)
class ApprovedStudy:
    """A study that this site has approved, verified from disk just now."""

    digest: str
    study: Study
    dataset: str


def receive_offer(home: SiteHome, offer: Offer, now: datetime) -> Standing:
    """Verify and keep an offer; a known one is answered with its standing.

    Raises:
        NotAuthentic: it does not verify, or has expired.
        StateError: too many offers lie here already.
    """
    reference, _, _ = _verify(home, offer, now)
    folder = private_folder(home.offers)
    path = folder / f"{reference}.json"
    if not path.exists():
        if sum(1 for _ in folder.glob("*.json")) >= MAX_OFFERS:
            raise StateError(f"{MAX_OFFERS} offers lie here already", hint="Decline or remove old ones.")
        write_atomic(path, offer.model_dump_json().encode())
    return standing(home, reference, now)


def standing(home: SiteHome, reference: str, now: datetime) -> Standing:
    """Say where a study stands here.

    Raises:
        NotApproved: it was never offered.
    """
    _load_offer(home, reference)
    decision = _decision(home, reference)
    if decision is None:
        return Standing(state="offered")
    if decision.state == "declined":
        return Standing(state="declined")
    require_approved(home, reference, now)
    return Standing(state="approved", approval=decision.approval)


def list_offers(home: SiteHome) -> list[OfferedStudy]:
    """Return all offers that still verify, oldest first."""
    paths = sorted(home.offers.glob("*.json"), key=lambda path: path.stat().st_mtime) if home.offers.exists() else []
    found = []
    for path in paths:
        try:
            found.append(find_offer(home, path.stem))
        except DuraError:
            continue  # expired or altered: `review` of its digest says which
    return found


def find_offer(home: SiteHome, reference: str, now: datetime | None = None) -> OfferedStudy:
    """Find an offer by digest or the unique beginning of one.

    Raises:
        StateError: none or several fit.
        NotAuthentic: it does not verify (any more).
    """
    matches = sorted(path.stem for path in home.offers.glob("*.json") if path.stem.startswith(reference))
    if len(matches) != 1:
        raise StateError(
            f"{'no' if not matches else 'more than one'} offered study begins with {reference!r}",
            hint="`dura site offers` lists them.",
        )
    offer = _load_offer(home, matches[0])
    found, study, roster = _verify(home, offer, now or datetime.now(UTC))
    if found != matches[0]:
        raise NotAuthentic("the stored offer was altered: its digest is not its name")
    decision = _decision(home, found)
    return OfferedStudy(found, study, roster, offer.roster, "offered" if decision is None else decision.state)


def approve(home: SiteHome, reference: str, dataset: str, now: datetime) -> Approval:
    """Sign the site's yes, and follow the roster that the study names."""
    offer = find_offer(home, reference, now)
    approval = Approval(
        study=offer.digest,
        roster=digest(payload_of(offer.roster_envelope)),
        site=load_card(home).name,
        approved=now,
        expires=_end_of(offer.study),
    )
    envelope = sign(canonical_json(approval), APPROVAL_TYPE, SiteKeys(home).identity())
    decision = Decision(state="approved", approval=envelope, dataset=dataset)
    private_folder(home.approvals)
    pin_roster(home, offer.roster_envelope)
    write_atomic(_decision_path(home, offer.digest), decision.model_dump_json().encode())
    return approval


def decline(home: SiteHome, reference: str) -> None:
    """Say no; an approval that was given before is withdrawn by it."""
    offer = _load_offer(home, reference)
    private_folder(home.approvals)
    write_atomic(
        _decision_path(home, digest(payload_of(offer.study))),
        Decision(state="declined").model_dump_json().encode(),
    )


def require_approved(home: SiteHome, reference: str, now: datetime) -> ApprovedStudy:
    """Return the study if this site has approved it, verified from disk.

    Raises:
        NotApproved: never offered, not decided, or declined.
        NotAuthentic: study, roster or approval was altered or has expired.
    """
    offer = _load_offer(home, reference)
    decision = _decision(home, reference)
    if decision is None or decision.state != "approved" or decision.dataset is None:
        raise NotApproved("this site has not approved the study", RefusalReason.NOT_APPROVED)
    found, study, _ = _verify(home, offer, now)
    key = SiteKeys(home).identity().public_key()
    try:
        approval = parse_approval(verify(decision.approval, APPROVAL_TYPE, [key]))
    except DuraError as error:
        raise NotAuthentic("the stored approval was altered") from error
    mine = load_card(home).name
    if (approval.study, approval.site) != (reference, mine) or found != reference:
        raise NotAuthentic("the stored approval is for another study or site")
    if approval.roster != digest(payload_of(offer.roster)):
        raise NotAuthentic("the study was approved for another roster", RefusalReason.OTHER_ROSTER)
    if now > approval.expires:
        raise NotAuthentic("the approval has expired", RefusalReason.EXPIRED)
    return ApprovedStudy(reference, study, decision.dataset)


def _verify(home: SiteHome, offer: Offer, now: datetime) -> tuple[str, Study, Roster]:
    """Check an offer against the pinned consortium; see the module's rules."""
    pinned = load_consortium(home, now)
    try:
        roster = read_roster(offer.roster, pinned.key, now)
        check_successor(pinned.roster, roster)
        payload = verify(offer.study, STUDY_TYPE, [item.public_key() for item in roster.researchers])
        document = StudyDocument.model_validate_json(payload)
    except ValidationError as error:
        raise NotAuthentic(explain_validation(error, what="the offered study").message) from error
    except DuraError as error:
        raise NotAuthentic(error.message) from error
    if document.roster != digest(payload_of(offer.roster)):
        raise NotAuthentic("the study was signed for another roster", RefusalReason.OTHER_ROSTER)
    card = load_card(home)
    mine = roster.site(card.name)
    if mine is None or decode_identity(mine.identity) != SiteKeys(home).identity().public_key():
        raise NotAuthentic("the study's roster does not list this site", RefusalReason.OTHER_ROSTER)
    if card.name not in document.study.sites:
        raise NotAuthentic("the study does not list this site")
    if now > _end_of(document.study):
        raise NotAuthentic("the study has expired", RefusalReason.EXPIRED)
    return digest(payload), document.study, roster


def _end_of(study: Study) -> datetime:
    return datetime.combine(study.expires, time.max, tzinfo=UTC)


def _load_offer(home: SiteHome, reference: str) -> Offer:
    path = home.offers / f"{reference}.json"
    if not path.exists():
        raise NotApproved("this study was never offered to this site", RefusalReason.UNKNOWN_STUDY)
    try:
        return Offer.model_validate_json(read_limited(path, what="the offered study", limit=8 << 20))
    except ValidationError as error:
        raise NotAuthentic("the stored offer was altered") from error


def _decision_path(home: SiteHome, reference: str) -> Path:
    return home.approvals / f"{reference}.json"


def _decision(home: SiteHome, reference: str) -> Decision | None:
    path = _decision_path(home, reference)
    if not path.exists():
        return None
    try:
        return Decision.model_validate_json(read_limited(path, what="the site's decision"))
    except ValidationError as error:
        raise NotAuthentic("the stored decision was altered") from error

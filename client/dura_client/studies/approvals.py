"""The site's decisions on offered studies. Everything is verified when it comes and again whenever it is used.

A study may run here only if its offer is authentic (see :mod:`dura_client.studies.offers`), this site's own key signed
the approval of exactly this digest and the choice of the data set, and the study's roster stands in one of two
relations to the pinned one: it follows it (and changes no known site), or it is the older roster under which
the study was approved, and nobody who takes part in the study has left or changed keys since. Files altered on
disk fail one of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from dura_client.consortium.enrolment import load_card, load_pinned, pin_roster
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.studies.offers import (
    CheckedOffer,
    NotApproved,
    NotAuthentic,
    check_offer,
    end_of,
    load_checked,
    load_offer,
    store_offer,
)
from dura_common.consortium.envelope import canonical_json, sign, verify
from dura_common.consortium.identity import CLOCK_SKEW
from dura_common.consortium.roster import Roster, check_successor, decode_identity
from dura_common.errors import DuraError, StateError, TrustError
from dura_common.messages import Offer, RefusalReason, Standing
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import STUDY_TYPE, Digest, Frozen, Study, Word
from dura_common.study.approval import APPROVAL_TYPE, Approval, parse_approval

__all__ = [
    "ApprovedStudy",
    "NotApproved",
    "NotAuthentic",
    "OfferedStudy",
    "approve",
    "decline",
    "find_offer",
    "list_offers",
    "receive_offer",
    "require_approved",
    "standing",
]

State = Literal["offered", "approved", "declined"]
CHOICE_TYPE = "application/vnd.dura.choice+json"


class Choice(Frozen):
    """Which patients of which data set take part in which study; signed, and never sent."""

    study: Digest
    dataset: Word
    cohort: Digest | None = None
    """Digest of the frozen cohort; None in approvals of an older dura, which draw nothing any more."""


class Decision(Frozen):
    """What the site keeps of its decision; the data set's name stays at the site."""

    state: Literal["approved", "declined"]
    approval: str = ""
    """Envelope for the coordinator."""
    choice: str = ""
    """Envelope for this site itself."""


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
    roster: Roster
    """The one that the study names."""
    cohort: str | None
    """Digest of the frozen cohort; None if an older dura approved."""


def receive_offer(home: SiteHome, offer: Offer, now: datetime) -> Standing:
    """Verify and keep an offer; a known one is answered with its standing.

    Raises:
        NotAuthentic: it does not verify, or has expired.
        StateError: too many offers lie here already.
    """
    checked = check_offer(home, offer, now)
    _check_roster(home, checked)
    store_offer(home, checked)
    return standing(home, checked.digest, now)


def standing(home: SiteHome, reference: str, now: datetime) -> Standing:
    """Say where a study stands here.

    Raises:
        NotApproved: it was never offered.
        NotAuthentic: it was approved, and does not verify any more.
    """
    load_offer(home, reference)
    decision = _decision(home, reference)
    if decision is None:
        return Standing(state="offered")
    if decision.state == "declined":
        return Standing(state="declined")
    require_approved(home, reference, now)
    return Standing(state="approved", approval=decision.approval)


def list_offers(home: SiteHome, now: datetime | None = None) -> list[OfferedStudy]:
    """Return all offers that still verify, oldest first."""
    paths = home.offers.glob("*.json") if home.offers.exists() else ()
    found = []
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        try:
            found.append(find_offer(home, path.stem, now))
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
            f"{'no' if not matches else 'more than one'} offered study begins with {reference[:64]!r}",
            hint="`dura site offers` lists them.",
        )
    checked = load_checked(home, matches[0], now or datetime.now(UTC))
    _check_roster(home, checked)
    decision = _decision(home, checked.digest)
    state: State = "offered" if decision is None else decision.state
    return OfferedStudy(checked.digest, checked.study, checked.roster, checked.offer.roster, state)


def approve(home: SiteHome, reference: str, dataset: str, now: datetime, *, cohort: str | None = None) -> Approval:
    """Sign the site's yes to what was frozen (digest of the ``cohort``), and follow the roster that the study names.

    What has to come before it, up to the allocation, is :mod:`dura_client.review.approval`'s.

    Raises:
        StateError: no offer fits the reference.
        NotAuthentic: the offer does not verify, or its roster is older than the one known here.
    """
    found = find_offer(home, reference, now)
    checked = load_checked(home, found.digest, now)
    pinned = load_pinned(home).roster
    _follow(pinned, checked.roster)
    approval = Approval(
        study=checked.digest,
        roster=checked.roster_digest,
        site=load_card(home).name,
        approved=now,
        expires=end_of(checked.study),
    )
    key = SiteKeys(home).identity()
    decision = Decision(
        state="approved",
        approval=sign(canonical_json(approval), APPROVAL_TYPE, key),
        choice=sign(canonical_json(Choice(study=checked.digest, dataset=dataset, cohort=cohort)), CHOICE_TYPE, key),
    )
    private_folder(home.approvals)
    if checked.roster.serial > pinned.serial:
        pin_roster(home, checked.offer.roster)
    write_atomic(_decision_path(home, checked.digest), decision.model_dump_json().encode())
    return approval


def decline(home: SiteHome, reference: str) -> None:
    """Say no to a study by its full digest; an approval that was given before is withdrawn by it.

    Raises:
        NotApproved: it was never offered.
    """
    load_offer(home, reference)
    private_folder(home.approvals)
    write_atomic(_decision_path(home, reference), Decision(state="declined").model_dump_json().encode())


def require_approved(home: SiteHome, reference: str, now: datetime) -> ApprovedStudy:
    """Return the study if this site has approved it, verified from disk.

    Raises:
        NotApproved: never offered, not decided, or declined.
        NotAuthentic: study, roster or approval was altered or has expired.
    """
    load_offer(home, reference)
    decision = _decision(home, reference)
    if decision is None or decision.state != "approved":
        raise NotApproved("this site has not approved the study", RefusalReason.NOT_APPROVED)
    checked = load_checked(home, reference, now)
    approval, choice = _read_decision(home, decision)
    if (approval.study, approval.site, choice.study) != (reference, load_card(home).name, reference):
        raise NotAuthentic("the stored approval is for another study or site")
    if approval.roster != checked.roster_digest:
        raise NotAuthentic("the study was approved for another roster", RefusalReason.OTHER_ROSTER)
    if now > approval.expires:
        raise NotAuthentic("the approval has expired", RefusalReason.EXPIRED)
    if now + CLOCK_SKEW < approval.approved:
        raise NotAuthentic("the approval was given in the future: this machine's clock went back")
    _check_roster(home, checked)
    return ApprovedStudy(reference, checked.study, choice.dataset, checked.roster, choice.cohort)


def _check_roster(home: SiteHome, checked: CheckedOffer) -> None:
    """Compare the study's roster with the pinned one; see the module's rules."""
    pinned = load_pinned(home).roster
    if checked.roster.serial >= pinned.serial or not _approved_before(home, checked):
        _follow(pinned, checked.roster)
        return
    try:
        check_successor(checked.roster, pinned, accepted=tuple(site.name for site in checked.roster.sites))
        verify(checked.offer.study, STUDY_TYPE, [item.public_key() for item in pinned.researchers])
    except TrustError as error:
        raise NotAuthentic(
            "the researcher who signed this study is not on the present roster", RefusalReason.OTHER_ROSTER
        ) from error
    gone = [name for name in checked.study.sites if pinned.site(name) != checked.roster.site(name)]
    if gone:
        raise NotAuthentic(
            f"these sites of the study left or changed keys since: {', '.join(sorted(gone))}",
            RefusalReason.OTHER_ROSTER,
        )


def _follow(pinned: Roster, roster: Roster) -> None:
    try:
        check_successor(pinned, roster)
    except TrustError as error:
        raise NotAuthentic(error.message) from error


def _approved_before(home: SiteHome, checked: CheckedOffer) -> bool:
    try:
        decision = _decision(home, checked.digest)
        if decision is None or decision.state != "approved":
            return False
        approval, _ = _read_decision(home, decision)
    except DuraError:
        return False
    return (approval.study, approval.roster) == (checked.digest, checked.roster_digest)


def _read_decision(home: SiteHome, decision: Decision) -> tuple[Approval, Choice]:
    key = decode_identity(load_card(home).identity)  # the roster vouches for it, see check_offer
    try:
        approval = parse_approval(verify(decision.approval, APPROVAL_TYPE, [key]))
        choice = Choice.model_validate_json(verify(decision.choice, CHOICE_TYPE, [key]))
    except (DuraError, ValidationError) as error:
        raise NotAuthentic("the stored approval was altered") from error
    return approval, choice


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

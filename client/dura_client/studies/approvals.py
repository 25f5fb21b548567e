"""The site's decisions on offered studies. Everything is verified when it arrives and again whenever it is used.

A study may run here only under three conditions. Its offer is authentic (see :mod:`dura_client.studies.offers`). This
site's own key has signed the approval of exactly this digest and the choice of the data set. Since then, no member of
the study has left, changed keys or lost this site's trust. A new approval also needs the roster that the site follows
now, countersigned and unexpired. An approved study continues until its own expiry. Altered files fail these checks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from dura_client.consortium.countersign import own_countersignatures
from dura_client.consortium.membership import Membership, load_membership, take
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.studies.offers import (
    CheckedOffer,
    NotApproved,
    NotAuthentic,
    check_offer,
    check_parties,
    end_of,
    load_checked,
    load_offer,
    name_of,
    names_roster,
    store_offer,
)
from dura_common.consortium.cards import decode_identity
from dura_common.consortium.chain import Link, NoQuorum
from dura_common.consortium.envelope import canonical_json, sign, verify
from dura_common.consortium.identity import CLOCK_SKEW
from dura_common.consortium.roster import Expired, Roster, RosterResearcher, check_dates
from dura_common.errors import DuraError, StateError, TrustError
from dura_common.messages import AskRoster, Countersigned, Offer, RefusalReason, Standing
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import Digest, Frozen, Study, Word
from dura_common.study.approval import APPROVAL_TYPE, Approval, parse_approval
from dura_common.study.reference import find_study

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
    """The choice of data set and patients for a study; signed, and never sent."""

    study: Digest
    dataset: Word
    cohort: Digest | None = None
    """Digest of the cohort; None in approvals of an older version of dura, which allow no more draws."""


class Decision(Frozen):
    """The site's record of its decision. The data set's name stays at the site."""

    state: Literal["approved", "declined"]
    approval: str = ""
    """Envelope for the coordinator."""
    choice: str = ""
    """Envelope for this site itself."""


@dataclass(frozen=True, slots=True)
class OfferedStudy:
    """A verified offer of a study."""

    digest: str
    study: Study
    roster: Roster
    researcher: RosterResearcher
    here: Membership
    """What the study was verified against."""
    state: State


@dataclass(frozen=True, slots=True)
class ApprovedStudy:
    """A study that this site has approved, just verified from disk."""

    digest: str
    study: Study
    dataset: str
    roster: Roster
    """The roster that the study names."""
    cohort: str | None
    """Digest of the cohort; None if an older version of dura approved the study."""
    here: Membership
    """What it was verified against."""
    confirmed: frozenset[str] = frozenset()
    """Members whose fingerprints were compared here."""


def receive_offer(home: SiteHome, offer: Offer, now: datetime) -> Standing:
    """Verify and store an offer. A known offer is answered with the state of its study.

    Raises:
        NotAuthentic: the offer is not authentic, or has expired.
        StateError: too many offers are stored already.
    """
    if not names_roster(offer):
        raise NotAuthentic("the study was signed for another roster", RefusalReason.OTHER_ROSTER)
    here = _take(home, (*offer.links, Link(roster=offer.roster, countersignatures=())))
    checked = check_offer(here, offer.study, now)
    decision = _decision(home, checked.digest)
    if decision is None or decision.state != "approved":
        _check_present(checked, now)
    check_parties(checked)
    store_offer(home, checked, now)
    return _standing(checked, decision, now)


def receive_rosters(home: SiteHome, request: AskRoster) -> Countersigned:
    """Follow rosters as far as they are countersigned, keep waiting rosters, and return this site's countersignatures.

    Raises:
        NotAuthentic: one of the rosters breaks a rule.
    """
    here = _take(home, request.links)
    return Countersigned(serial=here.roster.serial, countersignatures=own_countersignatures(home))


def _take(home: SiteHome, links: tuple[Link, ...]) -> Membership:
    try:
        return take(home, links)
    except StateError:
        raise
    except DuraError as error:
        raise NotAuthentic(error.message) from error


def _check_present(checked: CheckedOffer, now: datetime) -> None:
    """Refuse an older or expired roster, which only an earlier approval may still use."""
    here = checked.here
    if checked.roster_digest != here.digest:
        raise NotAuthentic(
            f"the study names an older roster (serial {checked.roster.serial}) than the one that is followed here "
            f"({here.roster.serial})",
            RefusalReason.OTHER_ROSTER,
        )
    try:
        check_dates(here.roster, now)
    except Expired as error:
        raise NotAuthentic(error.message, RefusalReason.EXPIRED, hint=error.hint) from error
    except TrustError as error:
        raise NotAuthentic(error.message, hint=error.hint) from error


def standing(home: SiteHome, reference: str, now: datetime) -> Standing:
    """Return the state of a study at this site.

    Raises:
        NotApproved: the study was never offered.
        NotAuthentic: the study was approved, but is no longer authentic.
    """
    load_offer(home, reference)
    decision = _decision(home, reference)
    if decision is None or decision.state == "declined":
        return Standing(state="offered" if decision is None else "declined")
    checked = load_checked(load_membership(home), reference, now)
    return _standing(checked, decision, now)


def _standing(checked: CheckedOffer, decision: Decision | None, now: datetime) -> Standing:
    if decision is None or decision.state == "declined":
        return Standing(state="offered" if decision is None else "declined")
    _approved(checked, decision, now)
    return Standing(state="approved", approval=decision.approval)


def list_offers(home: SiteHome, now: datetime | None = None) -> list[OfferedStudy]:
    """Return all offers that are still authentic, oldest first."""
    paths = list(home.offers.glob("*.json")) if home.offers.exists() else []
    if not paths:
        return []
    found, here = [], load_membership(home)
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        try:
            found.append(_offered(load_checked(here, path.stem, now or datetime.now(UTC)), now or datetime.now(UTC)))
        except DuraError:
            continue  # expired or altered: `review` with its digest gives the reason
    return found


def find_offer(home: SiteHome, reference: str, now: datetime | None = None) -> OfferedStudy:
    """Find the offer that a person means; see :mod:`dura_common.study.reference`.

    Raises:
        StateError: no offer fits, or several offers do.
        NotAuthentic: the offer is not authentic, or no longer so.
    """
    known = {path.stem: name_of(home, path.stem) for path in home.offers.glob("*.json")}
    digest = find_study(reference, known, where="offered studies", lister="dura site offers")
    when = now or datetime.now(UTC)
    return _offered(load_checked(load_membership(home), digest, when), when)


def _offered(checked: CheckedOffer, now: datetime) -> OfferedStudy:
    decision = _decision(checked.here.home, checked.digest)
    state: State = "offered" if decision is None else decision.state
    if state != "approved":
        _check_present(checked, now)
    check_parties(checked)
    return OfferedStudy(checked.digest, checked.study, checked.roster, checked.researcher, checked.here, state)


def approve(home: SiteHome, reference: str, dataset: str, now: datetime, *, cohort: str | None = None) -> Approval:
    """Sign the approval of a study whose roster this site follows, and of its patients (digest of the ``cohort``).

    :mod:`dura_client.review.approval` does everything that must come first, up to the allocation.

    Raises:
        StateError: no offer fits the reference.
        NotAuthentic: the offer is not authentic, its roster is older than the one known here, or too few founders have
            countersigned it.
    """
    found = find_offer(home, reference, now)
    here = found.here
    try:
        here.require_peace()
        here.require_founded()
    except NoQuorum as error:
        raise NotAuthentic(
            error.message,
            RefusalReason.OTHER_ROSTER,
            hint="More founders must join. Then the coordinator can offer the study again.",
        ) from error
    except TrustError as error:
        raise NotAuthentic(error.message, RefusalReason.OTHER_ROSTER, hint=error.hint) from error
    if found.roster.serial != here.roster.serial:
        raise NotAuthentic(
            f"the study names an older roster (serial {found.roster.serial}) than the one that is followed here",
            RefusalReason.OTHER_ROSTER,
        )
    approval = Approval(
        study=found.digest,
        roster=here.digest,
        site=here.card.name,
        approved=now,
        expires=end_of(found.study),
    )
    key = SiteKeys(home).identity()
    decision = Decision(
        state="approved",
        approval=sign(canonical_json(approval), APPROVAL_TYPE, key),
        choice=sign(canonical_json(Choice(study=found.digest, dataset=dataset, cohort=cohort)), CHOICE_TYPE, key),
    )
    private_folder(home.approvals)
    write_atomic(_decision_path(home, found.digest), decision.model_dump_json().encode())
    return approval


def decline(home: SiteHome, reference: str) -> None:
    """Decline a study by its full digest. This withdraws an earlier approval.

    Raises:
        NotApproved: the study was never offered.
    """
    load_offer(home, reference)
    private_folder(home.approvals)
    write_atomic(_decision_path(home, reference), Decision(state="declined").model_dump_json().encode())


def require_approved(home: SiteHome, reference: str, now: datetime) -> ApprovedStudy:
    """Return the study if this site has approved it, verified from disk.

    Raises:
        NotApproved: the study was never offered, is not decided, or was declined.
        NotAuthentic: study, roster or approval was altered or has expired.
    """
    load_offer(home, reference)
    decision = _decision(home, reference)
    if decision is None or decision.state != "approved":
        raise NotApproved("this site has not approved the study", RefusalReason.NOT_APPROVED)
    return _approved(load_checked(load_membership(home), reference, now), decision, now)


def _approved(checked: CheckedOffer, decision: Decision, now: datetime) -> ApprovedStudy:
    """Return an approved study. Every rule of this module is checked with one view of members and keys."""
    here, reference = checked.here, checked.digest
    approval, choice = _read_decision(here, decision)
    if (approval.study, approval.site, choice.study) != (reference, here.card.name, reference):
        raise NotAuthentic("the stored approval is for another study or site")
    if approval.roster != checked.roster_digest:
        raise NotAuthentic("the study was approved for another roster", RefusalReason.OTHER_ROSTER)
    if now > approval.expires:
        raise NotAuthentic("the approval has expired", RefusalReason.EXPIRED)
    if now + CLOCK_SKEW < approval.approved:
        raise NotAuthentic("the approval is dated in the future: this machine's clock was set back")
    check_parties(checked)
    confirmed = here.people.confirmed_names(checked.roster)
    return ApprovedStudy(reference, checked.study, choice.dataset, checked.roster, choice.cohort, here, confirmed)


def _read_decision(here: Membership, decision: Decision) -> tuple[Approval, Choice]:
    key = decode_identity(here.card.identity)  # the key is on the roster, see check_offer
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

"""The site's decisions on offered studies. Everything is verified when it comes and again whenever it is used.

A study may run here only if its offer is authentic (see :mod:`dura_client.studies.offers`), this site's own key signed
the approval of exactly this digest and the choice of the data set, and nobody who takes part in the study has left,
changed keys or lost this site's trust since. A new approval needs the roster that is followed now, countersigned and
unexpired; what was approved goes on to its own expiry. Files altered on disk fail one of these.
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
    researcher: RosterResearcher
    here: Membership
    """What the study was verified against."""
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
    here: Membership
    """What it was verified against."""
    confirmed: frozenset[str] = frozenset()
    """Members whose fingerprints people here have compared."""


def receive_offer(home: SiteHome, offer: Offer, now: datetime) -> Standing:
    """Verify and keep an offer; a known one is answered with its standing.

    Raises:
        NotAuthentic: it does not verify, or has expired.
        StateError: too many offers lie here already.
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
    """Follow rosters as far as they are countersigned, keep those that wait, and tell what this site has said.

    Raises:
        NotAuthentic: one of them breaks a rule.
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
    """Refuse what only an approval that was given before may still use: an older or an expired roster."""
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
    """Say where a study stands here.

    Raises:
        NotApproved: it was never offered.
        NotAuthentic: it was approved, and does not verify any more.
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
    """Return all offers that still verify, oldest first."""
    paths = list(home.offers.glob("*.json")) if home.offers.exists() else []
    if not paths:
        return []
    found, here = [], load_membership(home)
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        try:
            found.append(_offered(load_checked(here, path.stem, now or datetime.now(UTC)), now or datetime.now(UTC)))
        except DuraError:
            continue  # expired or altered: `review` of its digest says which
    return found


def find_offer(home: SiteHome, reference: str, now: datetime | None = None) -> OfferedStudy:
    """Find the offer that a person means; see :mod:`dura_common.study.reference`.

    Raises:
        StateError: none or several fit.
        NotAuthentic: it does not verify (any more).
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
    """Sign the site's yes to a study whose roster this site follows, and to what was frozen (digest of the ``cohort``).

    What has to come before it, up to the allocation, is :mod:`dura_client.review.approval`'s.

    Raises:
        StateError: no offer fits the reference.
        NotAuthentic: the offer does not verify, its roster is older than the one known here, or too few founders have
            countersigned it.
    """
    found = find_offer(home, reference, now)
    here = found.here
    try:
        here.require_peace()
        here.require_founded()
    except NoQuorum as error:
        raise NotAuthentic(
            error.message, RefusalReason.OTHER_ROSTER, hint="More founders must join; then the study is offered again."
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
    return _approved(load_checked(load_membership(home), reference, now), decision, now)


def _approved(checked: CheckedOffer, decision: Decision, now: datetime) -> ApprovedStudy:
    """Return an approved study; every rule of the module is checked against one view of members and keys."""
    here, reference = checked.here, checked.digest
    approval, choice = _read_decision(here, decision)
    if (approval.study, approval.site, choice.study) != (reference, here.card.name, reference):
        raise NotAuthentic("the stored approval is for another study or site")
    if approval.roster != checked.roster_digest:
        raise NotAuthentic("the study was approved for another roster", RefusalReason.OTHER_ROSTER)
    if now > approval.expires:
        raise NotAuthentic("the approval has expired", RefusalReason.EXPIRED)
    if now + CLOCK_SKEW < approval.approved:
        raise NotAuthentic("the approval was given in the future: this machine's clock went back")
    check_parties(checked)
    confirmed = here.people.confirmed_names(checked.roster)
    return ApprovedStudy(reference, checked.study, choice.dataset, checked.roster, choice.cohort, here, confirmed)


def _read_decision(here: Membership, decision: Decision) -> tuple[Approval, Choice]:
    key = decode_identity(here.card.identity)  # the roster vouches for it, see check_offer
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

"""The health of a site: what is running, what is waiting, and what needs a person, graded for people and monitors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dura_client.consortium.membership import Membership, contradictions, has_joined, load_membership, pending
from dura_client.consortium.witness import load_witnessed
from dura_client.ledger.place import site_ledger
from dura_client.node.preflight import check_coordinator
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.studies.approvals import OfferedStudy, list_offers
from dura_common.consortium.identity import load_certificate
from dura_common.runtime import running
from dura_common.runtime.conditions import (
    CERTIFICATE_DAYS,
    ROSTER_DAYS,
    Condition,
    Grade,
    looked_at,
    of_disk,
    of_end,
    of_service,
    sorted_by_urgency,
)
from dura_common.runtime.files import read_limited


@dataclass(frozen=True, slots=True)
class StudyHere:
    """One approved study as this site sees it."""

    digest: str
    name: str
    draws: int
    """Draws that began."""
    redraws: int
    open: bool
    """Whether draws may still begin."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one site."""

    node: dict[str, Any]
    """The answer of :func:`dura_common.runtime.running.status`."""
    studies: tuple[StudyHere, ...]
    conditions: tuple[Condition, ...]
    """The most urgent first."""

    @property
    def grade(self) -> Grade:
        """The grade of the most urgent condition."""
        return max((one.grade for one in self.conditions), default=Grade.OK)


def health(home: SiteHome, clock: Callable[[], datetime]) -> Health:
    """Check everything; what cannot be read becomes a condition, not an error.

    Args:
        home: the site's folder.
        clock: returns the present time (UTC).
    """
    node, studies = running.status(home.run), list[StudyHere]()
    found = [*of_service(node, what="node", name="the node is", consequence="no study can go on at this site")]
    found += of_disk(home.path)
    if has_joined(home):
        found += looked_at("members", lambda: _members(home, clock()))
        found += looked_at("coordinator", lambda: _coordinator(load_membership(home), clock))
        found += looked_at("studies", lambda: _studies(home, clock(), studies))
    else:
        found.append(Condition(Grade.WARNING, "members", "this site has not joined a consortium yet"))
    return Health(node, tuple(studies), sorted_by_urgency(found))


def _members(home: SiteHome, now: datetime) -> Iterator[Condition]:
    here = load_membership(home)
    certificate = load_certificate(read_limited(home.consortium / "certificate.pem", what="the site's certificate"))
    yield from of_end("certificate", "the site's certificate", certificate.not_valid_after_utc, now, CERTIFICATE_DAYS)
    yield from of_end("roster", f"roster {here.roster.serial}", here.roster.expires, now, ROSTER_DAYS)
    for serial in contradictions(home):
        yield Condition(Grade.CRITICAL, "rosters", f"two different rosters of serial {serial} are known")
    waiting = len(pending(home))
    if waiting:
        yield Condition(Grade.WARNING, "rosters", f"rosters wait for this site's countersignature: {waiting}")
    ahead = [one.name for one in load_witnessed(home).seen if one.serial > here.roster.serial]
    if ahead:
        sentence = f"these members follow a newer roster than this site: {', '.join(ahead)}"
        yield Condition(Grade.WARNING, "rosters", sentence)


def _coordinator(here: Membership, clock: Callable[[], datetime]) -> Iterator[Condition]:
    address = here.roster.fleet
    if not check_coordinator(address, here.authority_file, clock):
        yield Condition(Grade.WARNING, "coordinator", f"the coordinator does not answer at {address}")


def _studies(home: SiteHome, now: datetime, into: list[StudyHere]) -> Iterator[Condition]:
    offers = list_offers(home, now)
    undecided = [offer.study.name for offer in offers if offer.state == "offered"]
    if undecided:
        yield Condition(Grade.WARNING, "offers", f"studies that wait for a decision: {', '.join(undecided)}")
    delta = load_policy(home).delta if home.policy.exists() else 0.5
    if not home.policy.exists():
        yield Condition(Grade.WARNING, "policy", "there is no policy, so nothing leaves this site")
    spending = {one.study: one for one in site_ledger(home).studies(delta)}
    for offer in offers:
        spent = spending.get(offer.digest)
        if offer.state == "approved" and spent is not None:
            into.append(StudyHere(offer.digest, offer.study.name, spent.draws, spent.redraws, spent.state == "open"))
            if spent.redraws:
                yield _redrawn(offer, spent.redraws)


def _redrawn(offer: OfferedStudy, count: int) -> Condition:
    sentence = f"draws of {offer.study.name} that were repeated after a lost sum: {count}; many can mean an attack"
    return Condition(Grade.WARNING, "redraws", sentence)

"""The health of a site: what is running, what is waiting, and what needs a person, graded for people and monitors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from dura_client.consortium.membership import Membership, contradictions, has_joined, load_membership, pending
from dura_client.consortium.witness import load_witnessed
from dura_client.ledger.place import site_ledger
from dura_client.node.preflight import check_coordinator
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.studies.approvals import OfferedStudy, list_offers
from dura_common.consortium.identity import load_certificate
from dura_common.errors import DuraError
from dura_common.runtime import running
from dura_common.runtime.files import read_limited

CERTIFICATE_DAYS = 30
"""A certificate that expires sooner must be renewed by somebody."""
ROSTER_DAYS = 14
DISK_WARNING, DISK_CRITICAL = 2 << 30, 200 << 20
"""Free bytes: recordings are prepared on this disk; below the lower bound the ledger may fail to write."""


class Grade(IntEnum):
    """How urgent something is; the number is the exit code of a check, as monitors know it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that somebody should know."""

    grade: Grade
    what: str
    """A word for scripts."""
    sentence: str


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
    found: list[Condition] = []
    node, studies = running.status(home.run), list[StudyHere]()

    def look(what: str, part: Callable[[], Iterator[Condition]]) -> None:
        try:
            found.extend(part())
        except DuraError as error:
            found.append(Condition(Grade.CRITICAL, what, error.message))

    look("node", lambda: _node(node))
    look("disk", lambda: _disk(home))
    if has_joined(home):
        look("members", lambda: _members(home, clock()))
        look("coordinator", lambda: _coordinator(load_membership(home), clock))
        look("studies", lambda: _studies(home, clock(), studies))
    else:
        found.append(Condition(Grade.WARNING, "members", "this site has not joined a consortium yet"))
    return Health(node, tuple(studies), tuple(sorted(found, key=lambda one: (-one.grade, one.what))))


def _node(node: dict[str, Any]) -> Iterator[Condition]:
    if not node["running"]:
        yield Condition(Grade.CRITICAL, "node", "the node is not running; no study can go on at this site")
        return
    if not node["ready"]:
        yield Condition(Grade.WARNING, "node", "the node is starting")
    for child in node["children"]:
        if child["restarts"]:
            sentence = f"{child['name']} was started again {child['restarts']} times; its log says why it ended"
            yield Condition(Grade.WARNING, "restarts", sentence)


def _disk(home: SiteHome) -> Iterator[Condition]:
    if not home.path.exists():
        yield Condition(Grade.CRITICAL, "disk", f"{home.path} does not exist")
        return
    free = shutil.disk_usage(home.path).free
    if free < DISK_WARNING:
        grade = Grade.CRITICAL if free < DISK_CRITICAL else Grade.WARNING
        yield Condition(grade, "disk", f"{free >> 20} MiB are free on the disk of {home.path}")


def _members(home: SiteHome, now: datetime) -> Iterator[Condition]:
    here = load_membership(home)
    certificate = load_certificate(read_limited(home.consortium / "certificate.pem", what="the site's certificate"))
    yield from _ends("certificate", "the site's certificate", certificate.not_valid_after_utc, now, CERTIFICATE_DAYS)
    yield from _ends("roster", f"roster {here.roster.serial}", here.roster.expires, now, ROSTER_DAYS)
    for serial in contradictions(home):
        yield Condition(Grade.CRITICAL, "rosters", f"two different rosters of serial {serial} are known")
    waiting = len(pending(home))
    if waiting:
        yield Condition(Grade.WARNING, "rosters", f"rosters wait for this site's countersignature: {waiting}")
    ahead = [one.name for one in load_witnessed(home).seen if one.serial > here.roster.serial]
    if ahead:
        sentence = f"these members follow a newer roster than this site: {', '.join(ahead)}"
        yield Condition(Grade.WARNING, "rosters", sentence)


def _ends(what: str, name: str, end: datetime, now: datetime, days: int) -> Iterator[Condition]:
    if now > end:
        yield Condition(Grade.CRITICAL, what, f"{name} has expired on {end:%Y-%m-%d}")
    elif end - now < timedelta(days=days):
        yield Condition(Grade.WARNING, what, f"{name} expires on {end:%Y-%m-%d}")


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

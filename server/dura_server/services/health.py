"""The health of a coordinator: what is running, what waits for whom, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dura_common.consortium.identity import load_certificate
from dura_common.consortium.roster import Roster
from dura_common.errors import DuraError, HostError, StateError
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
from dura_server.consortium.enrolment import read_roster, standing
from dura_server.home import CoordinatorHome
from dura_server.services.superlink import Contact, contacts
from dura_server.studies.queue import wanted
from dura_server.studies.standing import phase_of
from dura_server.studies.state import ACTIVE
from dura_server.studies.store import StudyStore
from dura_server.sums.client import standings

SHORT_DIGEST = 12
"""Characters of a study's digest that people and the other commands use."""


@dataclass(frozen=True, slots=True)
class SiteThere:
    """One site of the roster as the coordinator sees it."""

    name: str
    connected: bool | None
    """None if the services cannot tell."""
    last_contact: datetime | None


@dataclass(frozen=True, slots=True)
class StudyThere:
    """One study that is under way, in the queue, or needs a person."""

    digest: str
    name: str
    phase: str
    round: int
    rounds: int
    redraws: int
    given_up: int
    waits_for: str
    """Empty if it waits for nobody."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one coordinator."""

    services: dict[str, Any]
    """The answer of :func:`dura_common.runtime.running.status`."""
    sites: tuple[SiteThere, ...]
    studies: tuple[StudyThere, ...]
    sessions: tuple[dict[str, Any], ...] | None
    """Open secure sums; None if the aggregation service does not answer."""
    conditions: tuple[Condition, ...]
    """The most urgent first."""

    @property
    def grade(self) -> Grade:
        """The grade of the most urgent condition."""
        return max((one.grade for one in self.conditions), default=Grade.OK)


def health(home: CoordinatorHome, now: datetime) -> Health:
    """Check everything; what cannot be read becomes a condition, not an error.

    Raises:
        StateError: there is no coordinator here.
    """
    if not home.settings.exists():
        raise StateError(f"there is no coordinator at {home.path}", hint="Create one with `dura coordinator init`.")
    services = running.status(home.run)
    sites, studies = list[SiteThere](), list[StudyThere]()
    sessions = _sessions(home) if services["running"] else ()
    found = [*of_service(services, what="services", name="the services are", consequence="no site can connect")]
    if sessions is None:
        found.append(Condition(Grade.CRITICAL, "sums", "the aggregation service does not answer"))
    found += of_disk(home.path)
    found += looked_at("certificate", lambda: _certificate(home, now))
    found += looked_at("rosters", lambda: _rosters(home, now))
    found += looked_at("sites", lambda: _sites(home, services["running"], sites))
    found += looked_at("studies", lambda: _studies(home, sessions or (), studies))
    return Health(services, tuple(sites), tuple(studies), sessions, sorted_by_urgency(found))


def _certificate(home: CoordinatorHome, now: datetime) -> Iterator[Condition]:
    for name, what in (("server.pem", "the server's certificate"), ("authority.pem", "the service's authority")):
        certificate = load_certificate(read_limited(home.keys / name, what=what))
        yield from of_end("certificate", what, certificate.not_valid_after_utc, now, CERTIFICATE_DAYS)


def _rosters(home: CoordinatorHome, now: datetime) -> Iterator[Condition]:
    roster, _ = read_roster(home)
    yield from of_end("roster", f"roster {roster.serial}", roster.expires, now, ROSTER_DAYS)
    for one, said, needed, in_force in standing(home):
        if not in_force:
            missing = f"{len(said)} of {needed} needed sites have countersigned it"
            yield Condition(Grade.WARNING, "rosters", f"roster {one.serial} is not in force: {missing}")


def _sites(home: CoordinatorHome, runs: bool, into: list[SiteThere]) -> Iterator[Condition]:
    roster, _ = read_roster(home)
    known = _contacts(home, roster) if runs else None
    for site in sorted(roster.sites, key=lambda one: one.name):
        there = None if known is None else known[site.name]
        into.append(
            SiteThere(site.name, None, None) if there is None else SiteThere(site.name, there.connected, there.last)
        )
    if runs and known is None:
        yield Condition(Grade.CRITICAL, "sites", "the SuperLink does not answer, so no site can be seen")
    away = [one.name for one in into if one.connected is False]
    if away:
        yield Condition(Grade.WARNING, "sites", f"sites that are not connected: {', '.join(away)}")


def _contacts(home: CoordinatorHome, roster: Roster) -> dict[str, Contact] | None:
    try:
        return contacts(home, roster)
    except HostError:
        return None


def _studies(
    home: CoordinatorHome, sessions: tuple[dict[str, Any], ...], into: list[StudyThere]
) -> Iterator[Condition]:
    store = StudyStore(home)
    for digest in store.digests():
        try:
            stored = store.load(digest)
        except DuraError as error:
            yield Condition(Grade.CRITICAL, "studies", f"the study {digest[:SHORT_DIGEST]}: {error.message}")
            continue
        phase, state, name = phase_of(stored), stored.read_state(), stored.study.name
        if phase in ACTIVE or wanted(stored) is not None:
            waits = state.message if phase in {"queued", "unapproved"} else _missing(digest, sessions)
            place = (state.round, state.rounds, state.redraws, state.given_up)
            into.append(StudyThere(digest, name, phase, *place, waits))
            if state.redraws:
                sentence = f"draws of {name} that were repeated after a loss: {state.redraws}"
                yield Condition(Grade.WARNING, "redraws", sentence)
            if state.interruptions:
                sentence = f"the process of {name} was lost and started again {state.interruptions} times"
                yield Condition(Grade.WARNING, "interruptions", sentence)
        elif phase in {"failed", "interrupted"}:
            yield Condition(Grade.WARNING, "studies", f"the study {name} is {phase}: {state.message}")


def _missing(digest: str, sessions: tuple[dict[str, Any], ...]) -> str:
    names = [name for one in sessions if digest.startswith(one["study"]) for name in one["missing"]]
    return f"waits for {', '.join(names)}" if names else ""


def _sessions(home: CoordinatorHome) -> tuple[dict[str, Any], ...] | None:
    try:
        found = standings(home)
    except HostError:
        return None
    return tuple(
        {
            "study": one.study[:SHORT_DIGEST],
            "purpose": one.purpose,
            "round": one.round,
            "attempt": one.attempt,
            "opened": one.opened,
            "sums": one.sums,
            "present": list(one.attending),
            "missing": sorted(set(one.members) - set(one.attending)),
        }
        for one in found
    )

"""A lying authority against four honest hospitals, in any order: whoever takes part in a study was countersigned.

The authority signs any rosters it likes: true ones, with invented members, with swapped or lost keys, two of one
serial, with signatures from elsewhere. Three of its friends are on no roster at the beginning and countersign whatever
it wants once they are. Honest officers countersign only rosters whose every change they have asked about: friends may
come, and west may go. After each action the members that any hospital follows must be ones that more than half of the
sites before them had countersigned, and no honest hospital's name stands for keys that its people did not make.
"""

from __future__ import annotations

import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.common.consortium.rosters import Person, after, signed
from tests.support.consortium import NOW, Consortium, gather, root_key
from tests.support.studies import study

from dura_client.consortium.countersign import confirm_pending, waiting_changes
from dura_client.consortium.membership import load_membership, pending, take
from dura_client.studies.approvals import approve, receive_offer, require_approved
from dura_common.consortium.chain import COUNTERSIGNATURE_TYPE, Link
from dura_common.consortium.envelope import payload_of, verify
from dura_common.consortium.roster import Roster, read_claimed_roster, roster_digest
from dura_common.errors import DuraError
from dura_common.messages import Offer
from dura_server.consortium import enrolment as coordinator_side
from dura_server.studies.researcher import sign_study

pytestmark = pytest.mark.long

NAMES = ("east", "north", "south", "west")
FRIENDS = ("clinic-a", "clinic-b", "clinic-c")
PEOPLE: dict[str, Person] = {}
MOST = 40
"""Countersignatures of one roster."""


def _person(name: str) -> Person:
    """Return an invented member; making keys again for each example would take most of the time."""
    return PEOPLE.setdefault(name, Person(name.split("/", maxsplit=1)[0]))


class LyingAuthority(RuleBasedStateMachine):
    """Everything that the authority and its friends can do, and what honest officers do."""

    @initialize()
    def found(self) -> None:
        """Four hospitals and a researcher join."""
        self.folder = tempfile.TemporaryDirectory(prefix="dura-machine-")
        self.made = Consortium(Path(self.folder.name), NAMES)
        self.made.make_all()
        self.root = root_key(self.made.coordinator)
        roster, envelope = coordinator_side.newest(self.made.coordinator)
        self.true = {site.name: site.fingerprint() for site in roster.sites}
        self.links = {roster_digest(envelope): gather(self.made.coordinator, self.made.joined())[0]}
        self.when = NOW

    def teardown(self) -> None:
        """Delete the folder."""
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def _roster(self, digest: str) -> Roster:
        return read_claimed_roster(self.links[digest].roster)

    def _issue(self, base: str, entries: list[Any], **changes: Any) -> None:
        old = self._roster(base)
        self.when += timedelta(minutes=1)
        new = after(old, self.links[base].roster, self.when, entries, **changes)
        text = signed(new, self.root)
        words = [
            _person(name).countersign(new, text, NAMES)
            for name in FRIENDS
            if old.site(name) is not None and old.site(name) == _person(name).entry(old.site(name).since)  # type: ignore[union-attr]
        ]
        self.links[roster_digest(text)] = Link(roster=text, countersignatures=tuple(words))

    @rule(data=st.data(), name=st.sampled_from(FRIENDS))
    def admit_a_friend(self, data: st.DataObject, name: str) -> None:
        """A true roster, as far as it goes: somebody new."""
        base = data.draw(st.sampled_from(list(self.links)))
        old = self._roster(base)
        if old.site(name) is None:
            moment = self.when + timedelta(minutes=1)
            self._issue(base, [*old.members, _person(name).entry(moment)])

    @rule(data=st.data(), name=st.sampled_from(NAMES), lost=st.booleans())
    def swap_a_key(self, data: st.DataObject, name: str, lost: bool) -> None:
        """An honest hospital's name with keys of the authority's own."""
        base = data.draw(st.sampled_from(list(self.links)))
        old = self._roster(base)
        moment = self.when + timedelta(minutes=1)
        evil = _person(f"{name}/evil").entry(moment, lost=lost)
        self._issue(base, [member for member in old.members if member.name != name] + [evil])

    @rule(data=st.data(), name=st.sampled_from(NAMES), hidden=st.booleans())
    def remove(self, data: st.DataObject, name: str, hidden: bool) -> None:
        """A hospital is taken off, with a tombstone or without."""
        base = data.draw(st.sampled_from(list(self.links)))
        old = self._roster(base)
        changes = {"gone": old.gone} if hidden else {}
        if len(old.sites) > 1:
            self._issue(base, [member for member in old.members if member.name != name], **changes)

    @rule(data=st.data())
    def move_signatures(self, data: st.DataObject) -> None:
        """Countersignatures of one roster are put under another one."""
        one, two = (data.draw(st.sampled_from(list(self.links))) for _ in range(2))
        words = (*self.links[two].countersignatures, *self.links[one].countersignatures)
        # The same signature may stand there several times; without a bound, each move could double them.
        self.links[two] = self.links[two].model_copy(update={"countersignatures": words[:MOST]})

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def show(self, data: st.DataObject, name: str) -> None:
        """A hospital is shown some of the rosters, in any order."""
        chosen = data.draw(st.lists(st.sampled_from(list(self.links)), max_size=6))
        try:
            take(self.made.site(name), [self.links[digest] for digest in chosen])
        except DuraError:
            return

    @rule(name=st.sampled_from(NAMES))
    def ask_the_officer(self, name: str) -> None:
        """An honest officer asks about every change, and countersigns what the people there say."""
        home = self.made.site(name)
        rows = waiting_changes(home)
        fine = rows and all(
            not {*differs.new, *differs.removed} & set(NAMES[:3])
            and not set(differs.new) & set(NAMES)
            and all(site.fingerprint() == self.true.get(site.name, site.fingerprint()) for site in roster.sites)
            and roster.root == before.root
            for before, roster, _, differs in rows
        )
        if not fine:
            return
        try:
            confirm_pending(home, pending(home))
        except DuraError:
            return
        for path in (home.consortium / "own").glob("*.json"):
            for digest, link in self.links.items():
                text = path.read_text()
                if text not in link.countersignatures and digest in _said(text):
                    words = (*link.countersignatures, text)
                    self.links[digest] = link.model_copy(update={"countersignatures": words})

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def offer(self, data: st.DataObject, name: str) -> None:
        """A study under any roster is offered and approved wherever that goes: then its members must be right."""
        digest = data.draw(st.sampled_from(list(self.links)))
        roster = self._roster(digest)
        sites = dict.fromkeys([site.name for site in roster.sites], 40)
        if len(sites) < 2:
            return
        home = self.made.site(name)
        try:
            text, reference = sign_study(self.made.researcher, study(sites=sites), self.links[digest].roster)
            links = tuple(self._chain(digest))
            receive_offer(home, Offer(study=text, roster=self.links[digest].roster, links=links), self.when)
            approve(home, reference, "ward-3", self.when)
            running = require_approved(home, reference, self.when)
        except DuraError:
            return
        assert roster_digest(self.links[digest].roster) == digest
        self._check(running.roster, digest)

    def _chain(self, digest: str) -> list[Link]:
        chain = [self.links[digest]]
        while (before := read_claimed_roster(chain[0].roster).previous) is not None:
            chain.insert(0, self.links[before])
        return chain

    def _check(self, roster: Roster, digest: str) -> None:
        """Assert that a quorum of honest countersigners or of true members stands behind every step of a chain."""
        assert all(self.true[name] == site.fingerprint() for name in NAMES if (site := roster.site(name)) is not None)
        for link in self._chain(digest)[1:]:
            new = read_claimed_roster(link.roster)
            assert new.previous is not None
            old = self._roster(new.previous)
            assert len(signers(link, old)) >= max(len(old.sites) // 2 + 1, 2)

    @invariant()
    def followed_rosters_were_countersigned(self) -> None:
        """What any hospital follows is what a quorum of the sites before has countersigned."""
        for name in NAMES if hasattr(self, "made") else ():
            here = load_membership(self.made.site(name))
            self._check(here.roster, here.digest)


def _said(text: str) -> str:
    return payload_of(text).decode()


def signers(link: Link, old: Roster) -> set[str]:
    """Return whose signature under this roster's digest holds, counted apart from the code under test."""
    found = set()
    for text in link.countersignatures:
        for site in old.sites:
            try:
                word = json.loads(verify(text, COUNTERSIGNATURE_TYPE, [site.identity_key()]))
            except DuraError:
                continue
            if (word["roster"], word["site"]) == (roster_digest(link.roster), site.name):
                found.add(site.name)
    return found


TestLyingAuthority = LyingAuthority.TestCase
TestLyingAuthority.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)

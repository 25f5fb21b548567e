"""Whole studies under a coordinator that lies: real gates, ledgers, cohorts and secure sums of three hospitals.

Two worlds are led through the same actions. They differ in the data of one patient: in the second world that patient
withdraws, and the recordings are lost. After every action:

- every opened sum holds as many sites as its study demands, is the exact sum of vectors that left, and no vector is in
  two of them, so that any combination of sums depends on all sites of at least one of them;
- every vector that left has a begun draw of its own, no more of them than were declared, and what everybody was charged
  covers them at the study's delta and at the policy's;
- two hospitals that collude with the coordinator subtract their own vectors from every sum: what is left of the third
  one is never the same vector twice, and is paid for each time;
- both worlds have answered the same;
- whoever is a member of an opened sum has the keys that this hospital's people made, and every roster that a hospital
  follows was countersigned by a quorum of the sites before it.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.attacks.draws.hospital import DELTA, NOW, label
from tests.attacks.draws.meeting import CAP, SITES, World
from tests.attacks.membership.test_machine import signers
from tests.common.consortium.rosters import Person, after, signed
from tests.support.consortium import Consortium, root_key

from dura_client.consortium.countersign import confirm_pending
from dura_client.consortium.membership import load_membership
from dura_client.consortium.rosters import followed, read_link
from dura_client.patients.withdrawal import withdraw
from dura_client.review.approval import decline_study
from dura_common.consortium.chain import Link
from dura_common.consortium.roster import Roster, read_claimed_roster, roster_digest
from dura_common.errors import DuraError
from dura_common.messages import AskRoster, EvaluateRound, RefusalReason, TrainRound, encode
from dura_common.privacy.blocks import blocks_of
from dura_common.study import Study


class WholeStudies(RuleBasedStateMachine):
    """See the module."""

    template: tuple[Path, dict[str, Study], Roster]
    folder: Path
    count = 0

    def __init__(self) -> None:
        super().__init__()
        WholeStudies.count += 1
        root, digests, roster = self.template
        self.worlds = []
        for which in ("first", "second"):
            copy = Path(shutil.copytree(root, self.folder / f"{self.count}-{which}"))
            for name in SITES:  # each world has recordings of its own
                path = copy / name / "data" / "motor.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), "root": str(copy / "bids")}))
            world = World(Consortium(copy, SITES), digests, roster)
            for name in SITES:
                world.start(name)
            self.worlds.append(world)
        self.names = {asked.name: digest for digest, asked in digests.items()}
        self.attempts: dict[tuple[str, str, int], int] = {}
        self.differ = False
        self.rosters = [(roster, self.worlds[0].consortium.roster()[1])]
        self.true = {site.name: site.identity_key().public_bytes_raw() for site in roster.sites}
        self.people = 0

    def teardown(self) -> None:
        """Remove both worlds."""
        for world in self.worlds:
            shutil.rmtree(world.consortium.root)

    def _attempt(self, name: str, purpose: str, number: int, *, fresh: bool) -> int:
        key = (name, purpose, number)
        if fresh:
            self.attempts[key] = self.attempts.get(key, 0) + 1
        return max(self.attempts.get(key, 1), 1)

    @rule(
        name=st.sampled_from(("alone", "shared")),
        number=st.integers(1, 2),
        fresh=st.sampled_from((True, True, True, False)),
        out=st.sampled_from((None, None, *SITES)),
        behaviour=st.sampled_from(("honest", "silent", "silent", "lose")),
        victim=st.sampled_from(SITES),
        first=st.sampled_from((1, 1, 2)),
    )
    def train(
        self, name: str, number: int, fresh: bool, out: str | None, behaviour: str, victim: str, first: int
    ) -> None:
        """Ask for a round, with a new or an old number, of all sites or some, honestly or not."""
        members = tuple(site for site in SITES if site != out or name == "shared")  # which needs all three
        request = TrainRound(
            study=self.names[name],
            round=number if name == "alone" else 1,
            attempt=self._attempt(name, "train", number, fresh=fresh),
            members=members,
            first_step=first if name == "shared" else 1,
        )
        for world in self.worlds:
            world.ask(request, behaviour, victim)

    @rule(name=st.sampled_from(("alone", "shared")), out=st.sampled_from((None, *SITES)))
    def again(self, name: str, out: str | None) -> None:
        """Open a sum in silence and ask for it again, of all sites or of all but one: their difference is the aim."""
        for members in (None, out, out, None):
            self.train(name, 1, True, members, "silent", "east", 1)

    @rule(
        name=st.sampled_from(("alone", "shared")),
        number=st.integers(1, 2),
        fresh=st.booleans(),
        behaviour=st.sampled_from(("honest", "silent", "lose")),
        victim=st.sampled_from(SITES),
    )
    def evaluate(self, name: str, number: int, fresh: bool, behaviour: str, victim: str) -> None:
        """Ask for an evaluation."""
        number = number if name == "alone" else 1
        attempt = self._attempt(name, "evaluate", number, fresh=fresh)
        request = EvaluateRound(study=self.names[name], round=number, attempt=attempt, members=SITES)
        for world in self.worlds:
            world.ask(request, behaviour, victim)

    @rule(kind=st.sampled_from(("invented", "swapped")), confirmed=st.booleans())
    def other_roster(self, kind: str, confirmed: bool) -> None:
        """The authority signs a further roster: with an invented hospital, or with keys of its own for the north.

        Two officers countersign the first kind if they are asked to. Nobody countersigns the second.
        """
        old, before = self.rosters[-1]
        self.people += 1
        person = Person("north" if kind == "swapped" else f"clinic-{self.people}")
        entries = [member for member in old.members if member.name != person.name] + [person.entry(NOW)]
        new = after(old, before, NOW, entries)
        text = signed(new, root_key(self.worlds[0].consortium.coordinator))
        words: tuple[str, ...] = ()
        for world in self.worlds:
            self._show(world, Link(roster=text, countersignatures=()))
            if kind == "invented" and confirmed:
                words = tuple(self._countersigned(world, name) for name in ("east", "south"))
                self._show(world, Link(roster=text, countersignatures=tuple(word for word in words if word)))
        if load_membership(self.worlds[0].consortium.site("east")).digest == roster_digest(text):
            self.rosters.append((new, text))

    def _show(self, world: World, link: Link) -> None:
        for name in SITES:
            world.services[name].answer(encode(AskRoster(links=(link,))), None)

    def _countersigned(self, world: World, name: str) -> str:
        home = world.consortium.site(name)
        try:
            _, (serial, *_) = confirm_pending(home)
        except DuraError:  # two rosters of one serial are known: an officer decides nothing before that is settled
            return ""
        return (home.consortium / "own" / f"{serial:06d}.json").read_text()

    @rule(name=st.sampled_from(SITES))
    def restart(self, name: str) -> None:
        """Kill a hospital's process and start another one."""
        for world in self.worlds:
            world.start(name)

    @rule(name=st.sampled_from(SITES))
    def newcomer(self, name: str) -> None:
        """A patient joins a hospital's data set."""
        for world in self.worlds:
            target = world.consortium.root / "bids" / "sub-900"
            if not target.exists():
                shutil.copytree(world.consortium.root / "bids" / f"sub-{label(2)}", target)
            world.start(name)

    @precondition(lambda self: not self.differ)
    @rule()
    def one_patient_differs(self) -> None:
        """In one world a patient withdraws everywhere and the recordings are lost."""
        self.differ = True
        world = self.worlds[1]
        for name in SITES:
            withdraw(world.consortium.site(name), label(1), "motor")
        shutil.rmtree(world.consortium.root / "bids" / f"sub-{label(1)}")

    @rule(name=st.sampled_from(("alone", "shared")), site=st.sampled_from(SITES))
    def decline(self, name: str, site: str) -> None:
        """A hospital ends its part in a study."""
        for world in self.worlds:
            decline_study(world.consortium.site(site), self.names[name])

    @invariant()
    def sums_hide_sites(self) -> None:
        """No vector is in two opened sums, and no sum holds too few."""
        for world in self.worlds:
            used: set[tuple[str, bytes, int]] = set()
            vectors = {(one.site, one.session, one.step): one for one in world.sent}
            assert len(vectors) == len(world.sent)
            for digest, params, opened in world.opened:
                rules = world.digests[digest].aggregation
                assert len(opened.contributors) >= rules.minimum_sites
                names = {(name, params.session_id, opened.step) for name in opened.contributors}
                assert not names & used
                used |= names
                total = np.sum([vectors[name].values.astype(np.int64) for name in names], axis=0)
                assert np.array_equal(total, opened.total)
            for site in SITES:
                mine = [one.values.tobytes() for one in world.sent if one.site == site]
                assert len(set(mine)) == len(mine)

    @invariant()
    def colluders_see_each_vector_once(self) -> None:
        """Two hospitals know their own vectors; the rest of each sum is a vector of the third, in no other sum."""
        for world, victim in itertools.product(self.worlds, SITES):
            vectors = {(one.site, one.session, one.step): one.values.astype(np.int64) for one in world.sent}
            rests = []
            for _, params, opened in world.opened:
                others = [name for name in opened.contributors if name != victim]
                known = [vectors[name, params.session_id, opened.step] for name in others]
                if victim in opened.contributors:
                    rests.append((opened.total - np.sum(known, axis=0)).tobytes())
            begun = sum(row.kind == "begin" for row in world.ledger(victim).entries())
            assert len(set(rests)) == len(rests) <= begun

    @invariant()
    def members_are_countersigned(self) -> None:
        """No sum was opened under keys that a hospital did not make, and no roster is followed without a quorum."""
        for world in self.worlds:
            for _, params, _ in world.opened:
                assert all(self.true[member.name] == member.identity for member in params.members)
            for name in SITES:
                home = world.consortium.site(name)
                links = [read_link(path) for path in reversed(followed(home))]
                assert load_membership(home).digest == roster_digest(links[-1].roster)
                for earlier, link in itertools.pairwise(links):
                    old = read_claimed_roster(earlier.roster)
                    assert len(signers(link, old)) >= max(len(old.sites) // 2 + 1, 2)

    @invariant()
    def everybody_has_paid(self) -> None:
        """Draws that began cover the vectors that left, and what was charged covers the draws."""
        for world in self.worlds:
            for site in SITES:
                ledger = world.ledger(site)
                ledger.verify()
                rows = [row for row in ledger.entries() if row.kind == "begin"]
                assert len(rows) >= sum(one.site == site for one in world.sent)
                for digest, asked in world.digests.items():
                    begun = [row for row in rows if row.study == digest]
                    for block in blocks_of(asked):
                        mine = [row for row in begun if (row.purpose, row.round) == (block.name, block.round)]
                        assert len({row.repeat for row in mine}) == len(mine) <= block.draws
                    if begun:
                        assert 0 < ledger.spent(getattr(asked.privacy, "delta", 0.0), digest) <= 8.0
                assert ledger.spent(DELTA) <= CAP

    @invariant()
    def no_answer_depends_on_one_patient(self) -> None:
        """Both worlds have answered the same."""
        first, second = self.worlds
        assert first.answers == second.answers

    @invariant()
    def nobody_is_suspected(self) -> None:
        """Hospitals that never go back are never said to."""
        for world in self.worlds:
            words = [answer[1] for answers in world.answers for answer in answers.values()]
            assert RefusalReason.MEMBER_WENT_BACK not in words


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(3, 6), pytest.param(20, 14, marks=[pytest.mark.long, pytest.mark.timeout(1200)])],
    ids=["short", "long"],
)
def test_a_lying_coordinator_breaks_no_promise(
    template: tuple[Path, dict[str, Study], Roster], tmp_path: Path, examples: int, steps: int
) -> None:
    """Attempts, silent openings, losses, restarts, newcomers, withdrawals and refusals over two studies."""
    WholeStudies.template, WholeStudies.folder = template, tmp_path
    run_state_machine_as_test(
        WholeStudies,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, phases=[Phase.generate]
        ),
    )

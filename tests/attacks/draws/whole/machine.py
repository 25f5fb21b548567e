"""Whole studies in two worlds that differ in one patient, led through the same actions; see the test beside it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.attacks.draws.hospital import NOW, label
from tests.attacks.draws.meeting import SITES, World
from tests.attacks.draws.whole import promises
from tests.attacks.draws.whole.template import NEWCOMER, OTHERS, Template, world_of
from tests.common.consortium.rosters import Person, after, signed
from tests.support.consortium import root_key

from dura_client.consortium.countersign import confirm_pending
from dura_client.consortium.membership import load_membership, pending
from dura_client.consortium.people import distrust
from dura_client.data.prepare import pseudonym
from dura_client.patients.withdrawal import withdraw
from dura_client.review.approval import decline_study
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import load_policy, write_policy
from dura_common.consortium.chain import Link
from dura_common.consortium.roster import roster_digest
from dura_common.errors import DuraError
from dura_common.messages import AskRoster, EvaluateRound, TrainRound, encode
from dura_common.policy.rules import Policy

STUDIES = st.sampled_from(("alone", "shared"))
HOSPITALS = st.sampled_from(SITES)
DECISIONS = ("decline", "forbid", "distrust", "withdraw")
"""What people at a hospital may decide, also in the middle of a request."""
DIFFERENCES = ("withdraws", "other recordings", "store is cleaned")
"""How the second world may come to differ: answers may not."""


class WholeStudies(RuleBasedStateMachine):
    """See the module."""

    template: Template
    approved: Mapping[bytes, tuple[str, str]]
    folder: Path
    count = 0

    def __init__(self) -> None:
        super().__init__()
        WholeStudies.count += 1
        _, digests, roster = self.template
        copies = [self.folder / f"{self.count}-{which}" for which in ("first", "second")]
        self.worlds = [world_of(self.template, copy, self.approved) for copy in copies]
        self.names = {asked.name: digest for digest, asked in digests.items()}
        self.attempts: dict[tuple[str, str, int], int] = {}
        self.differ: set[str] = set()
        self.rosters = [(roster, self.worlds[0].consortium.roster()[1])]
        self.true = {site.name: site.identity_key().public_bytes_raw() for site in roster.sites}
        self.people = 0
        self.backups: dict[str, int] = {}
        self.restored: tuple[str, int, int] | None = None

    def teardown(self) -> None:
        """Remove both worlds."""
        for world in self.worlds:
            shutil.rmtree(world.consortium.root)

    def _attempt(self, name: str, purpose: str, number: int, *, fresh: bool) -> int:
        key = (name, purpose, number)
        if fresh:
            self.attempts[key] = self.attempts.get(key, 0) + 1
        return max(self.attempts.get(key, 1), 1)

    def _train(
        self,
        name: str,
        number: int = 1,
        *,
        fresh: bool = True,
        out: str | None = None,
        how: tuple[str, str] = ("honest", "east"),
        first: int = 1,
        meanwhile: Callable[[World], None] = lambda _world: None,
    ) -> None:
        members = tuple(site for site in SITES if site != out)  # of the study "shared" all three are needed
        request = TrainRound(
            study=self.names[name],
            round=number if name == "alone" else 1,
            attempt=self._attempt(name, "train", number, fresh=fresh),
            members=members,
            first_step=first if name == "shared" else 1,
        )
        for world in self.worlds:
            world.ask(request, *how, lambda world=world: meanwhile(world))  # type: ignore[misc]  # a default binds the world

    def _evaluate(
        self, name: str, number: int, *, fresh: bool = True, how: tuple[str, str] = ("honest", "east")
    ) -> None:
        number = number if name == "alone" else 1
        attempt = self._attempt(name, "evaluate", number, fresh=fresh)
        request = EvaluateRound(study=self.names[name], round=number, attempt=attempt, members=SITES)
        for world in self.worlds:
            world.ask(request, *how)

    @rule(
        name=STUDIES,
        number=st.integers(1, 2),
        fresh=st.sampled_from((True, True, True, False)),
        out=st.sampled_from((None, None, *SITES)),
        behaviour=st.sampled_from(("honest", "silent", "silent", "lose", "deaf")),
        victim=HOSPITALS,
        first=st.sampled_from((1, 1, 2)),
    )
    def train(
        self, name: str, number: int, fresh: bool, out: str | None, behaviour: str, victim: str, first: int
    ) -> None:
        """Ask for a round, with a new or an old number, of all sites or some, honestly or not."""
        self._train(name, number, fresh=fresh, out=out, how=(behaviour, victim), first=first)

    @rule(name=STUDIES, out=st.sampled_from((None, *SITES)))
    def again(self, name: str, out: str | None) -> None:
        """Open a sum in silence and ask for it again, of all sites or of all but one: their difference is the aim."""
        for without in (None, out, out, None):
            self._train(name, out=without, how=("silent", "east"))

    @rule(name=STUDIES)
    def replay(self, name: str) -> None:
        """Ask for a round, and send the same request again."""
        self._train(name, how=("silent", "east"))
        self._train(name, fresh=False)

    @rule(name=STUDIES, number=st.integers(1, 2), fresh=st.booleans(), victim=HOSPITALS)
    def evaluate(self, name: str, number: int, fresh: bool, victim: str) -> None:
        """Ask for an evaluation."""
        self._evaluate(name, number, fresh=fresh, how=("honest", victim))

    @rule(name=STUDIES, behaviour=st.sampled_from(("silent", "lose")), victim=HOSPITALS)
    def lost_evaluation(self, name: str, behaviour: str, victim: str) -> None:
        """Say that an evaluation was lost, and ask for it again."""
        for _ in range(2):
            self._evaluate(name, 1, how=(behaviour, victim))

    @rule(name=STUDIES)
    def after_the_end(self, name: str) -> None:
        """Ask for the last evaluation, and then for a round that was never drawn."""
        self._evaluate(name, 2)
        self._train(name, 2)

    @rule(kind=st.sampled_from(("invented", "swapped")), officers=st.integers(0, 2))
    def other_roster(self, kind: str, officers: int) -> None:
        """The authority signs a further roster: with an invented hospital, or with keys of its own for the north.

        So many officers countersign the first kind. Nobody countersigns the second.
        """
        old, before = self.rosters[-1]
        self.people += 1
        person = Person("north" if kind == "swapped" else f"clinic-{self.people}")
        entries = [member for member in old.members if member.name != person.name] + [person.entry(NOW)]
        new = after(old, before, NOW, entries)
        text = signed(new, root_key(self.worlds[0].consortium.coordinator))
        for world in self.worlds:
            self._show(world, Link(roster=text, countersignatures=()))
            if kind == "invented" and officers:
                words = [_countersigned(world, name) for name in ("east", "south")[:officers]]
                self._show(world, Link(roster=text, countersignatures=tuple(word for word in words if word)))
        if load_membership(self.worlds[0].consortium.site("east")).digest == roster_digest(text):
            self.rosters.append((new, text))

    def _show(self, world: World, link: Link) -> None:
        for name in SITES:
            world.services[name].answer(encode(AskRoster(links=(link,))), None)

    @rule(name=HOSPITALS)
    def restart(self, name: str) -> None:
        """Kill a hospital's process and start another one."""
        for world in self.worlds:
            world.start(name)

    @rule(name=HOSPITALS)
    def newcomer(self, name: str) -> None:
        """A patient joins a hospital's data set, and the hospital asks for whatever comes next with a new process."""
        for world in self.worlds:
            bids, who = world.consortium.root / "bids", f"sub-{label(NEWCOMER)}"
            shutil.copytree(world.consortium.root / OTHERS / who, bids / who, dirs_exist_ok=True)
            world.start(name)

    @rule(how=st.sampled_from(DIFFERENCES), name=HOSPITALS, study=STUDIES, under_way=st.booleans())
    def one_patient_differs(self, how: str, name: str, study: str, under_way: bool) -> None:
        """Something befalls one patient of the second world, also in the middle of a request; new processes see it."""
        if how in self.differ:
            return
        self.differ.add(how)
        if under_way:
            self._train(study, meanwhile=lambda world: self._differs(world, how))
        else:
            self._differs(self.worlds[1], how)
        for world in self.worlds:
            world.start(name)
        self._train(study)

    def _differs(self, world: World, how: str) -> None:
        if world is not self.worlds[1]:
            return
        bids = world.consortium.root / "bids"
        if how == "withdraws":
            for name in SITES:
                self._withdraw(world, name, 1)
            shutil.rmtree(bids / f"sub-{label(1)}")
        elif how == "other recordings":
            shutil.rmtree(bids / f"sub-{label(2)}")
            shutil.copytree(world.consortium.root / OTHERS / f"sub-{label(2)}", bids / f"sub-{label(2)}")
        if how != "withdraws":
            for name in SITES:
                shutil.rmtree(world.consortium.site(name).cache, ignore_errors=True)

    def _withdraw(self, world: World, name: str, number: int) -> None:
        home = world.consortium.site(name)
        withdraw(home, label(number), "motor")
        world.eyes.withdrawn.add((name, pseudonym(label(number), SiteKeys(home).pseudonym_key())))

    @rule(what=st.sampled_from(DECISIONS), site=HOSPITALS, study=STUDIES, under_way=st.booleans())
    def decide(self, what: str, site: str, study: str, under_way: bool) -> None:
        """People at a hospital decide something, also in the middle of a request; then the coordinator goes on."""
        if under_way:
            self._train(study, meanwhile=lambda world: self._decided(world, what, site, study))
        else:
            for world in self.worlds:
                self._decided(world, what, site, study)
        self._train(study)

    def _decided(self, world: World, what: str, site: str, study: str) -> None:
        home = world.consortium.site(site)
        if what == "withdraw":
            self._withdraw(world, site, 3)
            return
        ended = [self.names[study]]
        if what == "decline":
            decline_study(home, self.names[study])
        elif what == "forbid":
            write_policy(home, _without(load_policy(home), study), replace=True)
        else:
            other = next(name for name in SITES if name != site)
            distrust(home, self.rosters[0][0], other, "a call", NOW)
            ended = list(self.names.values())
        for digest in ended:
            world.ends(site, digest)

    @precondition(lambda self: self.restored is None)
    @rule(name=HOSPITALS)
    def backup(self, name: str) -> None:
        """Copy a hospital's folder."""
        for world in self.worlds:
            copy = world.consortium.root / f"backup-{name}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(world.consortium.site(name).path, copy)
        self.backups[name] = len(self.worlds[0].sent)

    @precondition(lambda self: self.restored is None)
    @rule(name=HOSPITALS, study=STUDIES)
    def restore(self, name: str, study: str) -> None:
        """Put a backup in the place of a hospital's folder after a round was trained, and ask for the round again."""
        if name not in self.backups:
            self.backup(name)
        self._train(study)
        self.restored = (name, self.backups[name], len(self.worlds[0].sent))
        for world in self.worlds:
            home = world.consortium.site(name).path
            shutil.rmtree(home)
            shutil.copytree(world.consortium.root / f"backup-{name}", home)
            world.start(name)
            world.over = {key: count for key, count in world.over.items() if key[0] != name}
            world.eyes.withdrawn = {item for item in world.eyes.withdrawn if item[0] != name}
            world.accepted = {key: numbers for key, numbers in world.accepted.items() if key[0] != name}
        self._train(study)

    @precondition(lambda self: self.restored is not None)
    @rule(study=STUDIES, number=st.integers(1, 2))
    def believed(self, study: str, number: int) -> None:
        """Let a restored hospital hear old messages, grow alone and be heard while it hears nobody; then ask all."""
        assert self.restored is not None
        name = self.restored[0]
        for world in self.worlds:
            for place in range(len(world.said))[-3:]:
                world.say_again(place, name)
        for _ in range(3):
            request = TrainRound(
                study=self.names[study],
                round=number if study == "alone" else 1,
                attempt=self._attempt(study, "train", number, fresh=True),
                members=SITES,
                first_step=1,
            )
            for world in self.worlds:
                world.ask_alone(request, name)
        self._train(study, number, how=("deaf", name))
        self._train(study, number)

    @invariant()
    def promises_hold(self) -> None:
        """Everything that :mod:`tests.attacks.draws.whole.promises` names holds in both worlds."""
        gone = self.restored
        for world in self.worlds:
            promises.sums_hide_sites(world)
            promises.colluders_see_each_vector_once(world, gone and gone[0])
            promises.members_are_countersigned(world, self.true)
            promises.everybody_has_paid(world, gone and gone[0])
            promises.who_is_over_sends_nothing(world)
            promises.only_the_approved_are_drawn(world)
            promises.numbers_only_grow(world)
            if gone is None:
                promises.nobody_is_suspected(world)
            else:
                promises.who_went_back_sends_nothing(world, *gone)

    @invariant()
    def no_answer_depends_on_one_patient(self) -> None:
        """Both worlds have answered the same."""
        first, second = self.worlds
        assert first.answers == second.answers


def _without(policy: Policy, study: str) -> Policy:
    """Return a policy that forbids a study, and permits no study that it forbade before."""
    if study == "shared":
        return policy.model_copy(update={"epsilon_if_broken": None})
    return policy.model_copy(update={"noise": ("shared",)})


def _countersigned(world: World, name: str) -> str:
    home = world.consortium.site(name)
    try:
        _, (serial, *_) = confirm_pending(home, pending(home))
    except DuraError:  # two rosters of one serial are known: an officer decides nothing before that is settled
        return ""
    return (home.consortium / "own" / f"{serial:06d}.json").read_text()

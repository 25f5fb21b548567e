"""What the coordinator does in a run: offer the study, collect approvals, run rounds, evaluate, keep the outcome.

Steps of :meth:`Rounds.train`:

1. every site of the study is asked for its approval; signatures are verified with the keys of the roster;
2. the newest checkpoint is the state to go on from; at first, the one that the study's public seed gives;
3. each round: sums that an earlier run has kept are followed; a secure session is opened for what is missing, sums come
   back, and the coordinator makes the steps that every site makes, or the average; checkpoint. A request carries the
   state to the sites. It is for one round at first, later for as many as take a minute, which the sites work through
   without another message;
4. after the rounds that the study names: held-out sums, one point of the learning curve;
5. the model is written, the study is finished.

The coordinator never receives a vector of a site, only sums, and each is on disk before anybody hears of it. Whatever
ends a run, the next one goes on from the last opened sum, with the sites that are left. What was lost is drawn again
and paid with a spare draw; without one it is given up, and the study goes on with the next step or round. Every attempt
has a higher number than all before it, through restarts too: sites refuse others.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from dura_common.consortium.chain import Link
from dura_common.errors import HostError
from dura_common.messages import EvaluateRound, SumRound, TrainRound
from dura_common.models import TrainingState, build_model, first_state, to_vector
from dura_common.outputs.duplicates import decode, length_in
from dura_common.outputs.scores import from_integers, length_of, parts_of
from dura_common.privacy.plan import plan_of
from dura_common.secagg import Opened
from dura_common.study import Study
from dura_common.sums.agreed import Agreed, averaged, carried_rule, follow
from dura_server.rounds.asking import Asking, Numbers, Pace, parts_of_request
from dura_server.rounds.checkpoint import Checkpoint, Checkpoints, require_room
from dura_server.rounds.ports import Sites, Vector
from dura_server.rounds.roll import GRACE_SECONDS, Roll
from dura_server.studies.estimate import outcome_from
from dura_server.studies.state import CurvePoint, point_of
from dura_server.studies.store import StoredStudy
from dura_server.sums.kept import Kept, SumLog
from dura_server.sums.ports import Lost, Sessions

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Attempts of one round, in a row and in one run, that may open nothing."""
WORD_BYTES = 8


def first_parameters(study: Study) -> Vector:
    """Return the study's first parameters, 1-D float32, from its public seed."""
    return to_vector(build_model(study))


class Rounds:
    """One study on its way; ``sites`` carries the messages, ``sessions`` opens the sums.

    ``roll`` may have collected the approvals already, before this module was imported.
    """

    def __init__(self, stored: StoredStudy, sites: Sites, sessions: Sessions, roll: Roll | None = None) -> None:
        self._stored = stored
        self._study = stored.study
        self._sites = sites
        self._sessions = sessions
        self._roll = Roll(stored, sites) if roll is None else roll
        self._numbers = Numbers(stored)
        self._kept = SumLog(stored.folder / "sums")
        self._checkpoints = Checkpoints(stored.folder / "checkpoints")
        self._agreed = Agreed(stored.digest, stored.study, stored.roster)
        self._network = build_model(stored.study)
        self._evaluated = stored.study.evaluation.rounds(stored.study.training.rounds)
        self._pace = Pace()
        self._asking: Asking | None = None
        """The request that is under way: sites work through its rounds by themselves."""

    def offer(self, links: tuple[Link, ...] = ()) -> None:
        """Send the study, its roster and the newest ``links`` of rosters to every site that the study lists."""
        self._roll.offer(links)

    def train(self) -> None:
        """Run the whole study, or what is left of it.

        Raises:
            PolicyError: too few approvals.
            HostError: too few sites are left, a round was lost too often, or the disk is full.
            TrustError: a site made other steps from the same sums.
        """
        if not self._roll.asked:
            self._roll.collect_approvals()  # step 1
        before = self._stored.read_state()
        self._stored.update(phase="running", message="")
        last = self._newest(before.round)  # step 2
        curve = list(before.curve)
        for number in range(before.round + 1, self._study.training.rounds + 1):
            self._pace.begin()
            if last.round < number:
                last = self._train_round(number, last)  # step 3
                self._checkpoints.save(last)
            self._kept.drop("train", number)
            if number in self._evaluated:
                curve += self._evaluate(number, last.state)  # step 4
            points = [point.model_dump() for point in curve]
            self._stored.update(round=number, curve=points, given_up=last.given_up)
            self._kept.drop("evaluate", number)
            self._pace.end()
            if self._asking is not None and not self._asking.covers(number + 1):
                self._conclude(number, last.state)
        self._finish(last)  # step 5

    def _newest(self, done: int) -> Checkpoint:
        """Return the newest checkpoint; if the one of the last round that is done was removed, it stands in for it."""
        rule = carried_rule(self._study)
        found = self._checkpoints.newest(moments=rule.moments) or Checkpoint(0, first_state(self._network, rule))
        if found.round >= done:
            return found
        steps = done * self._study.training.steps_per_round
        return Checkpoint(done, replace(found.state, steps=steps), found.given_up)

    def _finish(self, last: Checkpoint) -> None:
        if last.given_up == self._study.training.rounds * self._steps:
            raise HostError(
                "no sum of the training was opened, so there is no model: every draw of the study was lost",
                hint="A study whose sites may be lost needs spare steps (aggregation.spare_steps).",
            )
        self._stored.write_model(last.state.parameters)
        self._stored.update(phase="finished", message="")
        self._kept.clear()

    @property
    def _steps(self) -> int:
        """Sums of a round."""
        return 1 if averaged(self._study) else self._study.training.steps_per_round

    def _train_round(self, number: int, before: Checkpoint) -> Checkpoint:
        """Return where one round leads to, through as many requests as it takes."""
        fruitless, last = 0, 0
        while True:
            state, done, given_up = self._replay(number, before)
            if done == self._steps:
                return Checkpoint(number, state, given_up)
            fruitless, last = (fruitless + 1 if done == last else 1), done
            if fruitless > ATTEMPTS:
                raise HostError(f"round {number} was lost {ATTEMPTS} times", hint="`dura study status` shows why.")
            require_room(self._stored.folder, WORD_BYTES * state.parameters.size * (self._steps - done + 2))
            if self._asking is None:
                self._asking = self._ask(number, done, state)
            self._make_steps(self._asking, number, done, state)

    def _replay(self, number: int, before: Checkpoint) -> tuple[TrainingState, int, int]:
        """Follow the sums of a round that are kept; return the state after them, their number, and all given up."""
        state, done, given_up = before.state, 0, before.given_up
        for kept in self._kept.sums("train", number):
            state, done = self._follow(state, kept.opened), kept.step
            given_up += kept.opened is None
        return state, done, given_up

    def _ask(self, number: int, done: int, state: TrainingState) -> Asking:
        """Return a request for the rest of a round and some rounds after it; it is sent with its first session."""
        members = self._roll.members()
        last = min(number + self._pace.rounds() - 1, self._study.training.rounds)
        request = TrainRound(
            study=self._stored.digest, round=number, attempt=1, members=members, first_step=done + 1, last=last
        )
        attempt = self._numbers.next(*parts_of_request(request, self._evaluated))
        return Asking(self._sites, self._sessions, request.model_copy(update={"attempt": attempt}), state.to_vector())

    def _make_steps(self, asking: Asking, number: int, done: int, state: TrainingState) -> None:
        """Make the rest of a round: every sum that is opened is kept, and a loss leaves the others as they are."""
        asked = asking.request
        rest = TrainRound(
            study=asked.study, round=number, attempt=asked.attempt, members=asked.members, first_step=done + 1
        )
        try:
            while rest.first_step <= self._steps:
                params = self._agreed.training(rest, state=state.digest(), length=state.parameters.size)
                for opened in asking.sums(params):
                    state = self._follow(state, opened)
                    changes = {"members": opened.contributors, "first_step": opened.step + 1}
                    rest = rest.model_copy(update=changes)
        except Lost as lost:
            if self._spent(lost, asking, number):
                self._give_up(rest)

    def _follow(self, state: TrainingState, opened: Opened | None) -> TrainingState:
        """Go on from a sum as every site does; one that was given up leaves the state, and takes its place."""
        if opened is None:
            return replace(state, steps=state.steps + self._study.training.steps_per_round // self._steps)
        return follow(self._study, self._network, state, opened)

    def _conclude(self, number: int, state: TrainingState) -> None:
        """Collect the answers to a request that is over with a round, and compare the states of the sites."""
        asking, self._asking = self._asking, None
        if asking is None:
            return
        self._roll.note_done(asking, number, state.digest())

    def _spent(self, lost: Lost, asking: Asking, number: int) -> bool:
        """Note a loss; return whether a site that still approves has no draw left for what was lost."""
        self._asking = None
        answers = asking.answers(GRACE_SECONDS, lost=lost.gone)
        self._numbers.learn(parts_of_request(asking.request, self._evaluated), answers)
        spent = self._roll.note_loss(asking, number, lost, answers)
        return bool(spent) and bool(self._roll.ask_again(spent, GRACE_SECONDS))

    def _give_up(self, request: SumRound) -> None:
        """Go on without the sum that was lost: it cannot be drawn again, and the next one can be."""
        done = max((kept.step for kept in self._kept.sums("train", request.round)), default=0)
        if done == self._steps:
            return
        log.warning("round %d, sum %d is given up: no spare draw is left", request.round, done + 1)
        self._kept.append("train", request.round, Kept(request.attempt, done + 1, None))

    def _evaluate(self, number: int, state: TrainingState) -> list[CurvePoint]:
        """Return one point of the learning curve; none if its sum was lost and no spare draw is left."""
        if self._asking is not None and not self._asking.covers(number):
            self._conclude(number, state)  # a site was lost in the training: the others have ended the request
        for _ in range(ATTEMPTS):
            kept = next(self._kept.sums("evaluate", number), None)
            if kept is not None and kept.opened is not None:
                return [self._point(number, kept.opened)]
            if not self._ask_scores(number, state.parameters):
                return []
        return []

    def _ask_scores(self, number: int, parameters: Vector) -> bool:
        """Ask for the sum of an evaluation; return whether there is anything left to try if it was not opened."""
        asking = self._asking
        members = self._roll.members() if asking is None else asking.request.members
        attempt = self._numbers.next(f"evaluate-{number}") if asking is None else asking.request.attempt
        request = EvaluateRound(study=self._stored.digest, round=number, attempt=attempt, members=members)
        length = length_of(parts_of(self._study, number)) + length_in(self._study, number)
        params = self._agreed.evaluation(request, parameters=parameters, length=length)
        if asking is None:
            asking = Asking(self._sites, self._sessions, request, parameters)
        try:
            for _ in asking.sums(params):
                pass
        except Lost as lost:
            return not self._spent(lost, asking, number)
        if asking is not self._asking:
            self._roll.note_done(asking, number, None)
        return True

    def _point(self, number: int, opened: Opened) -> CurvePoint:
        parts = parts_of(self._study, number)
        scores = length_of(parts)
        if opened.total.size > scores:
            self._stored.update(duplicates=decode(self._stored.digest, opened.total[scores:]))
        plan = plan_of(self._study)
        event = plan.evaluation_events.get(number)
        outcome = outcome_from(
            from_integers(opened.total[:scores], parts),
            parts,
            noise_multiplier=None if event is None else plan.share_of(event.noise_multiplier),
            sites=len(opened.contributors),
            smallest_cell=self._study.evaluation.smallest_cell,
        )
        return point_of(number, outcome)

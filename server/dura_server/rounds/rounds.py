"""What the coordinator does in a run: offer the study, collect approvals, run rounds, evaluate, keep the outcome.

Steps of :meth:`Rounds.train`:

1. every site of the study is asked for its approval; signatures are verified with the keys of the roster;
2. the newest checkpoint is the state to go on from; at first, the one that the study's public seed gives;
3. each round: sums that an earlier run has kept are followed; a secure session is opened for what is missing, the state
   goes out, sums come back, and the coordinator makes the steps that every site makes, or the average; checkpoint;
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
from dura_common.messages import EvaluateRound, Offer, TrainRound
from dura_common.models import TrainingState, advance, build_model, first_state, rule_of, to_vector
from dura_common.outputs.duplicates import decode, length_in
from dura_common.outputs.scores import from_integers, length_of, parts_of
from dura_common.privacy.plan import plan_of
from dura_common.secagg import Opened
from dura_common.study import Study
from dura_common.sums.agreed import Agreed, WeightedChange, averaged, carried_rule, step_scale
from dura_server.rounds.asking import Asking, Numbers
from dura_server.rounds.checkpoint import Checkpoint, Checkpoints, require_room
from dura_server.rounds.ports import Sites, Vector
from dura_server.rounds.roll import GRACE_SECONDS, QUERY_SECONDS, Roll
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
    """One study on its way; ``sites`` carries the messages, ``sessions`` opens the sums."""

    def __init__(self, stored: StoredStudy, sites: Sites, sessions: Sessions) -> None:
        self._stored = stored
        self._study = stored.study
        self._sites = sites
        self._sessions = sessions
        self._roll = Roll(stored, sites)
        self._numbers = Numbers(stored)
        self._kept = SumLog(stored.folder / "sums")
        self._checkpoints = Checkpoints(stored.folder / "checkpoints")
        self._agreed = Agreed(stored.digest, stored.study, stored.roster)
        self._network = build_model(stored.study)

    def offer(self, links: tuple[Link, ...] = ()) -> None:
        """Send the study, its roster and the newest ``links`` of rosters to every site that the study lists."""
        self._stored.update(phase="offering")
        request = Offer(study=self._stored.study_envelope, roster=self._stored.roster_envelope, links=links)
        self._roll.note_offer(self._sites.ask(self._roll.names, request, None).collect(QUERY_SECONDS))

    def train(self) -> None:
        """Run the whole study, or what is left of it.

        Raises:
            PolicyError: too few approvals.
            HostError: too few sites are left, a round was lost too often, or the disk is full.
            TrustError: sites made other steps from the same sums.
        """
        before = self._stored.read_state()
        self._roll.collect_approvals(begun=bool(before.attempts))  # step 1
        self._stored.update(phase="running", message="")
        last, evaluated = (
            self._newest(before.round),
            self._study.evaluation.rounds(self._study.training.rounds),
        )  # step 2
        curve = list(before.curve)
        for number in range(before.round + 1, self._study.training.rounds + 1):
            if last.round < number:
                last = self._train_round(number, last)  # step 3
                self._checkpoints.save(last)
            self._kept.drop("train", number)
            if number in evaluated:
                curve += self._evaluate(number, last.state.parameters)  # step 4
            points = [point.model_dump() for point in curve]
            self._stored.update(round=number, curve=points, given_up=last.given_up)
            self._kept.drop("evaluate", number)
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
        """Return where one round leads to, through as many attempts as it takes."""
        fruitless, last = 0, 0
        while True:
            state, done, given_up = self._replay(number, before)
            if done == self._steps:
                return Checkpoint(number, state, given_up)
            fruitless, last = (fruitless + 1 if done == last else 1), done
            if fruitless > ATTEMPTS:
                raise HostError(f"round {number} was lost {ATTEMPTS} times", hint="`dura study status` shows why.")
            require_room(self._stored.folder, WORD_BYTES * state.parameters.size * (self._steps - done + 2))
            members = self._roll.members()
            attempt = self._numbers.next("train", number)
            request = TrainRound(
                study=self._stored.digest, round=number, attempt=attempt, members=members, first_step=done + 1
            )
            self._make_steps(request, state)

    def _replay(self, number: int, before: Checkpoint) -> tuple[TrainingState, int, int]:
        """Follow the sums of a round that are kept; return the state after them, their number, and all given up."""
        state, done, given_up = before.state, 0, before.given_up
        for kept in self._kept.sums("train", number):
            state, done = self._follow(state, kept.opened), kept.step
            given_up += kept.opened is None
        return state, done, given_up

    def _make_steps(self, request: TrainRound, state: TrainingState) -> None:
        """Ask for the rest of a round: every sum that is opened is kept, and a loss leaves the others as they are."""
        asking = Asking(self._sites, self._sessions, request, state.to_vector())
        rest = request
        try:
            while rest.first_step <= self._steps:
                params = self._agreed.training(rest, state=state.digest(), length=state.parameters.size)
                for opened in asking.sums(params):
                    state = self._follow(state, opened)
                    changes = {"members": opened.contributors, "first_step": opened.step + 1}
                    rest = rest.model_copy(update=changes)
        except Lost as lost:
            if self._spent(lost, asking):
                self._give_up(request)
            return
        self._roll.note_done(request, asking.answers(GRACE_SECONDS), None if averaged(self._study) else state.digest())

    def _follow(self, state: TrainingState, opened: Opened | None) -> TrainingState:
        """Make the step that every site makes, or average what the sites changed; a sum that was given up is none."""
        each = self._study.training.steps_per_round // self._steps
        if opened is None:
            return TrainingState(state.parameters, state.moments, state.steps + each)
        if not averaged(self._study):
            scale = step_scale(self._study, opened.contributors)
            return advance(self._network, state, opened.total, rule_of(self._study.training), scale=scale)
        change = WeightedChange(self._study)
        parameters = change.apply(state.parameters, opened.total, opened.contributors)
        return TrainingState(parameters, (), state.steps + each)

    def _spent(self, lost: Lost, asking: Asking) -> bool:
        """Note a loss; return whether a site that still approves has no draw left for what was lost."""
        answers = asking.answers(GRACE_SECONDS, lost=lost.gone)
        self._numbers.learn(asking.request, answers)
        spent = self._roll.note_loss(asking.request, lost.message, lost.gone, answers)
        return bool(spent) and bool(self._roll.ask_again(spent, GRACE_SECONDS))

    def _give_up(self, request: TrainRound) -> None:
        """Go on without the sum that was lost: it cannot be drawn again, and the next one can be."""
        done = max((kept.step for kept in self._kept.sums("train", request.round)), default=0)
        if done == self._steps:
            return
        log.warning("round %d, sum %d is given up: no spare draw is left", request.round, done + 1)
        self._kept.append("train", request.round, Kept(request.attempt, done + 1, None))

    def _evaluate(self, number: int, parameters: Vector) -> list[CurvePoint]:
        """Return one point of the learning curve; none if its sum was lost and the study has no spare draw of it."""
        for _ in range(ATTEMPTS):
            kept = next(self._kept.sums("evaluate", number), None)
            if kept is not None and kept.opened is not None:
                return [self._point(number, kept.opened)]
            if not self._ask_scores(number, parameters):
                return []
        return []

    def _ask_scores(self, number: int, parameters: Vector) -> bool:
        """Ask for the sum of an evaluation; return whether there is anything left to try if it was not opened."""
        members, attempt = self._roll.members(), self._numbers.next("evaluate", number)
        request = EvaluateRound(study=self._stored.digest, round=number, attempt=attempt, members=members)
        length = length_of(parts_of(self._study, number)) + length_in(self._study, number)
        params = self._agreed.evaluation(request, parameters=parameters, length=length)
        asking = Asking(self._sites, self._sessions, request, parameters)
        try:
            for _ in asking.sums(params):
                pass
        except Lost as lost:
            return not self._spent(lost, asking)
        self._roll.note_done(request, asking.answers(GRACE_SECONDS), None)
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

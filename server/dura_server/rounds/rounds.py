"""A run at the coordinator: offer the study, collect approvals, run rounds, evaluate, store the outcome.

Steps of :meth:`Rounds.train`:

1. every site of the study is asked for its approval, and its signature is verified with the keys of the roster;
2. the first state is computed from the study's public seed;
3. in each round, a secure session is opened, the state is sent, and sums come back. From the sums, the coordinator
   makes the same steps as every site, or the average. Then it writes a checkpoint;
4. after the rounds that the study names, sums over held-out patients give one point of the learning curve;
5. the model is written, and the study is finished.

The coordinator receives only sums, never a vector of one site. After a loss, a round continues from the last opened
sum with the remaining sites. They draw again and pay with spare steps. With fewer than ``minimum_sites``, or without
spare steps, the run ends. Every attempt has a higher number than all earlier ones, also after restarts, because sites
refuse other numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping

from dura_common.consortium.chain import Link
from dura_common.consortium.envelope import verify
from dura_common.errors import DuraError, HostError, PolicyError, TrustError
from dura_common.messages import (
    AskApproval,
    EvaluateRound,
    Offer,
    Refusal,
    RefusalReason,
    Reply,
    RoundDone,
    Standing,
    SumRound,
    TrainRound,
)
from dura_common.models import (
    TrainingState,
    advance,
    build_model,
    first_state,
    rule_of,
    to_vector,
)
from dura_common.outputs.duplicates import decode, length_in
from dura_common.outputs.scores import from_integers, length_of, parts_of
from dura_common.privacy.plan import plan_of
from dura_common.secagg import Opened, SessionParameters
from dura_common.study import Study
from dura_common.study.approval import APPROVAL_TYPE, parse_approval
from dura_common.sums.agreed import Agreed, WeightedChange, averaged, carried_rule, step_scale
from dura_server.rounds.ports import Replies, Sites, Vector
from dura_server.studies.estimate import outcome_from
from dura_server.studies.state import CurvePoint, point_of
from dura_server.studies.store import StoredStudy
from dura_server.sums.ports import Lost, Sessions

log = logging.getLogger(__name__)

ATTEMPTS = 5
"""Number of attempts at one round before the run gives up."""


def first_parameters(study: Study) -> Vector:
    """Return the study's first parameters, 1-D float32, from its public seed."""
    return to_vector(build_model(study))


QUERY_SECONDS = 120.0
GRACE_SECONDS = 20.0
"""How long a site may take to report the end of a session, or its return."""
LEAVING_SECONDS = 5.0
"""How long a lost site may take to give its reason: if the site refused, its answer is already on the way."""
REJOIN_SECONDS = 300.0
"""How long a run waits for missing sites that it needs."""
POLL_SECONDS = 2.0


class Rounds:
    """The run of one study. ``sites`` carries the messages, and ``sessions`` opens the sums."""

    def __init__(self, stored: StoredStudy, sites: Sites, sessions: Sessions) -> None:
        self._stored = stored
        self._study = stored.study
        self._sites = sites
        self._sessions = sessions
        self._names = tuple(sorted(stored.study.sites))
        self._agreed = Agreed(stored.digest, stored.study, stored.roster)
        self._network = build_model(stored.study)
        self._present: set[str] = set()
        self._refusing: set[str] = set()
        """Sites that refused for a reason of their own. They are not asked again in this run."""

    def offer(self, links: tuple[Link, ...] = ()) -> None:
        """Send the study, its roster and the newest ``links`` of rosters to every site that the study lists."""
        self._stored.update(phase="offering")
        request = Offer(study=self._stored.study_envelope, roster=self._stored.roster_envelope, links=links)
        replies = self._sites.ask(self._names, request, None).collect(QUERY_SECONDS)
        standing = {name: self._standing(name, replies.get(name)) for name in self._names}
        self._stored.update(phase="offered", sites=standing, message=_advice(standing))

    def train(self) -> None:
        """Run the whole study.

        Raises:
            PolicyError: too few approvals.
            HostError: too few sites are left, or a round was lost too often.
            TrustError: a site made other steps from the same sums.
        """
        self._present = set(self._collect_approvals())  # step 1
        self._stored.update(phase="running", round=0, curve=(), duplicates=None, message="")
        state = first_state(self._network, carried_rule(self._study))  # step 2
        evaluated = self._study.evaluation.rounds(self._study.training.rounds)
        curve: list[CurvePoint] = []
        for number in range(1, self._study.training.rounds + 1):
            state = self._train_round(number, state)  # step 3
            self._stored.checkpoint(number, state.parameters)
            if number in evaluated:
                curve += self._evaluate(number, state.parameters)  # step 4
            self._stored.update(round=number, curve=[point.model_dump() for point in curve])
        self._stored.write_model(state.parameters)  # step 5
        self._stored.update(phase="finished")

    def _train_round(self, number: int, state: TrainingState) -> TrainingState:
        """Return the state after one round, with as many attempts as are needed."""
        steps = 1 if averaged(self._study) else self._study.training.steps_per_round
        done = 0
        for _ in range(ATTEMPTS):
            members = self._members()
            request = TrainRound(
                study=self._stored.digest,
                round=number,
                attempt=self._next_attempt("train", number),
                members=members,
                first_step=done + 1,
            )
            replies = self._sites.ask(request.members, request, state.to_vector())
            try:
                while done < steps:
                    params = self._agreed.training(request, state=state.digest(), length=state.parameters.size)
                    for opened in self._sums(params, replies):
                        state = self._follow(state, opened)
                        done += 1
                        request = request.model_copy(update={"members": opened.contributors, "first_step": done + 1})
            except Lost as lost:
                self._leave_out(lost, request, replies)
                continue
            self._conclude(request, replies, None if averaged(self._study) else state.digest())
            return state
        raise HostError(f"round {number} was lost {ATTEMPTS} times", hint="`dura study status` shows every site.")

    def _follow(self, state: TrainingState, opened: Opened) -> TrainingState:
        """Make the same step as every site, or average the changes of the sites."""
        if not averaged(self._study):
            scale = step_scale(self._study, opened.contributors)
            return advance(self._network, state, opened.total, rule_of(self._study.training), scale=scale)
        change = WeightedChange(self._study)
        parameters = change.apply(state.parameters, opened.total, opened.contributors)
        return TrainingState(parameters, (), state.steps + self._study.training.steps_per_round)

    def _evaluate(self, number: int, parameters: Vector) -> list[CurvePoint]:
        """Return one point of the learning curve; none if its sum was lost and no spare draw is left."""
        for _ in range(1 + self._study.evaluation.spare_draws):
            found = self._evaluate_once(number, parameters)
            if found is not None:
                return [found]
        return []

    def _evaluate_once(self, number: int, parameters: Vector) -> CurvePoint | None:
        members = self._members()
        attempt = self._next_attempt("evaluate", number)
        request = EvaluateRound(study=self._stored.digest, round=number, attempt=attempt, members=members)
        parts = parts_of(self._study, number)
        scores = length_of(parts)
        replies = self._sites.ask(request.members, request, parameters)
        try:
            length = scores + length_in(self._study, number)
            params = self._agreed.evaluation(request, parameters=parameters, length=length)
            (opened,) = self._sums(params, replies)
        except Lost as lost:
            self._leave_out(lost, request, replies)
            return None
        self._conclude(request, replies, None)
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

    def _next_attempt(self, purpose: str, number: int) -> int:
        """Return a number above all earlier ones of this round in any run. It is stored durably before it is used."""
        attempts = dict(self._stored.read_state().attempts)
        name = f"{purpose}-{number}"
        attempts[name] = attempts.get(name, 0) + 1
        self._stored.update(attempts=attempts)
        return attempts[name]

    def _learn_attempts(self, request: SumRound, answers: Mapping[str, Reply | None]) -> None:
        """Continue above the highest number that a site knows: this coordinator may come from a backup."""
        known = [answer.attempt or 0 for answer in answers.values() if isinstance(answer, Refusal)]
        attempts = dict(self._stored.read_state().attempts)
        name = f"{'train' if isinstance(request, TrainRound) else 'evaluate'}-{request.round}"
        attempts[name] = max([attempts.get(name, 0), *known])
        self._stored.update(attempts=attempts)

    def _sums(self, params: SessionParameters, replies: Replies) -> Iterator[Opened]:
        """Open one session and yield its sums."""
        spare = len(params.members) - max(params.threshold, params.minimum)
        with self._sessions.run(params, stop=lambda: replies.refused() > spare) as sums:
            yield from sums

    def _conclude(self, request: SumRound, replies: Replies, state: str | None) -> None:
        """After all sums of a request are open, collect the answers, and compare the states of the sites.

        Raises:
            TrustError: a site made other steps from the same sums.
        """
        answers = replies.collect(GRACE_SECONDS)
        before = self._stored.read_state()
        standing = dict(before.sites)
        redraws = max(
            [before.redraws, *(answer.redraws for answer in answers.values() if isinstance(answer, RoundDone))]
        )
        for name in self._names:
            answer = answers.get(name)
            if isinstance(answer, RoundDone) and (answer.study, answer.round) == (request.study, request.round):
                standing[name] = "approved"
                if answer.state != state:
                    raise TrustError(
                        f"{name} computed another model from the same sums",
                        hint="The installation there is different. Compare `dura --version` at all sites.",
                    )
            elif name in answers:
                standing[name] = f"round {request.round}: {_words(answer)}"
        self._stored.update(sites=standing, redraws=redraws)

    def _leave_out(self, lost: Lost, request: SumRound, replies: Replies) -> None:
        """Note the lost sites. They are asked again before the next request.

        Raises:
            HostError: a site has no spare draw left, so the lost sum cannot be repeated.
        """
        replies.collect(LEAVING_SECONDS)
        answers = replies.collect(GRACE_SECONDS, but=lost.gone)
        self._learn_attempts(request, answers)
        standing = dict(self._stored.read_state().sites)
        fine = {
            name
            for name, answer in answers.items()
            if isinstance(answer, RoundDone) or (isinstance(answer, Refusal) and answer.reason in _NOT_ITS_OWN)
        }
        gone = (set(request.members) - fine) | set(lost.gone)
        for name in sorted(gone):
            standing[name] = f"round {request.round}: {_words(answers.get(name))}"
        self._present -= gone
        self._refusing |= {name for name in gone if isinstance(answers.get(name), Refusal)}
        self._stored.update(sites=standing, message=f"round {request.round}: {lost.message}")
        out = [name for name in gone if _is_refused(answers.get(name), RefusalReason.NO_DRAW_LEFT)]
        left = len(self._names) - len(self._refusing)
        if out and isinstance(request, TrainRound) and left < self._study.aggregation.minimum_sites:
            raise HostError(
                f"round {request.round} was lost, and no spare step is left to draw it again "
                f"(aggregation.spare_steps = {self._study.aggregation.spare_steps})",
                hint="Declare more spare steps in a study whose sites may be lost; the noise is calculated for them.",
            )
        log.warning("round %d was lost (%s); left out: %s", request.round, lost.message, ", ".join(sorted(gone)))

    def _members(self) -> tuple[str, ...]:
        """Return the sites that take part next: all sites that are present. If they are too few, wait first.

        Raises:
            HostError: too few sites were present for too long.
        """
        deadline = time.monotonic() + REJOIN_SECONDS
        while True:
            absent = tuple(name for name in self._names if name not in self._present | self._refusing)
            needed = self._study.aggregation.minimum_sites
            if absent:
                patience = QUERY_SECONDS if len(self._present) < needed else GRACE_SECONDS
                answers = self._sites.ask(absent, AskApproval(study=self._stored.digest), None).collect(patience)
                back = [name for name in absent if self._standing(name, answers.get(name)) == "approved"]
                self._present.update(back)
            if len(self._present) >= needed:
                return tuple(sorted(self._present))
            if time.monotonic() > deadline or len(self._names) - len(self._refusing) < needed:
                standing = self._stored.read_state().sites
                out = [name for name in self._names if name not in self._present]
                reasons = "; ".join(f"{name}: {standing.get(name, 'unreachable')}" for name in out)
                raise HostError(f"{len(self._present)} of {needed} needed sites are left ({reasons})")
            time.sleep(POLL_SECONDS)

    def _collect_approvals(self) -> tuple[str, ...]:
        request = AskApproval(study=self._stored.digest)
        replies = self._sites.ask(self._names, request, None).collect(QUERY_SECONDS)
        standing = {name: self._standing(name, replies.get(name)) for name in self._names}
        approved = tuple(name for name in self._names if standing[name] == "approved")
        self._stored.update(phase="asking", sites=standing, message=_advice(standing))
        needed = self._study.aggregation.minimum_sites
        if len(approved) < needed:
            message = f"{len(approved)} of the {needed} needed sites have approved; {_advice(standing)}"
            self._stored.update(phase="unapproved", message=message)
            raise PolicyError(message)
        return approved

    def _standing(self, name: str, reply: Reply | None) -> str:
        if not isinstance(reply, Standing):
            return _words(reply)
        if reply.state != "approved":
            return reply.state
        try:
            self._check_approval(name, reply.approval or "")
        except DuraError:
            return "sent an approval that does not verify"
        return "approved"

    def _check_approval(self, name: str, envelope: str) -> None:
        site = next(site for site in self._stored.roster.sites if site.name == name)
        approval = parse_approval(verify(envelope, APPROVAL_TYPE, [site.identity_key()]))
        if (approval.site, approval.study) != (name, self._stored.digest):
            raise TrustError("the approval is for another study or site")


_NOT_ITS_OWN = frozenset({RefusalReason.AGGREGATION, RefusalReason.REPEATED_ROUND})
"""Refusals after which a site can stay: another site was lost, or the coordinator's number was too low."""


def _is_refused(reply: Reply | None, reason: RefusalReason) -> bool:
    return isinstance(reply, Refusal) and reply.reason is reason


def _words(reply: Reply | None) -> str:
    if reply is None:
        return "unreachable"
    return f"refused: {reply.reason}" if isinstance(reply, Refusal) else "answered out of turn"


def _advice(standing: Mapping[str, str]) -> str:
    open_sites = [f"{name} ({state})" for name, state in standing.items() if state != "approved"]
    return f"not approved: {', '.join(open_sites)}" if open_sites else "all sites have approved"

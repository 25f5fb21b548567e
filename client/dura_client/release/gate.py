"""The gate: everything that is computed from recordings leaves a site through this one place.

For every request, the gate makes these checks in this order, and stops at the first one that fails:

1. the study is approved here, is authentic, has not expired, and names a roster that this site follows or followed;
2. the study contains the round, the first step and the members, and this site is one of them;
3. the current policy allows the study (a policy that was tightened after the approval wins);
4. the ledger holds the study's allocation, for exactly the cohort of the approval, and for this pseudonym key;
5. the received vector fits the model;
6. the number of the request is higher than every earlier number, and durably becomes the highest;
7. the cohort that the approval fixed is loaded;
8. the other members report their rosters and the lengths of their ledgers, and none has returned to an older state;
9. for every vector: steps 1 to 4 are repeated if a file behind them has changed; then the ledger durably begins one
   draw, and refuses a draw that was not declared;
10. compute, and release the result once, only as a masked vector of a secure sum, and at a tick of this site's own
    clock if the policy asks for that (:mod:`dura_client.release.pace`).

No answer depends on the content of recordings, on withdrawals, or on what a patient has spent. A patient who cannot
take part counts as zero in a vector. Limits come from the approved study, and never from a message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dura_client.data.privacy_class import refuse_unpaid
from dura_client.ledger.ledger import Ledger
from dura_client.ledger.place import site_ledger
from dura_client.ledger.refusals import Ended
from dura_client.patients.cohort import identity_for
from dura_client.patients.frozen import FrozenCohort, Manifest, load_frozen, read_manifest
from dura_client.release.pace import Pace
from dura_client.release.paid import PaidPart, Work
from dura_client.release.standing import Standing
from dura_client.release.work import AveragedRound, Evaluation, Setting, SharedSteps
from dura_client.site.home import SiteHome
from dura_client.site.host import host_id
from dura_client.site.policy import load_policy
from dura_client.site.settings import SiteSettings, load_settings
from dura_client.studies.approvals import ApprovedStudy, NotApproved, require_approved
from dura_client.sums.ports import Sums
from dura_client.training.engine import PatientEngine, require_device
from dura_client.training.places import places_of
from dura_common.errors import InputError, PolicyError, TrustError
from dura_common.messages import EvaluateRound, RefusalReason, SumRound, TrainRound
from dura_common.models import TrainingState, build_model, load_vector, parameter_total, state_from_vector
from dura_common.outputs.duplicates import length_in, tabulate
from dura_common.outputs.scores import length_of, parts_of
from dura_common.policy import Policy, judge, judge_members
from dura_common.privacy.blocks import Purpose, steps_of_draw
from dura_common.privacy.plan import PrivacyPlan, plan_of
from dura_common.study import PatientNoise, Study
from dura_common.sums.agreed import Agreed, averaged, carried_rule

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verified:
    """A request that passed steps 1 to 4. It is made once and passed on to all later steps."""

    request: SumRound
    purpose: Purpose
    approved: ApprovedStudy
    plan: PrivacyPlan
    settings: SiteSettings
    ledger: Ledger
    model: nn.Module
    hides_time: bool
    """Whether the policy asks that no time tells who was drawn."""

    @property
    def study(self) -> Study:
        """The approved study."""
        return self.approved.study

    @property
    def agreed(self) -> Agreed:
        """The parameters that all members derive in the same way."""
        return Agreed(self.approved.digest, self.approved.study, self.approved.roster)


@dataclass(frozen=True, slots=True)
class Trained:
    """Where a round has led to."""

    round: int
    state: TrainingState
    """After the last opened sum."""
    members: tuple[str, ...]
    """Who has added to that sum."""
    evaluated: tuple[int, ...]
    """Rounds after which the study evaluates."""


class Gate:
    """Allows or refuses the releases of one site.

    Args:
        home: the site's folder.
        sums: gives access to secure sums.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, home: SiteHome, sums: Sums, *, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._sums = sums
        self._clock = clock
        self._epoch: int | None = None
        # One study at a time stays in memory.
        self._known: tuple[str, Manifest] | None = None
        self._frozen: FrozenCohort | None = None
        self._paces: dict[tuple[str, int], Pace] = {}

    def work_through(self, request: TrainRound, vector: NDArray[np.float32]) -> Trained:
        """Work through the rounds of a request, with their evaluations; each is verified as if it had been asked alone.

        The request is over after a sum to which not all its members have added, so that the others can come back.

        Args:
            request: from which round and step on, and the last round.
            vector: as for :meth:`train`.

        Raises:
            DuraError: as for :meth:`train`; what was done before holds.
        """
        last = request.round if request.last is None else request.last
        total = require_approved(self._home, request.study, self._clock()).study.training.rounds
        if not request.round <= last <= total:
            raise InputError(f"the study has no rounds {request.round} to {last}")
        asked = request.model_copy(update={"last": None})
        while True:
            done = self.train(asked, vector)
            if request.last is None or done.members != request.members:
                return done
            vector = done.state.to_vector()
            if asked.round in done.evaluated:
                scored = EvaluateRound(**asked.model_dump(include={"study", "round", "attempt", "members"}))
                if self.evaluate(scored, done.state.parameters) != request.members:
                    return done
            if asked.round == last:
                return done
            asked = asked.model_copy(update={"round": asked.round + 1, "first_step": 1})

    def train(self, request: TrainRound, vector: NDArray[np.float32]) -> Trained:
        """Make the steps of one round, and return where they lead to.

        Args:
            request: round, attempt, members and first step.
            vector: float32, parameters and the optimiser's moments before the first step (with noise of this
                site's own: parameters alone).

        Raises:
            DuraError: any check failed; nothing was computed that the ledger had not begun.
        """
        verified = self._verify(request, "train")
        study, model = verified.study, verified.model
        length, steps = parameter_total(model), study.training.steps_per_round
        before = (request.round - 1) * steps + request.first_step - 1
        state = state_from_vector(vector, carried_rule(study), length=length, steps=before)  # step 5
        load_vector(model, state.parameters)
        verified.agreed.training(request, state=state.digest(), length=length)
        cohort = self._take_up(verified)
        pace = self._pace(verified, cohort)
        kind = AveragedRound if averaged(study) else SharedSteps
        work = kind(_setting(verified, cohort, pace), model, state, cohort)
        sums = 1 if averaged(study) else steps
        part = self._paid(verified, work, pace)
        while part.next_step <= sums:  # one session, or one for each step
            rest = request.model_copy(update={"first_step": part.next_step, "members": part.members})
            self._sums.attend(verified.agreed.training(rest, state=work.state.digest(), length=length), part)
        evaluated = study.evaluation.rounds(study.training.rounds)
        return Trained(request.round, work.state, part.members, evaluated)

    def evaluate(self, request: EvaluateRound, parameters: NDArray[np.float32]) -> tuple[str, ...]:
        """Score ``parameters`` on held-out patients and add to the sums that the study asks for; return who has added.

        Raises:
            DuraError: as for :meth:`train`.
        """
        verified = self._verify(request, "evaluate")
        study = verified.study
        load_vector(verified.model, parameters)  # step 5
        length = length_of(parts_of(study, request.round)) + length_in(study, request.round)
        params = verified.agreed.evaluation(request, parameters=parameters, length=length)
        cohort = self._take_up(verified)
        table = partial(tabulate, verified.approved.digest, cohort.contents)
        pace = self._pace(verified, cohort)
        work = Evaluation(_setting(verified, cohort, pace), verified.model, cohort, request.round, table)
        part = self._paid(verified, work, pace)
        self._sums.attend(params, part)
        if request.round == study.training.rounds:
            verified.ledger.close(verified.approved.digest)  # the study ends with the last evaluation
        return part.members

    def redraws(self, study: str) -> int:
        """Return how many draws of a study this site has repeated; this number depends only on messages."""
        return site_ledger(self._home).redraws(study)

    def _verify(self, request: SumRound, purpose: Purpose) -> Verified:
        approved = require_approved(self._home, request.study, self._clock())  # step 1
        study, settings = approved.study, load_settings(self._home)
        _check_round(study, request.round, purpose)  # step 2
        if settings.name not in request.members:
            raise InputError("this site is not among the members of the sum")
        Agreed(approved.digest, study, approved.roster).check(request)
        ledger = site_ledger(self._home, clock=self._clock)
        policy = self._require_policy(approved, settings)  # step 3
        self._require_allocation(ledger, approved)  # step 4
        require_device(settings.device)
        hides = policy.hide_timing and isinstance(study.privacy, PatientNoise)
        return Verified(request, purpose, approved, plan_of(study), settings, ledger, build_model(study), hides)

    def _verify_again(self, begun: Verified) -> None:
        """Make steps 1 to 4 again for a request that is under way.

        Raises:
            PolicyError: the policy hides times now, and the request was begun without a tick.
        """
        if self._verify(begun.request, begun.purpose).hides_time and not begun.hides_time:
            raise PolicyError("the policy has asked for hidden times since this request began; the next one hides them")

    def _require_policy(self, approved: ApprovedStudy, settings: SiteSettings) -> Policy:
        policy = load_policy(self._home)
        findings = judge(
            policy,
            approved.study,
            site=settings.name,
            public_data=self._manifest(approved).public,
            epsilon_if_broken=plan_of(approved.study).epsilon_if_broken,
        )
        members = judge_members(policy, approved.study, site=settings.name, confirmed=approved.confirmed)
        failed = [finding.rule for finding in (*findings, members) if not finding.passed]
        if failed:
            raise PolicyError(f"the policy forbids this study: {', '.join(failed)}")
        return policy

    def _manifest(self, approved: ApprovedStudy) -> Manifest:
        if approved.cohort is None:
            raise NotApproved(
                "an older version of dura approved this study; approve it again", RefusalReason.NOT_APPROVED
            )
        if self._known is None or self._known[0] != approved.cohort:
            manifest = read_manifest(self._home, approved.digest, approved.cohort)
            self._known, self._frozen = (approved.cohort, manifest), None
        return self._known[1]

    def _require_allocation(self, ledger: Ledger, approved: ApprovedStudy) -> None:
        """Check that the approval, the fixed cohort and the allocation belong together."""
        aside = ledger.allocation(approved.digest)
        if aside is None:
            raise Ended
        if aside.manifest != approved.cohort:
            raise TrustError("the ledger's allocation for this study is for another cohort than the approved one")
        identity_for(self._home, approved.study)

    def _take_up(self, verified: Verified) -> FrozenCohort:
        digest, request = verified.approved.digest, verified.request
        if self._epoch is None:
            self._epoch = verified.ledger.serve(host_id())
        verified.ledger.attempt(digest, verified.purpose, request.round, request.attempt)  # step 6
        manifest = self._manifest(verified.approved)
        if self._frozen is None:  # step 7
            self._frozen = load_frozen(self._home, manifest, verified.study.data)
        refuse_unpaid(self._frozen.steps)
        return self._frozen

    def _pace(self, verified: Verified, cohort: FrozenCohort) -> Pace | None:
        """Return when vectors leave, measured on dummies once in the life of this process; None for at once."""
        if not verified.hides_time:
            return None
        study, settings = verified.study, verified.settings
        places = places_of(study, settings.name, len(cohort.training))
        key = (verified.approved.digest, places)
        if key not in self._paces:
            engine = PatientEngine(
                build_model(study), study, preparation=cohort.steps, places=places, device=settings.device
            )
            self._paces[key] = Pace.measured(engine, places, steps=steps_of_draw(study))
        return self._paces[key]

    def _paid(self, verified: Verified, work: Work, pace: Pace | None) -> PaidPart:
        """Provide the part whose draws first begin in the ledger and are then computed: steps 8 to 10."""
        request, study, digest = verified.request, verified.study, verified.approved.digest
        each = study.training.steps_per_round // steps_of_draw(study)
        standing = Standing(
            self._home,
            digest,
            verified.approved.here,
            verified.ledger,
            verify=partial(self._verify_again, verified),
            clock=self._clock,
        )
        return PaidPart(
            work,
            standing,
            verified.ledger,
            manifest=verified.approved.cohort or "",
            epoch=self._epoch or 0,
            study=digest,
            purpose=verified.purpose,
            round_number=request.round,
            draws_before=(request.round - 1) * each if verified.purpose == "train" else 0,
            members=request.members,
            first_step=request.first_step if isinstance(request, TrainRound) else 1,
            pace=pace,
        )


def _setting(verified: Verified, cohort: FrozenCohort, pace: Pace | None) -> Setting:
    return Setting(
        study=verified.study,
        plan=verified.plan,
        site=verified.settings.name,
        device=verified.settings.device,
        members=verified.request.members,
        places=0 if pace is None else pace.places,
        preparation=cohort.steps,
    )


def _check_round(study: Study, round_number: int, purpose: Purpose) -> None:
    known = (
        range(1, study.training.rounds + 1) if purpose == "train" else study.evaluation.rounds(study.training.rounds)
    )
    if round_number not in known:
        raise InputError(f"the study has no {purpose} round {round_number}")

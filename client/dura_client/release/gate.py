"""The gate: the one place through which anything computed from recordings leaves a site.

For every request, in this order, and stopping at the first that fails:

1. the study is approved here, authentic, unexpired and meant for the pinned roster;
2. the round is one that the study has, and the members are sites of the study, this one among them;
3. the policy holds for this study and data set, as it stands now (a policy tightened after the approval wins);
4. the data fulfil the contract, every preparation step is paid for, no recording lies under two patients of a study
   with noise, and the vector that came fits the model;
5. the ledger durably records the cost (it refuses a round that was answered before, and a cap overrun);
6. compute, and let the result out as a masked vector of a secure sum only;
7. the ledger settles.

A crash between 5 and 7 counts as spent. A vector that has to be drawn again, because a sum was lost with some of
its members, is charged again (:mod:`dura_client.release.draws`). Limits come from the approved study and never from a
message.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dura_client.data.privacy_class import refuse_unpaid
from dura_client.ledger.ledger import Ledger
from dura_client.ledger.place import site_ledger
from dura_client.patients.cohort import Cohort, Cohorts, refuse_shared_recordings
from dura_client.release.draws import RoundDraws
from dura_client.release.paid import PaidPart, Work
from dura_client.release.work import AveragedRound, Evaluation, Setting, SharedSteps
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.site.settings import SiteSettings, load_settings
from dura_client.studies.approvals import require_approved
from dura_client.sums.ports import Sums
from dura_client.training.engine import require_device
from dura_common.errors import InputError, PolicyError
from dura_common.messages import EvaluateRound, SumRound, TrainRound
from dura_common.models import build_model, load_vector, parameter_total, state_from_vector
from dura_common.outputs.duplicates import length_in, tabulate
from dura_common.outputs.scores import length_of, parts_of
from dura_common.policy import Policy, judge, judge_members
from dura_common.privacy import Gaussian, SampledGaussian
from dura_common.privacy.plan import PrivacyPlan, plan_of
from dura_common.study import NoNoise, Study
from dura_common.sums.agreed import Agreed, averaged, carried_rule

log = logging.getLogger(__name__)

Purpose = Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that passed steps 1 to 4, apart from the vector that came with it."""

    request: SumRound
    agreed: Agreed
    plan: PrivacyPlan
    policy: Policy
    settings: SiteSettings
    cohort: Cohort
    model: nn.Module


class Gate:
    """Lets releases of one site through, or refuses.

    Args:
        home: the site's folder.
        sums: the way into secure sums.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, home: SiteHome, sums: Sums, *, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._sums = sums
        self._clock = clock
        self._cohorts = Cohorts(home)

    def train(self, request: TrainRound, vector: NDArray[np.float32]) -> str | None:
        """Make the steps of one round; return the digest of the state after them if this site made them itself.

        Args:
            request: round, attempt, members and first step.
            vector: float32, parameters and the optimiser's moments before the first step (with noise of this
                site's own: parameters alone).

        Raises:
            DuraError: any check failed; nothing was computed before the ledger had recorded it.
        """
        admitted = self._admit(request, "train")
        study, model = admitted.agreed.study, admitted.model
        length = parameter_total(model)
        steps = study.training.steps_per_round
        before = (request.round - 1) * steps + request.first_step - 1
        state = state_from_vector(vector, carried_rule(study), length=length, steps=before)  # step 4
        load_vector(model, state.parameters)
        admitted.agreed.training(request, state=state.digest(), length=length)  # refuses what the study has not
        patients = admitted.cohort.training
        setting = self._setting(admitted)
        if averaged(study):
            params = admitted.agreed.training(request, state=state.digest(), length=length)
            with self._paid(admitted, "train", AveragedRound(setting, model, patients, state.digest())) as part:
                self._sums.attend(params, part)
            return None
        steps_made = SharedSteps(setting, model, state, patients)
        with self._paid(admitted, "train", steps_made) as part:
            while part.next_step <= steps:  # one session, or one for each step
                rest = request.model_copy(update={"first_step": part.next_step, "members": part.members})
                self._sums.attend(admitted.agreed.training(rest, state=steps_made.position, length=length), part)
        return steps_made.position

    def evaluate(self, request: EvaluateRound, parameters: NDArray[np.float32]) -> None:
        """Score ``parameters`` on held-out patients and add to the sums that the study asks for.

        Raises:
            DuraError: as for :meth:`train`.
        """
        admitted = self._admit(request, "evaluate")
        load_vector(admitted.model, parameters)
        study, cohort = admitted.agreed.study, admitted.cohort
        length = length_of(parts_of(study, request.round)) + length_in(study, request.round)
        params = admitted.agreed.evaluation(request, parameters=parameters, length=length)
        work = Evaluation(
            self._setting(admitted),
            admitted.model,
            cohort.held_out,
            request.round,
            params.state,
            partial(tabulate, admitted.agreed.digest, cohort.contents),
        )
        with self._paid(admitted, "evaluate", work) as part:
            self._sums.attend(params, part)

    def _admit(self, request: SumRound, purpose: Purpose) -> _Admitted:
        approved = require_approved(self._home, request.study, self._clock())  # step 1
        study, settings = approved.study, load_settings(self._home)
        _check_round(study, request.round, purpose)  # step 2
        if settings.name not in request.members:
            raise InputError("this site is not among the members of the sum")
        cohort = self._cohorts.of(approved)
        refuse_unpaid(cohort.steps)
        refuse_shared_recordings(cohort, study)
        require_device(settings.device)
        policy = load_policy(self._home)
        plan = plan_of(study)
        findings = judge(
            policy,
            study,
            site=settings.name,
            public_data=cohort.public,
            epsilon_if_broken=plan.epsilon_if_broken,
        )
        members = judge_members(policy, study, site=settings.name, confirmed=approved.confirmed)
        failed = [finding.rule for finding in (*findings, members) if not finding.passed]
        if failed:  # step 3
            raise PolicyError(f"the policy forbids this study: {', '.join(failed)}")
        agreed = Agreed(approved.digest, study, approved.roster)
        return _Admitted(request, agreed, plan, policy, settings, cohort, build_model(study))

    def _setting(self, admitted: _Admitted) -> Setting:
        return Setting(
            study=admitted.agreed.study,
            plan=admitted.plan,
            site=admitted.settings.name,
            device=admitted.settings.device,
            members=admitted.request.members,
            preparation=admitted.cohort.steps,
        )

    @contextmanager
    def _paid(self, admitted: _Admitted, purpose: Purpose, work: Work) -> Iterator[PaidPart]:
        """Reserve before, settle after: steps 5 and 7 around the sums of step 6."""
        ledger, request = site_ledger(self._home), admitted.request
        first = request.first_step if isinstance(request, TrainRound) else 1
        own_noise = averaged(admitted.agreed.study)
        draws = RoundDraws(self._home, admitted.agreed.digest, purpose, request.round, own_noise=own_noise)
        reserve = self._reserve(ledger, admitted, purpose, first)
        draws.begin(reserve, ledger.begin, first_step=first, repeated=request.attempt > 1)  # step 5
        try:
            yield PaidPart(work, draws, members=request.members, first_step=first)  # step 6
        except BaseException:
            if draws.untouched:  # the sites never came together: nothing was computed, nothing is owed
                for entry in draws.entries:
                    ledger.refund(entry)
            raise
        for entry in draws.entries:  # step 7
            ledger.settle(entry)
        log.info("released %s of round %d, study %s", purpose, request.round, admitted.agreed.digest[:12])

    def _reserve(self, ledger: Ledger, admitted: _Admitted, purpose: Purpose, first_step: int) -> Callable[[int], int]:
        """Return what writes the ledger: for the whole round (0), or for one draw more (its number)."""
        training = purpose == "train"
        study, policy = admitted.agreed.study, admitted.policy
        cohort = admitted.cohort

        def reserve(repeat: int) -> int:
            return ledger.reserve(
                study=admitted.agreed.digest,
                round=admitted.request.round,
                purpose="train" if training else "evaluate",
                repeat=repeat,
                refundable=repeat == 0,
                patients=cohort.training_keys if training else cohort.held_out_keys,
                event=_event(admitted, training=training, first_step=first_step, repeat=repeat),
                epsilon_per_study=min(policy.epsilon_per_study, _declared_epsilon(study, training=training)),
                epsilon_total=policy.epsilon_total,
                delta=policy.delta,
            )

        return reserve


def _event(admitted: _Admitted, *, training: bool, first_step: int, repeat: int) -> SampledGaussian | Gaussian | None:
    """Return what a reservation costs: the steps of a round from the first one asked for, or one draw."""
    plan, study = admitted.plan, admitted.agreed.study
    if not training:
        return plan.evaluation_events.get(admitted.request.round)
    if plan.round_event is None or averaged(study):
        return plan.round_event  # a draw is the whole round
    steps = 1 if repeat else study.training.steps_per_round - first_step + 1
    return plan.round_event.model_copy(update={"steps": steps})


def _declared_epsilon(study: Study, *, training: bool) -> float:
    """Return what the study says that it costs: no repetition may go beyond, whatever the policy would allow."""
    if isinstance(study.privacy, NoNoise):
        return math.inf
    declared = study.privacy.epsilon if training else study.evaluation.epsilon
    return math.inf if declared is None else declared


def _check_round(study: Study, round_number: int, purpose: Purpose) -> None:
    known = (
        range(1, study.training.rounds + 1) if purpose == "train" else study.evaluation.rounds(study.training.rounds)
    )
    if round_number not in known:
        raise InputError(f"the study has no {purpose} round {round_number}")

"""The gate: the one place through which anything computed from recordings leaves a site.

For every request, in this order, and stopping at the first that fails:

1. the study is approved here, authentic, unexpired and meant for the pinned roster;
2. the round is one that the study has;
3. the policy holds for this study and data set, as it stands now (a policy tightened after the approval wins);
4. the data fulfil the contract, every preparation step is paid for, and the vector that came fits the model;
5. the ledger durably records the cost (it refuses a round that was answered before, and a cap overrun);
6. compute;
7. the release has the declared shape and is finite;
8. the ledger settles.

A crash between 5 and 8 counts as spent. Limits come from the approved study and never from a message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dura_client.approvals import ApprovedStudy, require_approved
from dura_client.cohort import Cohort, load_cohort
from dura_client.data.privacy_class import refuse_unpaid
from dura_client.home import SiteHome
from dura_client.ledger import Ledger
from dura_client.policy import load_policy
from dura_client.settings import load_settings
from dura_client.training.engine import require_device, train_round
from dura_client.training.evaluation import contribution, release_sums
from dura_common.errors import InputError, PolicyError
from dura_common.models import build, load_vector, to_vector
from dura_common.policy import Policy, judge
from dura_common.privacy.outputs import length_of, parts_of
from dura_common.privacy.plan import PrivacyPlan, plan_of
from dura_common.study import Study

log = logging.getLogger(__name__)

Purpose = Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True)
class _Admitted:
    """A request that passed steps 1 to 4."""

    approved: ApprovedStudy
    plan: PrivacyPlan
    policy: Policy
    cohort: Cohort
    model: nn.Module


class Gate:
    """Lets releases of one site through, or refuses.

    Args:
        home: the site's folder.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, home: SiteHome, *, clock: Callable[[], datetime]) -> None:
        self._home = home
        self._clock = clock
        self._cohorts: dict[str, Cohort] = {}

    def train(self, digest: str, round_number: int, parameters: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one round of private steps from ``parameters`` (1-D float32) and return the new parameters.

        Raises:
            DuraError: any check failed; nothing was computed before the ledger had recorded it.
        """
        admitted = self._admit(digest, round_number, "train", parameters)
        study = admitted.approved.study
        declared = study.training_patients(load_settings(self._home).name)

        def steps() -> NDArray[np.float32]:
            train_round(
                admitted.model,
                admitted.cohort.training,
                study,
                admitted.plan,
                declared_patients=declared,
                preparation=admitted.cohort.steps,
                device=load_settings(self._home).device,
            )
            return to_vector(admitted.model)

        return self._release(admitted, round_number, "train", steps, length=parameters.size)

    def evaluate(self, digest: str, round_number: int, parameters: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score ``parameters`` on held-out patients and return the noisy sums that the study asks for.

        Raises:
            DuraError: as for :meth:`train`.
        """
        admitted = self._admit(digest, round_number, "evaluate", parameters)
        event = admitted.plan.evaluation_events.get(round_number)

        study = admitted.approved.study
        parts = parts_of(study, round_number)

        def sums() -> NDArray[np.float32]:
            rows = [contribution(admitted.model, one, study, round_number) for one in admitted.cohort.held_out]
            return release_sums(rows, parts, None if event is None else event.noise_multiplier)

        return self._release(admitted, round_number, "evaluate", sums, length=length_of(parts))

    def _admit(self, digest: str, round_number: int, purpose: Purpose, parameters: NDArray[np.float32]) -> _Admitted:
        approved = require_approved(self._home, digest, self._clock())  # step 1
        study = approved.study
        _check_round(study, round_number, purpose)  # step 2
        cohort = self._cohort(approved)
        refuse_unpaid(cohort.steps)
        require_device(load_settings(self._home).device)
        policy = load_policy(self._home)
        name = load_settings(self._home).name
        failed = [
            finding.rule for finding in judge(policy, study, site=name, public_data=cohort.public) if not finding.passed
        ]
        if failed:  # step 3
            raise PolicyError(f"the policy forbids this study: {', '.join(failed)}")
        model = build_model(study)
        load_vector(model, parameters)  # step 4: refuses a wrong length and non-finite values
        return _Admitted(approved, plan_of(study), policy, cohort, model)

    def _cohort(self, approved: ApprovedStudy) -> Cohort:
        known = self._cohorts.get(approved.digest)
        if known is None:
            known = load_cohort(self._home, approved.study, approved.dataset)
            self._cohorts = {approved.digest: known}  # one study at a time stays in memory
        return known

    def _release(
        self,
        admitted: _Admitted,
        round_number: int,
        purpose: Purpose,
        compute: Callable[[], NDArray[np.float32]],
        *,
        length: int,
    ) -> NDArray[np.float32]:
        plan, policy, cohort = admitted.plan, admitted.policy, admitted.cohort
        training = purpose == "train"
        ledger = Ledger(self._home.ledger)
        entry = ledger.reserve(  # step 5
            study=admitted.approved.digest,
            round=round_number,
            purpose=purpose,
            patients=cohort.training_keys if training else cohort.held_out_keys,
            event=plan.round_event if training else plan.evaluation_events.get(round_number),
            epsilon_per_study=policy.epsilon_per_study,
            epsilon_total=policy.epsilon_total,
            delta=policy.delta,
        )
        result = compute()  # step 6
        if result.shape != (length,) or result.dtype != np.float32 or not np.isfinite(result).all():  # step 7
            raise PolicyError("the result is not a finite vector of the declared length; nothing was released")
        ledger.settle(entry)  # step 8
        log.info("released %s of round %d, study %s", purpose, round_number, admitted.approved.digest[:12])
        return result


def build_model(study: Study) -> nn.Module:
    """Return the study's model with its first parameters, the same at every site and at the coordinator."""
    return build(
        study.model,
        channels=len(study.data.channels),
        samples=study.data.window_samples,
        classes=len(study.data.classes),
        sampling_rate=study.data.sampling_rate,
        seed=study.training.seed,
    )


def _check_round(study: Study, round_number: int, purpose: Purpose) -> None:
    known = (
        range(1, study.training.rounds + 1) if purpose == "train" else study.evaluation.rounds(study.training.rounds)
    )
    if round_number not in known:
        raise InputError(f"the study has no {purpose} round {round_number}")

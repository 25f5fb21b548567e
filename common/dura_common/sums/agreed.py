"""Derives the parameters of a secure session from an approved study and one request, the same at site and coordinator.

Only the round, the attempt, the members and the first step come from the request, and each of them is checked against
the study here. A party that derives other parameters shares no mask with the others.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dura_common.consortium.cards import decode_identity
from dura_common.consortium.envelope import canonical_json, digest
from dura_common.consortium.roster import Roster
from dura_common.errors import InputError
from dura_common.messages import EvaluateRound, SumRound, TrainRound
from dura_common.models import StepRule, TrainingState, advance, rule_of
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.plan import plan_of
from dura_common.secagg import FixedPoint, Kind, Member, Opened, SessionParameters, largest_value, smallest_threshold
from dura_common.secagg.params import MIN_MEMBERS
from dura_common.study import SharedNoise, Study

NOISE_TAIL = 12.0
"""The ring has room for this many standard deviations of noise. Larger noise has a probability below 2^-100."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What both site and coordinator know before a session."""

    digest: str
    """Digest of the approved study."""
    study: Study
    roster: Roster
    """The roster that the study names."""

    def check(self, request: SumRound) -> None:
        """Check members and first step of a request.

        Raises:
            InputError: the study does not have these members or this step.
        """
        self._members(request)
        last = self.study.training.steps_per_round if isinstance(self.study.privacy, SharedNoise) else 1
        if isinstance(request, TrainRound) and not 1 <= request.first_step <= last:
            raise InputError(f"the study has no step {request.first_step} in a round")

    def training(self, request: TrainRound, *, state: str, length: int) -> SessionParameters:
        """Return the session of a training request.

        Args:
            request: the request of the coordinator.
            state: digest of the training state that the request carries.
            length: number of parameters of the study's model.

        Raises:
            InputError: members or steps that the study does not have.
        """
        shared = isinstance(self.study.privacy, SharedNoise)
        steps = self.study.training.steps_per_round
        self.check(request)
        stepwise = shared and self.study.aggregation.sums == "step"
        return self._session(
            request,
            purpose="train",
            state=state,
            length=length,
            kind=Kind.STEP if stepwise else Kind.ROUND,
            steps=steps - request.first_step + 1 if stepwise else 1,
            first_step=request.first_step,
            ring_bits=ring_of(self.study, len(request.members)) if shared else 32,
        )

    def evaluation(self, request: EvaluateRound, *, parameters: NDArray[np.float32], length: int) -> SessionParameters:
        """Return the session of an evaluation request; ``length`` is the length of the sums that the study releases.

        Raises:
            InputError: members that the study does not have.
        """
        state = hashlib.sha256(parameters.astype("<f4").tobytes()).hexdigest()
        return self._session(
            request,
            purpose="evaluate",
            state=state,
            length=length,
            kind=Kind.ROUND,
            steps=1,
            first_step=1,
            ring_bits=64,
        )

    def _session(
        self,
        request: SumRound,
        *,
        purpose: str,
        state: str,
        length: int,
        kind: Kind,
        steps: int,
        first_step: int,
        ring_bits: int,
    ) -> SessionParameters:
        rules = self.study.aggregation
        members = self._members(request)
        threshold = len(members) if kind is Kind.STEP else smallest_threshold(len(members), rules.tolerated_colluders)
        return SessionParameters(
            study=self.digest,
            roster=digest(canonical_json(self.roster)),
            purpose=purpose,
            round=request.round,
            attempt=request.attempt,
            first_step=first_step,
            steps=steps,
            state=state,
            length=length,
            ring_bits=ring_bits,
            kind=kind,
            members=members,
            threshold=threshold,
            minimum=rules.minimum_sites,
            colluders=rules.tolerated_colluders,
        )

    def _members(self, request: SumRound) -> tuple[Member, ...]:
        names = request.members
        if list(names) != sorted(set(names)) or not set(names) <= self.study.sites.keys():
            raise InputError("the members of a sum must be distinct sites of the study, sorted")
        if len(names) < self.study.aggregation.minimum_sites:
            raise InputError(f"a sum of {len(names)} sites; the study demands {self.study.aggregation.minimum_sites}")
        colluders = self.study.aggregation.tolerated_colluders
        if colluders > len(names) - MIN_MEMBERS:
            raise InputError(f"a sum of {len(names)} sites of which {colluders} may collude; two must not collude")
        found = []
        for name in names:
            site = self.roster.site(name)
            if site is None:
                raise InputError(f"{name} is not on the study's roster")
            found.append(Member(name, decode_identity(site.identity).public_bytes_raw()))
        return tuple(found)


def ring_of(study: Study, members: int) -> int:
    """Return the ring (32 or 64 bits) in which the patient sums of the largest site fit, including noise.

    Raises:
        ValueError: the sums do not even fit in 64 bits; the schema admits no study that is so large.
    """
    most = max(study.training_patients(site) for site in study.sites) + NOISE_TAIL * plan_of(study).share_multiplier
    for bits in (32, 64):
        if most * WHOLE <= largest_value(bits, members):
            return bits
    raise ValueError("the declared patients fit no ring")


def divisor_of(study: Study, members: tuple[str, ...]) -> float:
    """Return the public divisor of a step's sum over these sites: q times their declared training patients."""
    return study.privacy.participation * sum(study.training_patients(name) for name in members)


def step_scale(study: Study, members: tuple[str, ...]) -> float:
    """Return the factor that turns the integers of a step's sum into the mean gradient."""
    return study.privacy.clipping_norm / WHOLE / divisor_of(study, members)


@dataclass(frozen=True, slots=True)
class WeightedChange:
    """Federated averaging in a sum: each site sends its change of the model times its public weight."""

    study: Study

    @property
    def _fixed(self) -> FixedPoint:
        # For all sites of the study, even if some are lost: a site encodes before it knows which sites add to the sum.
        return FixedPoint(self.study.aggregation.update_norm, 32, len(self.study.sites))

    def encode(self, site: str, before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.signedinteger]:
        """Return one site's part of the sum, integers (parameters,)."""
        change = after.astype(np.float64) - before.astype(np.float64)
        return self._fixed.encode(change * self._weight(site))

    def apply(
        self, before: NDArray[np.float32], total: NDArray[np.int64], contributors: tuple[str, ...]
    ) -> NDArray[np.float32]:
        """Return the average model, float32 (parameters,), of an opened sum."""
        weights = sum(self._weight(site) for site in contributors)
        return (before.astype(np.float64) + self._fixed.decode(total) / weights).astype(np.float32)

    def _weight(self, site: str) -> float:
        """Return a site's declared patients divided by those of the largest site: public, at most one."""
        return self.study.sites[site] / max(self.study.sites.values())


def follow(study: Study, network: nn.Module, state: TrainingState, opened: Opened) -> TrainingState:
    """Return the state that everybody comes to from an opened sum of the training, in every bit.

    With shared noise, the sum is one step; otherwise it is the average of what the sites have changed in a round.
    """
    if not averaged(study):
        scale = step_scale(study, opened.contributors)
        return advance(network, state, opened.total, rule_of(study.training), scale=scale)
    parameters = WeightedChange(study).apply(state.parameters, opened.total, opened.contributors)
    return TrainingState(parameters, (), state.steps + study.training.steps_per_round)


def carried_rule(study: Study) -> StepRule:
    """Return the rule whose state is sent with a training request; with averaging, only parameters are sent."""
    return StepRule(adam=False, learning_rate=1.0) if averaged(study) else rule_of(study.training)


def averaged(study: Study) -> bool:
    """Tell whether sites train separately and their changes are averaged. Otherwise, sites make every step together."""
    return not isinstance(study.privacy, SharedNoise)

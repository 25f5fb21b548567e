"""What the coordinator does in a run: offer the study, collect approvals, run rounds, evaluate, keep the outcome.

Steps of :meth:`Rounds.train`:

1. every site of the study is asked for its approval; signatures are verified with the keys of the roster;
2. the first parameters come from the study's public seed;
3. each round: parameters out, new parameters back, average weighted by declared (public) patients, checkpoint;
4. after the rounds that the study names: held-out sums back, one point of the learning curve;
5. the model is written, the study is finished.

A site that refuses or is out of reach is left out of that round; below ``minimum_sites`` the run ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_common.approval import APPROVAL_TYPE, parse_approval
from dura_common.envelope import verify
from dura_common.errors import DuraError, HostError, InputError, PolicyError, TrustError
from dura_common.messages import (
    AskApproval,
    EvaluateRound,
    Offer,
    Refusal,
    Reply,
    Request,
    RoundDone,
    Standing,
    TrainRound,
)
from dura_common.models import build, to_vector
from dura_common.privacy.estimate import accuracy_from
from dura_common.privacy.plan import plan_of
from dura_common.study import Study
from dura_server.study_store import CurvePoint, StoredStudy

Vector = NDArray[np.float32]
SUMS_LENGTH = 2


class Sites(Protocol):
    """The way to the sites: one exchange, every reply verified for form, None for a site out of reach."""

    def exchange(
        self, names: tuple[str, ...], request: Request, vector: Vector | None
    ) -> Mapping[str, tuple[Reply, Vector | None] | None]:
        """Send one request to the named sites and return their replies by name."""
        ...


def first_parameters(study: Study) -> Vector:
    """Return the study's first parameters, 1-D float32, from its public seed."""
    model = build(
        study.model,
        channels=len(study.data.channels),
        samples=study.data.window_samples,
        classes=len(study.data.classes),
        sampling_rate=study.data.sampling_rate,
        seed=study.training.seed,
    )
    return to_vector(model)


def average(study: Study, updates: Mapping[str, Vector]) -> Vector:
    """Return the common parameters after a round: sites' parameters, weighted by declared (public) patients."""
    weights = np.array([study.sites[name] for name in updates], dtype=np.float64)
    stacked = np.stack([values.astype(np.float64) for values in updates.values()])
    return np.average(stacked, axis=0, weights=weights).astype(np.float32)


class Rounds:
    """One study on its way; ``sites`` carries the messages."""

    def __init__(self, stored: StoredStudy, sites: Sites) -> None:
        self._stored = stored
        self._study = stored.study
        self._sites = sites
        self._names = tuple(sorted(stored.study.sites))

    def offer(self) -> None:
        """Send the study and its roster to every site that it lists."""
        self._stored.update(phase="offering")
        request = Offer(study=self._stored.study_envelope, roster=self._stored.roster_envelope)
        replies = self._sites.exchange(self._names, request, None)
        standing = {name: self._standing(name, replies.get(name)) for name in self._names}
        self._stored.update(phase="offered", sites=standing, message=_advice(standing))

    def train(self) -> None:
        """Run the whole study.

        Raises:
            PolicyError: too few approvals.
            HostError: too few sites answered in a round.
        """
        if not self._study.aggregation.unsafe_plain_updates:
            raise InputError("the study forbids plain updates, and this version of dura has no other way yet")
        approved = self._collect_approvals()  # step 1
        self._stored.update(phase="running", round=0, curve=(), message="")
        parameters = first_parameters(self._study)  # step 2
        evaluated = self._study.evaluation.rounds(self._study.training.rounds)
        curve: list[CurvePoint] = []
        for number in range(1, self._study.training.rounds + 1):
            parameters = self._average(approved, number, parameters)  # step 3
            self._stored.checkpoint(number, parameters)
            if number in evaluated:
                curve.append(self._evaluate(approved, number, parameters))  # step 4
            self._stored.update(round=number, curve=[point.model_dump() for point in curve])
        self._stored.write_model(parameters)  # step 5
        self._stored.update(phase="finished")

    def _collect_approvals(self) -> tuple[str, ...]:
        replies = self._sites.exchange(self._names, AskApproval(study=self._stored.digest), None)
        standing = {name: self._standing(name, replies.get(name)) for name in self._names}
        approved = tuple(name for name in self._names if standing[name] == "approved")
        self._stored.update(phase="asking", sites=standing, message=_advice(standing))
        needed = self._study.aggregation.minimum_sites
        if len(approved) < needed:
            message = f"{len(approved)} of the {needed} needed sites have approved; {_advice(standing)}"
            self._stored.update(phase="unapproved", message=message)
            raise PolicyError(message)
        return approved

    def _standing(self, name: str, answer: tuple[Reply, Vector | None] | None) -> str:
        if answer is None:
            return "unreachable"
        reply, _ = answer
        if isinstance(reply, Refusal):
            return f"refused: {reply.reason}"
        if not isinstance(reply, Standing):
            return "answered out of turn"
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

    def _average(self, names: tuple[str, ...], number: int, parameters: Vector) -> Vector:
        request = TrainRound(study=self._stored.digest, round=number)
        updates = self._vectors(names, request, parameters, length=parameters.size)
        return average(self._study, updates)

    def _evaluate(self, names: tuple[str, ...], number: int, parameters: Vector) -> CurvePoint:
        request = EvaluateRound(study=self._stored.digest, round=number)
        sums = self._vectors(names, request, parameters, length=SUMS_LENGTH)
        event = plan_of(self._study).evaluation_events.get(number)
        estimate = accuracy_from(
            np.sum([values.astype(np.float64) for values in sums.values()], axis=0),
            noise_multiplier=None if event is None else event.noise_multiplier,
            sites=len(sums),
        )
        return CurvePoint(round=number, accuracy=estimate.accuracy, standard_error=estimate.standard_error)

    def _vectors(
        self, names: tuple[str, ...], request: TrainRound | EvaluateRound, parameters: Vector, *, length: int
    ) -> dict[str, Vector]:
        replies = self._sites.exchange(names, request, parameters)
        accepted: dict[str, Vector] = {}
        standing = dict(self._stored.read_state().sites)
        for name in names:
            try:
                accepted[name] = _vector(replies.get(name), request, length)
            except InputError as error:
                standing[name] = f"round {request.round}: {error.message}"
        self._stored.update(sites=standing)
        needed = self._study.aggregation.minimum_sites
        if len(accepted) < needed:
            reasons = "; ".join(f"{name}: {standing[name]}" for name in names if name not in accepted)
            raise HostError(f"round {request.round}: {len(accepted)} of {needed} needed sites answered ({reasons})")
        return accepted


def _vector(answer: tuple[Reply, Vector | None] | None, request: TrainRound | EvaluateRound, length: int) -> Vector:
    if answer is None:
        raise InputError("unreachable")
    reply, vector = answer
    if isinstance(reply, Refusal):
        raise InputError(f"refused: {reply.reason}")
    if not isinstance(reply, RoundDone) or (reply.study, reply.round) != (request.study, request.round):
        raise InputError("answered out of turn")
    if vector is None or vector.shape != (length,) or not np.isfinite(vector).all():
        raise InputError("sent something else than a finite vector of the declared length")
    return vector


def _advice(standing: Mapping[str, str]) -> str:
    open_sites = [f"{name} ({state})" for name, state in standing.items() if state != "approved"]
    return f"not approved: {', '.join(open_sites)}" if open_sites else "all sites have approved"

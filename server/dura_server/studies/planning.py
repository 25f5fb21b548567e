"""Computes what a study would do and cost, before anybody signs it, without any input or output.

For every available policy, the plan says rule by rule whether the study fits, and lists the nearest studies that would
fit. Such an alternative makes all changes that the policy demands, and one further change: fewer steps, a smaller
participation, or more noise. The same rules judge it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dura_common.policy import Finding, Policy, judge
from dura_common.privacy import SampledGaussian, epsilon_of, steps_that_fit
from dura_common.privacy.plan import PrivacyPlan, plan_of
from dura_common.privacy.risk import risk_of_study
from dura_common.study import PatientNoise, SharedNoise, Study

BYTES_PER_PARAMETER = 4
SECONDS_PER_SUM = 0.007
"""Seconds of a secure sum between five sites on one machine: 300 sums of 40,000 parameters took 2 s."""
SECONDS_PER_EXCHANGE = 3.0
"""Seconds of a Flower exchange; a round or an evaluation is one exchange."""
UPLINK = 1.25e6
"""Bytes that a hospital sends in a second; 10 Mbit/s."""
_HALVINGS = 12


class RehearsalPoint(BaseModel):
    """Accuracy of a rehearsal at one epsilon, exact, on all held-out simulated patients."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    epsilon: float = Field(gt=0)
    mean: float
    low: float
    """The lowest accuracy of any seed."""
    high: float
    """The highest accuracy of any seed."""
    seeds: int = Field(1, ge=1)


class Rehearsal(BaseModel):
    """The file that `dura study rehearse` writes; other keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    points: tuple[RehearsalPoint, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Expected:
    """The accuracy that a rehearsal lets one expect."""

    mean: float
    low: float
    high: float
    rehearsed: bool
    """Whether the epsilon is inside the rehearsed range; otherwise the nearest rehearsed epsilon is shown."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What each site sends. Each site receives the same amount."""

    parameters: int
    sums: int
    """Secure sums of training: one a step with shared noise, one a round otherwise."""
    evaluations: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Duration:
    """A rough estimate in seconds. Sites compute at the same time, so the largest site determines the time."""

    computing: float
    sending: float
    exchanging: float

    @property
    def total(self) -> float:
        """All together."""
        return self.computing + self.sending + self.exchanging


@dataclass(frozen=True, slots=True)
class Alternative:
    """A study that fits a policy and resembles the wanted study."""

    change: str
    rounds: int
    steps: int
    participation: float
    epsilon: float
    evaluation_epsilon: float | None
    noise: str
    noise_multiplier: float
    epsilon_if_broken: float
    distance: float
    """Sum of the logarithms of what changed: 0.69 for half the steps, half the participation or twice the noise."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A study against one site's policy."""

    site: str
    findings: tuple[Finding, ...]
    alternatives: tuple[Alternative, ...]
    """Nearest first. If the study fits: the effect of a larger epsilon, up to the cap."""

    @property
    def fits(self) -> bool:
        """Whether every rule holds."""
        return all(finding.passed for finding in self.findings)


def expected(rehearsal: Rehearsal, epsilon: float) -> Expected:
    """Interpolate a rehearsal between its epsilons, linearly over their logarithms."""
    points = sorted(rehearsal.points, key=lambda point: point.epsilon)
    inside = points[0].epsilon <= epsilon <= points[-1].epsilon
    after = next((point for point in points if point.epsilon >= epsilon), points[-1])
    before = next((point for point in reversed(points) if point.epsilon <= epsilon), points[0])
    width = math.log(after.epsilon / before.epsilon)
    share = math.log(epsilon / before.epsilon) / width if width > 0 else 0.0

    def at(name: str) -> float:
        return float(getattr(before, name) * (1 - share) + getattr(after, name) * share)

    return Expected(at("mean"), at("low"), at("high"), rehearsed=inside)


def traffic(study: Study, parameters: int) -> Traffic:
    """Return what each site sends: 4 bytes for each parameter and sum. Evaluations and keys need little more."""
    sums = study.training.steps if isinstance(study.privacy, SharedNoise) else study.training.rounds
    evaluations = len(study.evaluation.rounds(study.training.rounds))
    return Traffic(parameters, sums, evaluations, sums * parameters * BYTES_PER_PARAMETER)


def duration(study: Study, sent: Traffic, seconds_per_patient: float) -> Duration:
    """Estimate the time of a study from the time of one patient's gradient."""
    largest = max(study.training_patients(site) for site in study.sites)
    drawn = study.privacy.participation * largest
    return Duration(
        computing=study.training.steps * drawn * seconds_per_patient,
        sending=sent.sums * SECONDS_PER_SUM + 2 * sent.bytes / UPLINK,
        exchanging=(study.training.rounds + sent.evaluations) * SECONDS_PER_EXCHANGE,
    )


def verdict(study: Study, policy: Policy, *, site: str) -> Verdict:
    """Judge a study by a site's policy, as if nothing had been spent there, and look for alternatives that fit."""
    findings = _judge(study, policy, site)
    fits = all(finding.passed for finding in findings)
    if not isinstance(study.privacy, PatientNoise):
        return Verdict(site, findings, ())
    found = [_larger_epsilon(study, policy)] if fits else _smaller(study, policy)
    good = [
        _alternative(change, other, study)
        for change, other in (item for item in found if item is not None)
        if all(finding.passed for finding in _judge(other, policy, site))
    ]
    return Verdict(site, findings, tuple(sorted(good, key=lambda item: item.distance)))


def _judge(study: Study, policy: Policy, site: str) -> tuple[Finding, ...]:
    plan = plan_of(study)
    findings = judge(policy, study, site=site, public_data=True, epsilon_if_broken=plan.epsilon_if_broken)
    if plan.training_event is None:
        return findings
    price = max(
        epsilon_of([plan.training_event], policy.delta), epsilon_of(plan.evaluation_events.values(), policy.delta)
    )
    return (
        *findings,
        Finding(
            "epsilon-total",
            price <= policy.epsilon_total,
            f"all studies together stay below epsilon {policy.epsilon_total:g}; if nothing was spent before, "
            f"this study brings a patient to {price:.3g}",
        ),
    )


Changed = tuple[str, Study]


def _larger_epsilon(study: Study, policy: Policy) -> Changed | None:
    limit = _limit(study, policy)
    if study.privacy.epsilon >= limit * 0.99:  # type: ignore[union-attr]  # private, see the caller
        return None
    other = _with(study, privacy={"epsilon": limit})
    return None if other is None else (f"epsilon {limit:.3g}, the largest that the policy allows: less noise", other)


def _smaller(study: Study, policy: Policy) -> list[Changed | None]:
    """Return the candidates that keep a policy's limits. Each candidate gives up something else."""
    base = _mended(study, policy)
    if base is None or not isinstance(base.privacy, PatientNoise) or not isinstance(study.privacy, PatientNoise):
        return []
    limit = min(_limit(base, policy), study.privacy.epsilon)
    if limit >= study.privacy.epsilon:
        return [("what the policy demands of every study", base)]
    noise, q, delta = plan_of(study).noise_multiplier, base.privacy.participation, base.privacy.delta
    spare = base.paid_steps - base.training.steps
    rounds = (steps_that_fit(q, noise, limit, delta) - spare) // base.training.steps_per_round
    smaller = _participation_that_fits(q, noise, base.paid_steps, limit, delta)
    candidates = (
        ("more noise, the same steps", {"privacy": {"epsilon": limit}}),
        ("fewer steps, the same noise", {"privacy": {"epsilon": limit}, "training": {"rounds": rounds}}),
        ("smaller participation, the same noise", {"privacy": {"epsilon": limit, "participation": smaller}}),
    )
    return [(change, other) for change, changes in candidates if (other := _with(base, **changes)) is not None]


def _mended(study: Study, policy: Policy) -> Study | None:
    """Return the study with all changes that the policy demands, except a smaller epsilon of training."""
    changes: dict[str, dict[str, Any]] = {
        "data": {"minimum_patients": max(study.data.minimum_patients, policy.minimum_patients)},
        "aggregation": {"minimum_sites": max(study.aggregation.minimum_sites, policy.minimum_sites)},
        "evaluation": {
            "epsilon": min(study.evaluation.epsilon or math.inf, policy.epsilon_per_study, policy.epsilon_total)
        },
        "privacy": {"delta": min(study.privacy.delta, policy.delta)},  # type: ignore[union-attr]  # private
    }
    shared = isinstance(study.privacy, SharedNoise) and "shared" in policy.noise and policy.epsilon_if_broken
    if study.privacy.noise not in policy.noise or (isinstance(study.privacy, SharedNoise) and not shared):
        changes["privacy"]["noise"] = "local"
    mended = _with(study, **changes)
    if mended is None or not isinstance(mended.privacy, SharedNoise) or policy.epsilon_if_broken is None:
        return mended
    allowed = policy.epsilon_if_broken

    def fits(epsilon: float) -> bool:
        other = _with(mended, evaluation={"epsilon": epsilon})
        return other is not None and plan_of(other).evaluation_epsilon_if_broken <= allowed

    wanted = mended.evaluation.epsilon or 0.0
    return mended if fits(wanted) else _with(mended, evaluation={"epsilon": _bisect(fits, wanted)})


def _limit(study: Study, policy: Policy) -> float:
    """Return the largest epsilon of training under all caps, including the cap for a broken aggregation."""
    cap = min(policy.epsilon_per_study, policy.epsilon_total, 100.0)
    if not isinstance(study.privacy, SharedNoise) or policy.epsilon_if_broken is None:
        return cap
    allowed = policy.epsilon_if_broken

    def fits(epsilon: float) -> bool:
        other = _with(study, privacy={"epsilon": epsilon})
        return other is not None and plan_of(other).training_epsilon_if_broken <= allowed

    return cap if fits(cap) else _bisect(fits, cap)


def _participation_that_fits(q: float, noise: float, steps: int, epsilon: float, delta: float) -> float:
    def fits(participation: float) -> bool:
        event = SampledGaussian(participation=participation, noise_multiplier=noise, steps=steps)
        return epsilon_of([event], delta) <= epsilon

    return _bisect(fits, q)


def _bisect(fits: Callable[[float], bool], most: float) -> float:
    """Return a value below ``most`` that fits, close to the largest; 0 if none was found."""
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _with(study: Study, **changes: Mapping[str, Any]) -> Study | None:
    """Return the study with some keys of some sections changed; None if the result is not a valid study."""
    data = study.model_dump(mode="json")
    for section, values in changes.items():
        data[section] = {**data[section], **values}
    try:
        return Study.model_validate(data)
    except ValidationError:
        return None


def _alternative(change: str, other: Study, study: Study) -> Alternative:
    plan, before = plan_of(other), plan_of(study)
    ratios: Sequence[float] = (
        other.training.steps / study.training.steps,
        other.privacy.participation / study.privacy.participation,
        plan.noise_multiplier / before.noise_multiplier,
    )
    return Alternative(
        change=change,
        rounds=other.training.rounds,
        steps=other.training.steps,
        participation=other.privacy.participation,
        epsilon=plan.training_epsilon,
        evaluation_epsilon=other.evaluation.epsilon,
        noise=other.privacy.noise,
        noise_multiplier=plan.noise_multiplier,
        epsilon_if_broken=plan.epsilon_if_broken,
        distance=sum(abs(math.log(ratio)) for ratio in ratios),
    )


def summary(plan: PrivacyPlan, study: Study) -> dict[str, Any]:
    """Return noise and epsilons in the form for scripts; an empty result without noise."""
    if plan.training_event is None or not isinstance(study.privacy, PatientNoise):
        return {"noise": "none", "relation": "add/remove one patient", "epsilon": None}
    return {
        "noise": study.privacy.noise,
        "noise_multiplier": plan.noise_multiplier,
        "share_multiplier": plan.share_multiplier,
        "honest_sites": plan.honest_sites,
        "relation": "add/remove one patient",
        "delta": study.privacy.delta,
        "epsilon": {
            "training": {"world": plan.training_epsilon, "broken_aggregation": plan.training_epsilon_if_broken},
            "evaluation": {"world": plan.evaluation_epsilon, "broken_aggregation": plan.evaluation_epsilon_if_broken},
        },
        "risk": {
            "world": asdict(risk_of_study(study)),
            "broken_aggregation": asdict(risk_of_study(study, broken=True)),
        },
    }

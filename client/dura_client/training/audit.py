"""An audit of the engine on a site's own study: what an observer of every step would see of canaries.

A canary is an invented patient whose gradient lies on a coordinate of its own and has the full clipping norm (a Dirac
gradient; Nasr et al. 2023, arXiv 2302.07956). Half of the canaries take part, together with the site's real patients,
in the real engine with the study's settings. In units of the clipping norm, and times the public divisor, a member's
coordinate moves in each step by a coin flip of probability q plus noise, a non-member's coordinate by noise alone:

    member      mean q, variance sigma^2 + q (1 - q)        non-member   mean 0, variance sigma^2

Noise that is too small, sampling that is too frequent, clipping that is too weak and a divisor that follows the data
each move these figures. Two more checks need no canaries: the largest weight of any patient, and steps in which nobody
is drawn. A normal distribution that is fitted to the sums of members and non-members gives the epsilon that these
canaries show. The audit compares it with the epsilon that the same fit gives for the mechanism that was accounted for.

Steps of :func:`audit`:

1. invent canaries, choose half of them as members;
2. make the study's steps with real patients and members, and keep each coordinate's mean and variance;
3. make steps without patients;
4. measure the weight of every patient, and of an adversary, alone;
5. compare with what was accounted for, within the errors that the numbers of canaries and steps allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dura_client.data.privacy_class import Step
from dura_client.training.engine import PatientEngine, make_steps
from dura_client.training.patient import TrainingPatient
from dura_client.training.secure_random import choose
from dura_common.errors import InputError
from dura_common.privacy import Gaussian, epsilon_of
from dura_common.privacy.grid import WHOLE
from dura_common.study import Study

CANARIES = 600
EMPTY_STEPS = 8
MOST_ERRORS = 5.0
"""Standard errors by which a figure may differ; an honest engine exceeds this once in a hundred thousand audits."""
CERTAIN = 1.96
LARGE = 1e6
"""Length of a canary's gradient before clipping, far above any clipping norm."""
LARGEST_MU = 15.0
"""Separation beyond which every epsilon is above a hundred."""

SHOWS = (
    "noise of the stated size reaches every parameter in every step, also when nobody is drawn",
    "no patient of this data set, and no invented one, weighs more than the clipping norm",
    "patients are drawn as often as the study says, and the divisor is the public one",
)
CANNOT_SHOW = (
    "that no attack learns more: the fitted epsilon is what these canaries show; only the accounting is a bound",
    "that the generator of noise and sampling cannot be predicted by somebody inside this machine",
    "that two labels are not the same person, or that the data are what they are said to be",
    "anything about a program other than the one installed here: a person who alters the engine can alter its audit",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One measured figure, with the value that was accounted for."""

    name: str
    seen: float
    expected: float
    tolerance: float
    """Largest difference that an honest engine shows."""
    bound: bool = False
    """Whether ``expected`` is a bound from above rather than a value."""

    @property
    def passed(self) -> bool:
        """Whether the figure is as expected; a figure that is not a number never is."""
        if self.bound:
            return self.seen <= self.expected + self.tolerance
        return abs(self.seen - self.expected) <= self.tolerance


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found."""

    canaries: int
    members: int
    steps: int
    checks: tuple[Check, ...]
    fitted_epsilon: float
    """Epsilon of the canaries' sums, from a normal distribution that is fitted to them."""
    fitted_epsilon_range: tuple[float, float]
    """95 % confidence interval, given the number of canaries."""
    expected_epsilon: float
    """Epsilon that the same fit gives, with unlimited canaries, for the mechanism that was accounted for."""
    delta: float

    @property
    def passed(self) -> bool:
        """Whether every figure is what was accounted for."""
        return all(check.passed for check in self.checks)


class Canaried(nn.Module):
    """A model with one more parameter for each canary; a window of shape (1, 1) holds the number of its canary."""

    def __init__(self, network: nn.Module, canaries: int, classes: int) -> None:
        super().__init__()
        self.network = network
        self.canaries = nn.Parameter(torch.zeros(canaries))
        self.classes = classes

    def forward(self, windows: Tensor) -> Tensor:
        """Return the model's logits, or for canaries zeros whose gradient lies on their own coordinate."""
        if windows.shape[1:] != (1, 1):
            logits: Tensor = self.network(windows)
            return logits
        weight = self.canaries[windows[:, 0, 0].long()]
        last = LARGE * (weight - weight.detach())  # always zero, so that no step changes the next gradient
        return torch.nn.functional.pad(last.unsqueeze(1), (self.classes - 1, 0))


def canary(index: int) -> TrainingPatient:
    """Return the patient whose gradient lies on the coordinate ``index``."""
    return TrainingPatient(np.full((2, 1, 1), index, dtype=np.float32), np.zeros(2, dtype=np.int64))


class _Watch:
    """Sums of what each step shows of the canaries, in units of the clipping norm."""

    def __init__(self, canaries: int) -> None:
        self.total = np.zeros(canaries)
        self.squares = np.zeros(canaries)

    def see(self, shown: NDArray[np.float64]) -> None:
        """Add what one step shows of each canary."""
        self.total += shown
        self.squares += shown**2


class _WatchedEngine(PatientEngine):
    """The engine, with an observer who sees the mean gradient of every step."""

    watch: _Watch
    divisor: float
    """The public divisor. The observer knows it and multiplies by it."""

    def apply(self, total: NDArray[np.int64], divisor: float) -> None:
        """Show the canaries' part of the mean gradient, and make the step. Canaries are the first parameters."""
        self.watch.see(total[: self.watch.total.size].astype(np.float64) * (self.divisor / divisor / WHOLE))
        super().apply(total, divisor)


def audit(
    network: nn.Module,
    patients: Sequence[TrainingPatient],
    study: Study,
    *,
    noise_multiplier: float,
    delta: float,
    declared_patients: float,
    preparation: Sequence[Step],
    canaries: int = CANARIES,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Audit the engine with a study's settings on the site's own patients.

    Nothing is released: the results stay at the site and do not touch the ledger.

    Args:
        network: the study's model; it is trained in place.
        patients: the site's training patients.
        study: the study whose settings are used.
        noise_multiplier: what this site adds in a step.
        delta: the delta at which epsilon is computed.
        declared_patients: public number of training patients.
        preparation: the steps that the patients' data went through.
        canaries: how many; more make the audit sharper.
        device: where to compute.
        progress: called with (steps done, steps).

    Raises:
        InputError: a study without noise, or too few canaries to say anything.
        PolicyError: a preparation step uses an unpaid statistic over patients.
    """
    if noise_multiplier <= 0:
        raise InputError("a study without noise promises no privacy; there is nothing to audit")
    if canaries < 20:  # noqa: PLR2004  # with fewer, a spread says little
        raise InputError(f"an audit needs at least 20 canaries, got {canaries}")
    rate = study.privacy.participation
    divisor = rate * declared_patients
    model = Canaried(network, canaries, study.data.outputs)
    engine = _WatchedEngine(model, study, preparation=preparation, device=device)
    engine.divisor = divisor
    member = np.zeros(canaries, dtype=np.bool_)  # 1
    member[choose(canaries, canaries // 2)] = True
    invented = [canary(int(index)) for index in np.flatnonzero(member)]

    engine.watch = watch = _Watch(canaries)  # 2
    steps = study.training.steps
    make_steps(engine, [*patients, *invented], steps, noise_multiplier, divisor, progress=progress)
    engine.watch = empty = _Watch(canaries)  # 3
    make_steps(engine, [], EMPTY_STEPS, noise_multiplier, divisor)
    heaviest = max(_weight(engine, one) for one in [*patients, canary(0)])  # 4
    return _compare(watch, empty, member, heaviest, steps=steps, rate=rate, noise=noise_multiplier, delta=delta)  # 5


def _weight(engine: PatientEngine, patient: TrainingPatient) -> float:
    """Return the length of one patient's part of a sum, in units of the clipping norm, by integer arithmetic."""
    return math.sqrt(sum(int(value) ** 2 for value in engine.clipped_sum([patient]))) / WHOLE


def _compare(
    watch: _Watch,
    empty: _Watch,
    member: NDArray[np.bool_],
    heaviest: float,
    *,
    steps: int,
    rate: float,
    noise: float,
    delta: float,
) -> Audit:
    inside, outside = int(member.sum()), int((~member).sum())
    coin = rate * (1 - rate)
    seen_in = _moments(watch, member, steps)
    seen_out = _moments(watch, ~member, steps)
    seen_empty = _moments(empty, np.ones_like(member), EMPTY_STEPS)
    deviation = math.sqrt(noise**2 + coin)

    def check(name: str, seen: float, expected: float, error: float) -> Check:
        return Check(name, seen, expected, MOST_ERRORS * error)

    def of_spread(value: float, count: int) -> float:
        return value / math.sqrt(2 * count)

    checks = (
        check("mean of members", seen_in[0], rate, deviation / math.sqrt(inside * steps)),
        check("spread of members", seen_in[1], deviation, of_spread(deviation, inside * steps)),
        check("mean of non-members", seen_out[0], 0.0, noise / math.sqrt(outside * steps)),
        check("spread of non-members", seen_out[1], noise, of_spread(noise, outside * steps)),
        check(
            "spread of members' sums",
            float(np.std(watch.total[member], ddof=1)),
            math.sqrt(steps) * deviation,
            of_spread(math.sqrt(steps) * deviation, inside),
        ),
        check(
            "spread of non-members' sums",
            float(np.std(watch.total[~member], ddof=1)),
            math.sqrt(steps) * noise,
            of_spread(math.sqrt(steps) * noise, outside),
        ),
        check("spread when nobody is drawn", seen_empty[1], noise, of_spread(noise, member.size * EMPTY_STEPS)),
        Check("heaviest patient", heaviest, 1.0, 0.0, bound=True),
    )
    separation, error = _separation(watch.total[member], watch.total[~member])
    expected = math.sqrt(steps) * rate / math.sqrt(noise**2 + coin / 2)
    return Audit(
        canaries=member.size,
        members=inside,
        steps=steps,
        checks=checks,
        fitted_epsilon=_epsilon(separation, delta),
        fitted_epsilon_range=(
            _epsilon(separation - CERTAIN * error, delta),
            _epsilon(separation + CERTAIN * error, delta),
        ),
        expected_epsilon=_epsilon(expected, delta),
        delta=delta,
    )


def _moments(watch: _Watch, chosen: NDArray[np.bool_], steps: int) -> tuple[float, float]:
    """Return mean and standard deviation of single steps over the chosen coordinates."""
    count = int(chosen.sum()) * steps
    mean = float(watch.total[chosen].sum() / count)
    return mean, math.sqrt(max(float(watch.squares[chosen].sum() / count) - mean**2, 0.0))


def _separation(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> tuple[float, float]:
    """Return the distance of two samples' means in units of their spread, and its standard error."""
    spread = math.sqrt((np.var(inside, ddof=1) + np.var(outside, ddof=1)) / 2)
    if not math.isfinite(spread) or spread == 0:
        return math.inf, 0.0  # without noise, members and non-members differ at once
    distance = float(np.mean(inside) - np.mean(outside)) / spread
    error = math.sqrt(1 / inside.size + 1 / outside.size + distance**2 / (2 * (inside.size + outside.size)))
    return distance, error


def _epsilon(separation: float, delta: float) -> float:
    """Return epsilon at ``delta`` for two normal distributions (Dong et al. 2022, J. R. Stat. Soc. B 84:3)."""
    if separation <= 1 / 1e4:
        return 0.0
    if separation > LARGEST_MU:
        return math.inf
    return epsilon_of([Gaussian(noise_multiplier=1 / separation)], delta)

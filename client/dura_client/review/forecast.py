"""Forecasts: which epsilons and how many steps of further studies fit under the caps for a data set's patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dura_client.data.prepare import pseudonym
from dura_client.data.registry import load_dataset
from dura_client.data.sources.subjects import subjects_of
from dura_client.ledger.ledger import Caps, Ledger
from dura_client.ledger.place import site_ledger
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import load_policy
from dura_client.training.split import SMALLEST_SIDE, side_of
from dura_common.errors import InputError
from dura_common.policy import Policy
from dura_common.privacy import Event, Gaussian, SampledGaussian, calibrate_evaluation, calibrate_training
from dura_common.privacy.accounting import largest
from dura_common.privacy.blocks import Block

EPSILONS = (0.5, 1.0, 2.0, 3.0, 5.0, 8.0)
STEPS = (50, 100, 200, 500)
PARTICIPATIONS = (0.1, 0.5)
MOST_STUDIES = 1000
"""The largest number of studies of one kind that is counted."""
TOLERANCE = 0.02
"""The relative error by which the largest epsilon may be too small."""


@dataclass(frozen=True, slots=True)
class StudyKind:
    """One kind of study that may be offered to a site."""

    participation: float
    epsilon: float
    steps: int
    noise_multiplier: float
    """The noise multiplier of the sums of training."""
    studies: int
    """How many such studies fit one after another; 0 if none fits."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The studies that fit for the patients of a data set, at the policy's delta."""

    training_patients: int
    held_out_patients: int
    largest_training: float
    """Largest epsilon of one more study for training patients; at most the cap of one study."""
    largest_evaluation: float
    """Largest epsilon of one more study for held-out patients."""
    kinds: tuple[StudyKind, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """The kinds of studies to examine."""

    participations: Sequence[float] = PARTICIPATIONS
    epsilons: Sequence[float] = EPSILONS
    steps: Sequence[int] = STEPS
    held_out: float = 0.25
    """The share of patients that a study holds out."""

    def __post_init__(self) -> None:
        fine = (
            all(0 < value <= 1 for value in self.participations)
            and all(0 < value <= 100 for value in self.epsilons)  # noqa: PLR2004  # the study's own bound
            and all(value >= 1 for value in self.steps)
            and 0 < self.held_out <= 0.5  # noqa: PLR2004  # idem
        )
        if not (fine and self.participations and self.epsilons and self.steps):
            raise InputError(
                "expected participations in (0, 1], epsilons in (0, 100], steps from 1 on, a held-out share in (0, 0.5]"
            )


def forecast(
    home: SiteHome, dataset: str, question: Question, *, progress: Callable[[int, int], None] | None = None
) -> Forecast:
    """Answer a question. Nothing is recorded, and only the names of the recordings are read.

    Raises:
        PolicyError: the site has no policy.
        InputError: the data set is unknown or empty, or all patients have withdrawn.
        TrustError: the ledger was tampered with.
    """
    policy, ledger = load_policy(home), site_ledger(home)
    training, testing = _sides(home, dataset, question.held_out, ledger)
    budget = _Budget(policy, ledger)
    kinds = []
    grid = [(q, e, s) for q in question.participations for e in question.epsilons for s in question.steps]
    for done, (participation, epsilon, steps) in enumerate(grid):
        noise = calibrate_training(epsilon, policy.delta, participation, steps)
        event = SampledGaussian(participation=participation, noise_multiplier=noise, steps=steps)
        studies = budget.studies(training, event) if epsilon <= policy.epsilon_per_study else 0
        kinds.append(StudyKind(participation, epsilon, steps, noise, studies))
        if progress is not None:
            progress(done + 1, len(grid))

    def train(epsilon: float) -> Event:
        noise = calibrate_training(epsilon, policy.delta, question.participations[0], question.steps[0])
        return SampledGaussian(
            participation=question.participations[0], noise_multiplier=noise, steps=question.steps[0]
        )

    def evaluate(epsilon: float) -> Event:
        return Gaussian(noise_multiplier=calibrate_evaluation(epsilon, policy.delta, 1)[1])

    return Forecast(
        training_patients=len(training),
        held_out_patients=len(testing),
        largest_training=budget.largest_epsilon(training, train),
        largest_evaluation=budget.largest_epsilon(testing, evaluate),
        kinds=tuple(kinds),
    )


@dataclass(frozen=True, slots=True)
class _Budget:
    policy: Policy
    ledger: Ledger

    def fits(self, patients: tuple[str, ...], event: Event, times: int = 1) -> bool:
        # As one block, and with the same cost if the aggregation is broken: it is not known who adds the noise.
        block = Block("train", 0, 1, event, event)
        return all(self.ledger.room(patients, [block], Caps.of(self.policy), times=times))

    def studies(self, patients: tuple[str, ...], event: SampledGaussian) -> int:
        """Return how many studies with this event fit one after another."""
        if not patients:
            return 0
        return largest(lambda count: self.fits(patients, event, count), MOST_STUDIES)

    def largest_epsilon(self, patients: tuple[str, ...], event_at: Callable[[float], Event]) -> float:
        """Return the largest epsilon of a study that fits, and never an epsilon that does not fit."""
        low, high = 0.0, self.policy.epsilon_per_study
        if not patients:
            return 0.0
        if self.fits(patients, event_at(high)):
            return high
        while high - low > TOLERANCE * high:
            middle = (low + high) / 2
            if self.fits(patients, event_at(middle)):
                low = middle
            else:
                high = middle
            if high < TOLERANCE:
                break
        return low


def _sides(home: SiteHome, dataset: str, fraction: float, ledger: Ledger) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys of the patients who would train and of those who would be held out."""
    pseudonym_key, withdrawn = SiteKeys(home).pseudonym_key(), ledger.withdrawn()
    subjects = subjects_of(load_dataset(home, dataset))
    keys = sorted({pseudonym(subject, pseudonym_key) for subject in subjects} - withdrawn)
    if not keys:
        raise InputError(f"all patients of the data set {dataset} have withdrawn")
    identity, before = ledger.identity(), ledger.held_out_before()
    size = max(SMALLEST_SIDE, fraction) if identity is None else identity.held_out
    sides = {key: side_of(key, fraction, size) for key in keys}
    training = tuple(key for key in keys if sides[key] == "training" and key not in before)
    return training, tuple(key for key in keys if sides[key] == "held out")

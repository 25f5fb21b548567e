"""The computations for a request: steps with shared noise, a round with this site's own noise, an evaluation.

Nothing here decides whether a computation is allowed, or what it costs. The gate decides
(:mod:`dura_client.release.gate`) and pays for every draw (:mod:`dura_client.release.paid`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dura_client.data.privacy_class import Step
from dura_client.patients.frozen import FrozenCohort
from dura_client.training import evaluation
from dura_client.training.clipping import add_noise
from dura_client.training.engine import PatientEngine, train_round
from dura_client.training.patient import TrainingPatient
from dura_common.models import TrainingState, load_vector, to_vector
from dura_common.outputs.duplicates import length_in
from dura_common.outputs.scores import WHOLE, length_of, parts_of, to_integers
from dura_common.privacy.plan import PrivacyPlan
from dura_common.secagg import Opened
from dura_common.study import Study
from dura_common.sums.agreed import WeightedChange, divisor_of, follow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setting:
    """The input of every part: the approved study, its plan, this site's name and machine, and its patients."""

    study: Study
    plan: PrivacyPlan
    site: str
    device: str
    members: tuple[str, ...]
    places: int
    """Patients that every step of training computes (:mod:`dura_client.training.places`); 0 for those drawn alone."""
    preparation: tuple[Step, ...]
    """The preparation steps of the patients' data. The engine refuses statistics that have not been paid for."""


class SharedSteps:
    """Training with shared noise: one sum for each step, from which every site makes the same step."""

    def __init__(self, setting: Setting, network: nn.Module, state: TrainingState, cohort: FrozenCohort) -> None:
        self._setting = setting
        self._cohort = cohort
        self._engine = PatientEngine(
            network,
            setting.study,
            preparation=setting.preparation,
            state=state,
            places=setting.places,
            device=setting.device,
        )

    @property
    def state(self) -> TrainingState:
        """After the last opened sum."""
        return self._engine.state

    def compute(self, withdrawn: frozenset[str]) -> NDArray[np.int64]:
        """Return this site's sum of clipped gradients with its share of the noise."""
        total = self._engine.clipped_sum(self._engine.draw(self._cohort.side("train", withdrawn)))
        return add_noise(total, self._setting.plan.share_multiplier)

    def opened(self, opened: Opened) -> None:
        """Make the same step as every other site."""
        self._engine.apply(opened.total, divisor_of(self._setting.study, opened.contributors))


class AveragedRound:
    """Training with this site's own noise: all steps of a round here, then one sum of weighted changes."""

    def __init__(self, setting: Setting, network: nn.Module, state: TrainingState, cohort: FrozenCohort) -> None:
        self._setting = setting
        self._network = network
        self._cohort = cohort
        self.state = state
        """After the last opened sum."""

    def compute(self, withdrawn: frozenset[str]) -> NDArray[np.signedinteger]:
        """Train from the common model and return the weighted change."""
        setting = self._setting
        before = self.state.parameters
        load_vector(self._network, before)
        train_round(
            self._network,
            self._cohort.side("train", withdrawn),
            setting.study,
            setting.plan,
            declared_patients=setting.study.training_patients(setting.site),
            preparation=setting.preparation,
            places=setting.places,
            device=setting.device,
        )
        change = WeightedChange(setting.study)
        return change.encode(setting.site, before, to_vector(self._network))

    def opened(self, opened: Opened) -> None:
        """Take the average, as everybody does."""
        self.state = follow(self._setting.study, self._network, self.state, opened)


class Evaluation:
    """Scores of held-out patients in one sum, followed by the table of recordings if the study asks for it.

    Args:
        setting: study, plan and place.
        network: with the parameters to score.
        cohort: the cohort whose held-out patients are scored.
        round_number: the round of the evaluation (1-based).
        table: makes this site's table (:mod:`dura_common.outputs.duplicates`); called for studies without noise only.
    """

    def __init__(
        self,
        setting: Setting,
        network: nn.Module,
        cohort: FrozenCohort,
        round_number: int,
        table: Callable[[], NDArray[np.int64]],
    ) -> None:
        self._setting = setting
        self._network = network
        self._cohort = cohort
        self._round = round_number
        self._table = table

    def compute(self, withdrawn: frozenset[str]) -> NDArray[np.int64]:
        """Return the sum of this site's contributions with its noise, or its share of it."""
        setting = self._setting
        parts = parts_of(setting.study, self._round)
        rows = [row for one in self._cohort.side("evaluate", withdrawn) if (row := self._score(one)) is not None]
        event = setting.plan.evaluation_events.get(self._round)
        noise = 0.0 if event is None else setting.plan.share_of(event.noise_multiplier)
        total = to_integers(np.stack(rows) if rows else np.zeros((0, length_of(parts))), parts)
        scores = add_noise(total, noise, whole=WHOLE)
        return np.concatenate([scores, self._table()]) if length_in(setting.study, self._round) else scores

    def _score(self, patient: TrainingPatient) -> NDArray[np.float64] | None:
        """Return the contribution of one patient; None, which means zero, if the patient cannot be scored."""
        if not len(patient.labels):
            return None
        try:
            return evaluation.contribution(self._network, patient, self._setting.study, self._round)
        except Exception as error:  # noqa: BLE001  # a fault in one patient's data must not stop the sum of the others
            log.warning("a held-out patient cannot be scored (%s) and counts as zero", type(error).__name__)
            return None

    def opened(self, opened: Opened) -> None:
        """Do nothing, because the sum itself is the release."""

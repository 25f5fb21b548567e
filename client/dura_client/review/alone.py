"""Computations whose results stay in the hospital: a model trained here alone, a model scored here, an audit.

These results are no release: they are printed at the site and sent nowhere, so the ledger is not charged. A person who
passes on such a figure releases it without protection; the commands say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from dura_client.data.registry import load_dataset
from dura_client.patients.cohort import Cohort, load_cohort
from dura_client.site.home import SiteHome
from dura_client.site.settings import load_settings
from dura_client.training.audit import Audit, audit
from dura_client.training.engine import train_round
from dura_client.training.evaluation import score
from dura_client.training.patient import TrainingPatient
from dura_common.errors import InputError, PolicyError
from dura_common.models import build_model, load_vector
from dura_common.privacy.plan import plan_of
from dura_common.runtime.files import read_limited
from dura_common.study import NoNoise, Study

MAX_MODEL_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class LocalScore:
    """Accuracy on held-out patients (or recordings) of this site, exact."""

    scores: tuple[float, ...]
    """Share of correct windows of each patient, in no order that names one."""

    @property
    def accuracy(self) -> float:
        """Mean over patients."""
        return float(np.mean(self.scores))

    @property
    def spread(self) -> float:
        """Standard deviation over patients."""
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else 0.0


def read_parameters(path: Path) -> NDArray[np.float32]:
    """Read a model's parameters (1-D float32) from a safetensors file.

    Raises:
        InputError: the file is missing, is too large, or is not such a file.
    """
    content = read_limited(path, what="the model", limit=MAX_MODEL_BYTES)
    try:
        return load_tensors(content)["parameters"]
    except (SafetensorError, KeyError) as error:
        raise InputError(f"the model is not a safetensors file of dura: {path}") from error


def score_here(homes: Sequence[SiteHome], study: Study, dataset: str, parameters: NDArray[np.float32]) -> LocalScore:
    """Score a model (1-D float32 parameters) on this site's held-out side; several homes as in :func:`train_alone`."""
    refuse_real(homes, dataset)
    cohorts = _load(homes, study, dataset)
    model = build_model(study)
    load_vector(model, parameters)
    return LocalScore(tuple(sorted(score(model, patient) for patient in _all(cohorts, "held_out"))))


def train_alone(
    homes: Sequence[SiteHome],
    study: Study,
    dataset: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> LocalScore:
    """Train the study's model on the data of ``homes[0]`` alone, with the study's noise, and score it there.

    With several homes, their patients are pooled. Only a simulation may know this result.

    Raises:
        PolicyError: the data to be pooled are neither simulated nor public.
    """
    refuse_real(homes, dataset)
    cohorts = _load(homes, study, dataset)
    declared = sum(_declared(home, study) for home in homes)
    model = build_model(study)
    training = _all(cohorts, "training")
    rounds = study.training.rounds
    for number in range(1, rounds + 1):
        train_round(
            model,
            training,
            study,
            plan_of(study),
            declared_patients=declared,
            preparation=cohorts[0].steps,
            device=load_settings(homes[0]).device,
        )
        if progress is not None:
            progress(number, rounds)
    return LocalScore(tuple(sorted(score(model, patient) for patient in _all(cohorts, "held_out"))))


def refuse_real(homes: Sequence[SiteHome], dataset: str) -> None:
    """Allow one site's data, and data of several sites only if nobody real is in them.

    Raises:
        PolicyError: there are several sites, and data of one of them are neither simulated nor public.
    """
    for home in homes if len(homes) > 1 else ():
        registered = load_dataset(home, dataset)
        if not (registered.simulated or registered.public):
            raise PolicyError(
                "data of several sites may be pooled or compared in one place only if they are simulated or public",
                hint="A real hospital's data never leave it; use the federated model.",
            )


def _load(homes: Sequence[SiteHome], study: Study, dataset: str) -> list[Cohort]:
    return [load_cohort(home, study, dataset) for home in homes]


def audit_here(
    home: SiteHome,
    study: Study,
    dataset: str,
    *,
    canaries: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Audit, float]:
    """Audit the engine on this site's training patients; return the audit and the accounted epsilon.

    With shared noise, the site adds only its share. The audit then sees what a coordinator would see after breaking the
    aggregation, and the epsilon is the one against this coordinator.

    Raises:
        InputError: the study has no noise, or the data set does not fulfil the contract.
    """
    if isinstance(study.privacy, NoNoise):
        raise InputError("a study without noise promises no privacy; there is nothing to audit")
    cohort = load_cohort(home, study, dataset)
    plan = plan_of(study)
    result = audit(
        build_model(study),
        cohort.training,
        study,
        noise_multiplier=plan.share_multiplier,
        delta=study.privacy.delta,
        declared_patients=_declared(home, study),
        preparation=cohort.steps,
        canaries=canaries,
        device=load_settings(home).device,
        progress=progress,
    )
    return result, plan.training_epsilon_if_broken


def _declared(home: SiteHome, study: Study) -> float:
    return study.training_patients(load_settings(home).name)


def _all(cohorts: Sequence[Cohort], side: str) -> list[TrainingPatient]:
    return [patient for cohort in cohorts for patient in getattr(cohort, side)]

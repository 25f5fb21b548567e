"""The study: one file that says everything that a training will do, and the digest that names it.

A researcher writes TOML, :func:`parse_study` validates it, and signing binds it to a roster
(:class:`StudyDocument`). Sites take every limit from the document they approved and none from a message.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dura_common.study.aggregation import Aggregation
from dura_common.study.data import DataContract
from dura_common.study.evaluation import Evaluation
from dura_common.study.models import EEGNetModel, LinearModel, Model
from dura_common.study.noise import LocalNoise, PatientNoise, Privacy, SharedNoise
from dura_common.study.training import DpSgdTraining, ResidualDescentTraining, Training
from dura_common.study.validation import Digest, Frozen, SiteName, Word, explain_validation, parse_toml

STUDY_TYPE = "application/vnd.dura.study+json"
"""Payload type of a signed study."""

MINIMUM_HONEST_SITES = 3
"""Fewest honest sites behind shared noise. With two, each of them learns the other's own vector by subtracting
its own from the opened sum, so that aggregation would hide nothing; with three it learns the sum of two."""
MAX_STEPS = 1_000_000
"""Most optimiser steps of a study; a bound for accounting time, far above any real training."""


class Study(Frozen):
    """One training, as the researcher describes it in study.toml."""

    name: Word
    question: Annotated[str, Field(min_length=1, max_length=500)]
    expires: date
    """Last day (UTC) on which a site takes part."""
    sites: Annotated[dict[SiteName, Annotated[int, Field(ge=1, le=10_000_000)]], Field(min_length=2, max_length=500)]
    """Declared, public number of patients of each site; live counts are never sent."""
    data: DataContract
    model: Model = EEGNetModel()
    privacy: Privacy
    training: Training
    evaluation: Evaluation = Evaluation()
    aggregation: Aggregation

    def training_patients(self, site: str) -> float:
        """Return the declared, public number of a site's training patients: the divisor of its sums over q."""
        declared = float(self.sites[site])
        return declared if self.evaluation.split == "recordings" else declared * (1 - self.evaluation.held_out)

    @property
    def paid_steps(self) -> int:
        """Steps that the noise is sized for: those of the training and the spare ones."""
        return self.training.steps + self.aggregation.spare_steps

    @property
    def honest_sites(self) -> int:
        """h: sites whose noise is certain to be in every sum and unknown to whoever looks at it."""
        return len(self.sites) - self.aggregation.tolerated_dropouts - self.aggregation.tolerated_colluders

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.aggregation.minimum_sites > len(self.sites):
            raise ValueError(
                f"aggregation.minimum_sites is {self.aggregation.minimum_sites}, "
                f"but only {len(self.sites)} sites are listed"
            )
        small = sorted(name for name, patients in self.sites.items() if patients < self.data.minimum_patients)
        if small:
            raise ValueError(f"declared patients are below data.minimum_patients at {', '.join(small)}")
        if self.paid_steps > MAX_STEPS:
            raise ValueError(
                f"the study has {self.paid_steps} steps with the spare ones, at most {MAX_STEPS} are allowed"
            )
        private = isinstance(self.privacy, PatientNoise)
        if private and self.evaluation.epsilon is None:
            raise ValueError("evaluation.epsilon is missing: evaluation is a release and must be paid for")
        if not private and self.evaluation.epsilon is not None:
            raise ValueError('evaluation.epsilon has no meaning with noise = "none"; remove it')
        if private and self.evaluation.split != "patients":
            raise ValueError('evaluation.split must be "patients": a patient must not train and be held out')
        if private and self.evaluation.duplicates:
            raise ValueError(
                'evaluation.duplicates = true needs noise = "none": a private release cannot find one person held '
                "twice, since that is what patient-level privacy hides"
            )
        self._check_engine()
        self._check_evaluation()
        if isinstance(self.privacy, LocalNoise) and self.privacy.delta * max(self.sites.values()) >= 1:
            raise ValueError("privacy.delta must be below 1 / patients at every site")
        self._check_shared_noise()
        return self

    def _check_evaluation(self) -> None:
        if "auc" in self.evaluation.outputs and len(self.data.classes) != 2:  # noqa: PLR2004  # a curve has two sides
            raise ValueError('evaluation.outputs: "auc" needs exactly two classes')
        if self.evaluation.split == "recordings":
            return
        few = sorted(
            name
            for name, patients in self.sites.items()
            if patients * self.evaluation.held_out < self.evaluation.minimum_held_out
        )
        if few:
            raise ValueError(
                f"fewer than evaluation.minimum_held_out = {self.evaluation.minimum_held_out} patients would be held "
                f"out at {', '.join(few)}"
            )

    def _check_engine(self) -> None:
        """Refuse settings with which the engines for feature vectors would not be what their names say."""
        if isinstance(self.training, DpSgdTraining):
            return
        engine = self.training.engine
        if not (isinstance(self.model, LinearModel) and self.model.unit_norm):
            raise ValueError(f'training.engine = "{engine}" needs model.name = "linear" with unit_norm = true')
        if self.privacy.participation != 1 or self.privacy.clipping_norm != 1:
            raise ValueError(
                f'training.engine = "{engine}" needs privacy.participation = 1 and privacy.clipping_norm = 1: '
                "every patient enters every sum with a vector of length at most one"
            )

    def _check_shared_noise(self) -> None:
        """Refuse sums that could be opened with less noise than the study promises."""
        rules = self.aggregation
        if not isinstance(self.privacy, SharedNoise):
            return
        if self.honest_sites < MINIMUM_HONEST_SITES:
            raise ValueError(
                f"{len(self.sites)} sites less {rules.tolerated_dropouts} dropouts and {rules.tolerated_colluders} "
                f"colluders leave {self.honest_sites} honest ones; shared noise needs {MINIMUM_HONEST_SITES}"
            )
        fewest = len(self.sites) - rules.tolerated_dropouts
        if rules.minimum_sites < fewest:
            raise ValueError(
                f"aggregation.minimum_sites is {rules.minimum_sites}: a sum of so few sites lacks noise; with "
                f"{rules.tolerated_dropouts} tolerated dropouts it must be at least {fewest}"
            )
        if isinstance(self.training, ResidualDescentTraining) and self.training.average:
            raise ValueError(
                'training.average = true is for noise = "local": with shared noise sites make single steps'
            )
        if self.privacy.delta * sum(self.sites.values()) >= 1:
            raise ValueError("privacy.delta must be below 1 / patients of all sites together")


class StudyDocument(Frozen):
    """What is signed: the study and the roster it is meant for. Its SHA-256 names the study everywhere."""

    format: Literal[1] = 1
    study: Study
    roster: Digest
    """Digest of the roster whose sites are meant; another roster makes another study."""


def parse_study(content: bytes) -> Study:
    """Validate the content of a study.toml.

    Raises:
        InputError: not TOML, unknown or missing keys, values out of range, or an inconsistent whole.
    """
    data = parse_toml(content, what="the study file")
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the study file") from error

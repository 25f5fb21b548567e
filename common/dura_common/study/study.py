"""The study: one file that describes a training completely, and the digest that identifies the study.

A researcher writes TOML, :func:`parse_study` validates it, and signing binds it to a roster
(:class:`StudyDocument`). Sites take every limit from the document that they approved, and no limit from a message.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dura_common.errors import InputError
from dura_common.study.aggregation import Aggregation
from dura_common.study.data import AnyContract
from dura_common.study.evaluation import Evaluation
from dura_common.study.models import EEGNetModel, LinearModel, Model
from dura_common.study.noise import LocalNoise, PatientNoise, Privacy, SharedNoise
from dura_common.study.training import DpSgdTraining, ResidualDescentTraining, Training
from dura_common.study.validation import Digest, Frozen, SiteName, Word, explain_validation, parse_toml

STUDY_TYPE = "application/vnd.dura.study+json"
"""Payload type of a signed study."""

MINIMUM_HONEST_SITES = 3
"""Smallest number of honest sites behind shared noise. With two, each site could subtract its own vector from the
opened sum and would learn the vector of the other site. With three, a site learns only the sum of two vectors."""
MAX_STEPS = 1_000_000
"""Largest number of optimiser steps of a study: it bounds the time of accounting, far above any real training."""


class Study(Frozen):
    """One training, as the researcher describes it in study.toml."""

    name: Word
    question: Annotated[str, Field(min_length=1, max_length=500)]
    expires: date
    """Last day (UTC) on which a site takes part."""
    sites: Annotated[dict[SiteName, Annotated[int, Field(ge=1, le=10_000_000)]], Field(min_length=2, max_length=500)]
    """Declared, public number of patients of each site. Live counts are never sent."""
    data: AnyContract
    model: Model = EEGNetModel()
    privacy: Privacy
    training: Training
    evaluation: Evaluation = Evaluation()
    aggregation: Aggregation

    def training_patients(self, site: str) -> float:
        """Return how many of a site's declared patients are expected to train; q times this divides its sums."""
        declared = float(self.sites[site])
        return declared if self.evaluation.split == "recordings" else declared * (1 - self.evaluation.held_out)

    @property
    def paid_steps(self) -> int:
        """Number of steps that the noise must pay for: training steps and spare steps."""
        return self.training.steps + self.aggregation.spare_steps

    @property
    def honest_sites(self) -> int:
        """h: number of sites whose noise is in every sum and known to no colluder."""
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
            raise ValueError(f"fewer declared patients than data.minimum_patients at {', '.join(small)}")
        if self.paid_steps > MAX_STEPS:
            raise ValueError(
                f"the study has {self.paid_steps} steps, spare steps included; at most {MAX_STEPS} are allowed"
            )
        private = isinstance(self.privacy, PatientNoise)
        if private and self.evaluation.epsilon is None:
            raise ValueError("evaluation.epsilon is missing: an evaluation is a release and needs a privacy budget")
        if not private and self.evaluation.epsilon is not None:
            raise ValueError('evaluation.epsilon has no meaning with noise = "none"; remove it')
        if private and self.evaluation.split != "patients":
            raise ValueError('evaluation.split must be "patients": no patient may be both in training and held out')
        if private and self.evaluation.duplicates:
            raise ValueError(
                'evaluation.duplicates = true needs noise = "none": patient-level privacy hides whether two '
                "sites hold recordings of the same person"
            )
        self._check_engine()
        self._check_evaluation()
        if isinstance(self.privacy, LocalNoise) and self.privacy.delta * max(self.sites.values()) >= 1:
            raise ValueError("privacy.delta must be below 1 divided by the declared patients of every site")
        self._check_shared_noise()
        return self

    def _check_evaluation(self) -> None:
        if (self.data.target == "value") != ("error" in self.evaluation.outputs):
            wanted = '"error", with or without "fit"' if self.data.target == "value" else '"accuracy"'
            raise ValueError(f'evaluation.outputs: data.target = "{self.data.target}" needs {wanted}')
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
                f"fewer than {self.evaluation.minimum_held_out} patients (evaluation.minimum_held_out) would be held "
                f"out at {', '.join(few)}"
            )

    def _check_engine(self) -> None:
        """Refuse settings under which the engines for feature vectors would not work as described."""
        if self.data.source in {"fmri", "table"} and not isinstance(self.model, LinearModel):
            raise ValueError(
                f'data.source = "{self.data.source}" gives vectors, for which model.name must be "linear"; '
                f'"{self.model.name}" needs a course of time'
            )
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
        """Refuse settings under which a sum could be opened with less noise than the study promises."""
        rules = self.aggregation
        if not isinstance(self.privacy, SharedNoise):
            return
        if self.honest_sites < MINIMUM_HONEST_SITES:
            raise ValueError(
                f"{len(self.sites)} sites minus {rules.tolerated_dropouts} dropouts and {rules.tolerated_colluders} "
                f"colluders leave {self.honest_sites} honest sites; shared noise needs at least {MINIMUM_HONEST_SITES}"
            )
        fewest = len(self.sites) - rules.tolerated_dropouts
        if rules.minimum_sites < fewest:
            raise ValueError(
                f"aggregation.minimum_sites is {rules.minimum_sites}: a sum of so few sites would have too little "
                f"noise. With {rules.tolerated_dropouts} tolerated dropouts, minimum_sites must be at least {fewest}"
            )
        if isinstance(self.training, ResidualDescentTraining) and self.training.average:
            raise ValueError(
                'training.average = true needs noise = "local": with shared noise, a step has nothing to average'
            )
        if self.privacy.delta * sum(self.sites.values()) >= 1:
            raise ValueError("privacy.delta must be below 1 divided by the declared patients of all sites together")


class StudyDocument(Frozen):
    """The signed document: a study and its roster. Its SHA-256 is the study's digest."""

    format: Literal[1] = 1
    study: Study
    roster: Digest
    """Digest of the roster that the study is meant for. The same study with another roster has another digest."""


def require_unexpired(study: Study, now: datetime) -> None:
    """Refuse a study whose last day is over.

    Raises:
        InputError: the study has expired.
    """
    today = now.astimezone(UTC).date()
    if study.expires < today:
        raise InputError(
            f"the study has expired: its last day was {study.expires}, and today is {today} (UTC)",
            hint="Set a later day (expires) in the study file, and sign it: that is a new study.",
        )


def parse_study(content: bytes) -> Study:
    """Validate the content of a study.toml.

    Raises:
        InputError: the content is not TOML, has unknown or missing keys, has values out of range, or contradicts
        itself.
    """
    data = parse_toml(content, what="the study file")
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise explain_validation(error, what="the study file") from error

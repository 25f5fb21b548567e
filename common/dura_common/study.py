"""The study: one file that says everything that a training will do, and the digest that names it.

A researcher writes TOML, :func:`parse_study` validates it, and signing binds it to a roster
(:class:`StudyDocument`). Sites take every limit from the document they approved and none from a message.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dura_common.errors import InputError

SITE_NAME = r"^[a-z][a-z0-9-]{1,30}$"
DIGEST = r"^[0-9a-f]{64}$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

SiteName = Annotated[str, Field(pattern=SITE_NAME)]
Digest = Annotated[str, Field(pattern=DIGEST)]
Word = Annotated[str, Field(pattern=WORD)]

STUDY_TYPE = "application/vnd.dura.study+json"
"""Payload type of a signed study."""

MAX_STEPS = 1_000_000
"""Most optimiser steps of a study; a bound for accounting time, far above any real training."""


class Frozen(BaseModel):
    """Base of all schemas: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataContract(Frozen):
    """What each site brings its recordings to before a model sees them."""

    modality: Literal["eeg"] = "eeg"
    task: Word
    """BIDS task label of the recordings that enter."""
    channels: Annotated[tuple[Word, ...], Field(min_length=2, max_length=512)]
    """Names of the 10-20 system, in model order; missing ones are interpolated."""
    sampling_rate: Annotated[float, Field(ge=16, le=4096)]
    """Hz, after resampling."""
    band: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Band-pass edges in Hz."""
    window_start: Annotated[float, Field(ge=-60, le=60)]
    """Seconds from the event to the first sample of a window."""
    window_length: Annotated[float, Field(gt=0, le=120)]
    """Seconds."""
    classes: Annotated[tuple[Word, ...], Field(min_length=2, max_length=64)]
    """Label names in model order; a site maps its own event codes to them when it registers data."""
    alignment: Literal["euclidean", "none"] = "euclidean"
    """Euclidean alignment per patient (He and Wu 2020): uses that patient's windows only, no labels."""
    minimum_patients: Annotated[int, Field(ge=1)] = 10
    """A site with fewer patients must not take part."""

    @property
    def window_samples(self) -> int:
        """Samples of one window."""
        return round(self.sampling_rate * self.window_length)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("channels must be distinct")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be distinct")
        low, high = self.band
        if not low < high < self.sampling_rate / 2:
            raise ValueError(f"band must satisfy 0 < low < high < sampling_rate/2, got {low} to {high} Hz")
        if self.window_samples < 2:  # noqa: PLR2004  # a window needs two samples to have a frequency at all
            raise ValueError("a window must hold at least two samples")
        return self


class EEGNetModel(Frozen):
    """EEGNet (Lawhern et al. 2018, J. Neural Eng. 15:056013) with GroupNorm in place of BatchNorm."""

    name: Literal["eegnet"] = "eegnet"
    temporal_filters: Annotated[int, Field(ge=1, le=256)] = 8
    """F1 in the paper."""
    depth_multiplier: Annotated[int, Field(ge=1, le=64)] = 2
    """D in the paper."""
    separable_filters: Annotated[int, Field(ge=1, le=512)] = 16
    """F2 in the paper."""
    kernel_seconds: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Length of the temporal kernels; the paper takes half a second."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25


class LocalNoise(Frozen):
    """Patient-level differential privacy by noise that each site adds by itself, against everybody."""

    noise: Literal["local"]
    unit: Literal["patient"] = "patient"
    epsilon: Annotated[float, Field(gt=0, le=100)]
    """Add/remove one patient, for all training steps of the study together."""
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    participation: Annotated[float, Field(gt=0, le=1)]
    """q: public probability that a patient enters a step."""
    windows_per_patient: Annotated[int, Field(ge=1, le=4096)]
    """K: most windows of one patient in one step."""
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0
    """C: L2 bound of one patient's gradient."""


class NoNoise(Frozen):
    """No differential privacy. Only data sets that are registered as public may enter such a study."""

    noise: Literal["none"]
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    windows_per_patient: Annotated[int, Field(ge=1, le=4096)] = 32
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0


Privacy = Annotated[LocalNoise | NoNoise, Field(discriminator="noise")]


class Training(Frozen):
    """Federated averaging: every round each site makes ``steps_per_round`` steps from the common model."""

    rounds: Annotated[int, Field(ge=1, le=10_000)]
    steps_per_round: Annotated[int, Field(ge=1, le=100_000)]
    optimiser: Literal["sgd", "adam"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=100)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Of the first parameters only. Sampling and noise come from the operating system and have no seed."""

    @property
    def steps(self) -> int:
        """Steps of the whole study at one site."""
        return self.rounds * self.steps_per_round


class Evaluation(Frozen):
    """Held-out accuracy, released as noisy sums. Held-out patients never train."""

    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Probability that the keyed hash of a patient (or recording) puts it on the held-out side."""
    split: Literal["patients", "recordings"] = "patients"
    every: Annotated[int, Field(ge=1)] = 2
    """Rounds between two points of the learning curve; the last round is always evaluated."""
    epsilon: Annotated[float, Field(gt=0, le=100)] | None = None
    """Of all evaluations together, spent by held-out patients. Absent exactly if ``noise = "none"``."""

    def rounds(self, total: int) -> tuple[int, ...]:
        """Return the rounds (1-based) after which the model is evaluated; the last one is the final point."""
        curve = range(self.every, total, self.every)
        return (*curve, total)


class Aggregation(Frozen):
    """How updates of sites become one."""

    minimum_sites: Annotated[int, Field(ge=2)]
    unsafe_plain_updates: bool = False
    """Updates travel one by one over TLS, visible to the coordinator. Every output warns about it."""


class Study(Frozen):
    """One training, as the researcher describes it in study.toml."""

    name: Word
    question: Annotated[str, Field(min_length=1, max_length=500)]
    expires: date
    """Last day (UTC) on which a site takes part."""
    sites: Annotated[dict[SiteName, Annotated[int, Field(ge=1, le=10_000_000)]], Field(min_length=2, max_length=500)]
    """Declared, public number of patients of each site; live counts are never sent."""
    data: DataContract
    model: EEGNetModel = EEGNetModel()
    privacy: Privacy
    training: Training
    evaluation: Evaluation = Evaluation()
    aggregation: Aggregation

    def training_patients(self, site: str) -> float:
        """Return the declared, public number of a site's training patients: the divisor of its sums over q."""
        declared = float(self.sites[site])
        return declared if self.evaluation.split == "recordings" else declared * (1 - self.evaluation.held_out)

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
        if self.training.steps > MAX_STEPS:
            raise ValueError(f"rounds * steps_per_round is {self.training.steps}, at most {MAX_STEPS} are allowed")
        private = isinstance(self.privacy, LocalNoise)
        if private and self.evaluation.epsilon is None:
            raise ValueError("evaluation.epsilon is missing: evaluation is a release and must be paid for")
        if not private and self.evaluation.epsilon is not None:
            raise ValueError('evaluation.epsilon has no meaning with noise = "none"; remove it')
        if private and self.evaluation.split != "patients":
            raise ValueError('evaluation.split must be "patients": a patient must not train and be held out')
        if isinstance(self.privacy, LocalNoise) and self.privacy.delta * max(self.sites.values()) >= 1:
            raise ValueError("privacy.delta must be below 1 / patients at every site")
        return self


class StudyDocument(Frozen):
    """What is signed: the study and the roster it is meant for. Its SHA-256 names the study everywhere."""

    format: Literal[1] = 1
    study: Study
    roster: Digest
    """Digest of the roster whose sites are meant; another roster makes another study."""


def explain_validation(error: ValidationError, *, what: str) -> InputError:
    """Turn a pydantic error into one clear message: the path of the first fault, what was wrong, how many more."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
    reason = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InputError(f"{what}: {where}: {reason}{more}")


def parse_toml(content: bytes, *, what: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        InputError: not UTF-8 or not TOML; the message carries the position.
    """
    try:
        return tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{what} is not valid TOML: {error}") from error


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


def check_site_name(name: str) -> str:
    """Return the name if it may stand on a roster.

    Raises:
        InputError: other letters than a-z, digits and hyphens, or a wrong length.
    """
    if re.fullmatch(SITE_NAME, name) is None:
        raise InputError(
            f"a name must be 2 to 31 lower-case letters, digits or hyphens and begin with a letter, got {name[:40]!r}"
        )
    return name

"""The study: one file that says everything that a training will do, and the digest that names it.

A researcher writes TOML, :func:`parse_study` validates it, and signing binds it to a roster
(:class:`StudyDocument`). Sites take every limit from the document they approved and none from a message.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dura_common.errors import InputError
from dura_common.model_schema import EEGNetModel, LinearModel, Model
from dura_common.schema import TAG
from dura_common.schema import Frozen as Frozen  # noqa: PLC0414  # all schemas take their base from here
from dura_common.training_schema import DpSgdTraining, ResidualDescentTraining, Training

SITE_NAME = r"^[a-z][a-z0-9-]{1,30}$"
DIGEST = r"^[0-9a-f]{64}$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"

SiteName = Annotated[str, Field(pattern=SITE_NAME)]
Digest = Annotated[str, Field(pattern=DIGEST)]
Word = Annotated[str, Field(pattern=WORD)]

STUDY_TYPE = "application/vnd.dura.study+json"
"""Payload type of a signed study."""

MINIMUM_HONEST_SITES = 3
"""Fewest honest sites behind shared noise. With two, each of them learns the other's own vector by subtracting
its own from the opened sum, so that aggregation would hide nothing; with three it learns the sum of two."""
MAX_STEPS = 1_000_000
"""Most optimiser steps of a study; a bound for accounting time, far above any real training."""


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


class PatientNoise(Frozen):
    """What every study with patient-level differential privacy declares, whoever adds the noise."""

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


class LocalNoise(PatientNoise):
    """Noise that each site adds by itself: its release alone keeps the promise, against everybody."""

    noise: Literal["local"]


class SharedNoise(PatientNoise):
    """Noise of which each site adds a share: the opened sum keeps the promise, a single share keeps less.

    Every optimiser step is one secure sum over sites. With h honest sites each adds the deviation sigma/sqrt(h), so
    that the honest shares alone make up sigma (see :attr:`Study.honest_sites`).
    """

    noise: Literal["shared"]


class NoNoise(Frozen):
    """No differential privacy. Only data sets that are registered as public may enter such a study."""

    noise: Literal["none"]
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    windows_per_patient: Annotated[int, Field(ge=1, le=4096)] = 32
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0


Privacy = Annotated[LocalNoise | SharedNoise | NoNoise, Field(discriminator="noise")]


class Evaluation(Frozen):
    """Held-out accuracy, released as noisy sums. Held-out patients never train."""

    held_out: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Probability that the keyed hash of a patient (or recording) puts it on the held-out side."""
    split: Literal["patients", "recordings"] = "patients"
    every: Annotated[int, Field(ge=1)] = 2
    """Rounds between two points of the learning curve; the last round is always evaluated."""
    epsilon: Annotated[float, Field(gt=0, le=100)] | None = None
    """Of all evaluations together, spent by held-out patients. Absent exactly if ``noise = "none"``."""
    outputs: Annotated[tuple[Literal["accuracy", "confusion", "auc"], ...], Field(min_length=1, max_length=3)] = (
        "accuracy",
    )
    """What the final evaluation releases; the outputs share its budget. The curve has the accuracy alone."""
    bins: Annotated[int, Field(ge=2, le=200)] = 20
    """Of the score histograms from which the area under the curve is computed."""
    score_scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Difference of logits that counts as one unit of score; linear models of unit vectors have small ones."""
    smallest_cell: Annotated[int, Field(ge=1, le=1000)] = 5
    """Fewest patients that a cell of a confusion matrix may show."""
    minimum_held_out: Annotated[int, Field(ge=2, le=100_000)] = 2
    """Fewest held-out patients that a site is expected to have, by its declared number: live counts are never used."""
    duplicates: bool = False
    """After the last round, count recordings that more than one site holds; only with ``noise = "none"``."""

    @model_validator(mode="after")
    def _outputs(self) -> Self:
        if "accuracy" not in self.outputs or len(set(self.outputs)) != len(self.outputs):
            raise ValueError('outputs must hold "accuracy", and nothing twice')
        return self

    def rounds(self, total: int) -> tuple[int, ...]:
        """Return the rounds (1-based) after which the model is evaluated; the last one is the final point."""
        curve = range(self.every, total, self.every)
        return (*curve, total)


class Aggregation(Frozen):
    """How vectors of sites become one: always in secure sums, of which the coordinator sees the total alone."""

    minimum_sites: Annotated[int, Field(ge=2)]
    tolerated_dropouts: Annotated[int, Field(ge=0)] = 0
    """How many of the listed sites may be missing from a sum; shared noise is sized to do without theirs."""
    tolerated_colluders: Annotated[int, Field(ge=0)] = 0
    """How many sites may tell others what they know, or leave out their noise; shared noise is sized to do without
    theirs. One of them is any participant who looks at a sum: it knows its own share and can subtract it."""
    sums: Literal["step", "round"] = "step"
    """With shared noise, the kind of sum of each step. "step": one message up, all or nothing, a loss ends the
    session. "round": tolerates losses within a step, at three more exchanges."""
    spare_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Steps that may be drawn afresh after a loss: the noise is sized as if all of them were made."""
    update_norm: Annotated[float, Field(gt=0, le=1e6)] = 32.0
    """With local or no noise: L2 bound of one site's weighted change of the model in one round. It sizes the ring
    of the sum and costs no privacy; a longer change is shortened."""


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


def explain_validation(error: ValidationError, *, what: str) -> InputError:
    """Turn a pydantic error into one clear message: the path of the first fault, what was wrong, how many more."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    first = faults[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(TAG)) or "the file as a whole"
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

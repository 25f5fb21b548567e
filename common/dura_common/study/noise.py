"""Who adds the noise of a study, what the study may cost a patient, and how patients are sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dura_common.study.validation import Frozen


class PatientNoise(Frozen):
    """What every study with patient-level differential privacy declares, with local and with shared noise."""

    unit: Literal["patient"] = "patient"
    epsilon: Annotated[float, Field(gt=0, le=100)]
    """Epsilon of all training steps of the study together (add/remove one patient)."""
    delta: Annotated[float, Field(gt=0, lt=0.1)]
    """Below about 1e-11, or 1e-13 for each step, the accountant tells no epsilon and the study is refused."""
    participation: Annotated[float, Field(gt=0, le=1)]
    """q: public probability that a patient enters a step."""
    windows_per_patient: Annotated[int, Field(ge=1, le=4096)]
    """K: largest number of windows of one patient in one step."""
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0
    """C: L2 bound of one patient's gradient."""


class LocalNoise(PatientNoise):
    """Each site adds all of the noise: the epsilon holds for the vector of one site, against everybody."""

    noise: Literal["local"]


class SharedNoise(PatientNoise):
    """Each site adds a share of the noise. The epsilon holds for the opened sum; the vector of one site has less noise.

    Every optimiser step is one secure sum over sites. With h honest sites, each site adds noise of standard deviation
    sigma/sqrt(h), so that the honest shares alone add up to sigma (see :attr:`Study.honest_sites`).
    """

    noise: Literal["shared"]


class NoNoise(Frozen):
    """No differential privacy. Only data sets that are registered as public may enter such a study."""

    noise: Literal["none"]
    participation: Annotated[float, Field(gt=0, le=1)] = 1.0
    windows_per_patient: Annotated[int, Field(ge=1, le=4096)] = 32
    clipping_norm: Annotated[float, Field(gt=0)] = 1.0


Privacy = Annotated[LocalNoise | SharedNoise | NoNoise, Field(discriminator="noise")]

"""The rules by which a study leaves out recordings and patients, before an approval freezes the cohort."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dura_common.study.validation import Frozen


class LeavingOut(Frozen):
    """Fixed in the study, and the same at every site. Each rule looks at one patient alone.

    A recording that breaks a rule is not used. A patient with fewer windows than :attr:`fewest_windows` is no patient
    of the study; a patient without any window never is.
    """

    fewest_windows: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """A patient with fewer windows takes no part."""
    largest_interpolated: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Largest share of the study's channels that may be interpolated in a recording."""
    largest_rejected: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Largest share of a recording's windows that may be lost to gaps, BAD marks or values that are not numbers."""
    shortest_seconds: Annotated[float, Field(ge=0, le=1e7)] = 0.0
    """Shortest recording, in seconds without its gaps."""

"""How the vectors of sites become one sum: number of sites, tolerated losses, spare steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dura_common.study.validation import Frozen


class Aggregation(Frozen):
    """How the vectors of sites become one sum. Sums are always secure: the coordinator sees the total alone."""

    minimum_sites: Annotated[int, Field(ge=2)]
    tolerated_dropouts: Annotated[int, Field(ge=0)] = 0
    """How many of the listed sites may be missing from a sum. Shared noise is large enough without their shares."""
    tolerated_colluders: Annotated[int, Field(ge=0)] = 0
    """How many sites may reveal what they know or leave out their noise. Shared noise is large enough without their
    shares. A site that examines an opened sum counts as one: it knows its own share and can subtract that share."""
    sums: Literal["step", "round"] = "step"
    """With shared noise, the kind of secure sum that each step uses. "step": each site sends one message, and the loss
    of a site ends the session. "round": a step tolerates the loss of sites, but needs three more exchanges."""
    spare_steps: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Steps that may be repeated with new patients and new noise after a loss. Their cost is counted in advance. A
    vector leaves a site once, so a lost step is drawn again or given up. Unless the noise is shared, a draw is a whole
    round and takes ``steps_per_round`` of these steps."""
    update_norm: Annotated[float, Field(gt=0, le=1e6)] = 32.0
    """With local or no noise: L2 bound of one site's weighted change of the model in one round. A longer change is
    shortened. The bound sets the ring of the secure sum and costs no privacy."""

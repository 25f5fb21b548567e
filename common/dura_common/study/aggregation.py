"""How the vectors of sites become one sum: how many sites, how many losses, how many spare steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dura_common.study.validation import Frozen


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
    """Steps that may be drawn afresh after a loss: the noise is sized as if all of them were made. A vector leaves a
    site once, so a lost step is drawn again or given up. Unless the noise is shared, a draw is a whole round and takes
    ``steps_per_round`` of them."""
    update_norm: Annotated[float, Field(gt=0, le=1e6)] = 32.0
    """With local or no noise: L2 bound of one site's weighted change of the model in one round. It sizes the ring
    of the sum and costs no privacy; a longer change is shortened."""

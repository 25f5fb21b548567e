"""Where the tails of the noise end, and the smallest noise multiplier for which they still protect.

Noise is drawn in pairs from :data:`BITS` random bits for the length of a pair (Box and Muller 1958), so no pair is
longer than :data:`REACH` standard deviations. A patient moves a sum by up to 1 / m standard deviations, where m is the
noise multiplier. Without the patient, a sum never lies beyond the reach. With the patient, it does so at most as often
as a pair is longer than REACH - 1 / m: with probability exp(-(REACH - 1 / m)^2 / 2). Such a sum is an infinite loss, so
every release adds this probability to delta.

With 53 bits, the reach was 8.57: a share of 0.14, which is what ten honest sites have at epsilon 8, added 0.08 to delta
in each step. With 256 bits, such a share adds 1e-30.
"""

from __future__ import annotations

import math

BITS = 256
REACH = math.sqrt(2 * (BITS + 1) * math.log(2))
"""18.9 standard deviations. The ``+ 1`` is there because a length is computed in the middle of its cell."""


def smallest_multiplier(releases: int, extra: float) -> float:
    """Return the smallest noise multiplier for which the end of the tails adds at most ``extra`` to delta.

    About 0.1 for every delta down to 1e-9; less noise than that protects nobody anyway.

    Raises:
        ValueError: there is no release, or ``extra`` is not between 0 and 1, or no noise reaches it.
    """
    if releases < 1 or not 0 < extra < 1:
        raise ValueError(f"a release and an addition to delta below 1 are needed, got {releases} and {extra}")
    room = REACH - math.sqrt(2 * math.log(releases / extra))
    if room <= 0:
        raise ValueError(f"the tails of the noise end too early to add less than {extra:g} to delta")
    return 1 / room

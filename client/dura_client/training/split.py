"""Which patients are held out: those below a threshold on a keyed hash, the same in every study, without a list.

Every site has one held-out side, whose size does not depend on a study: a quarter of its patients, unless the first
study that it approved held out more. A study that holds out fewer takes its patients from within that side, and the
rest of the side takes no part in it. So a patient who is held out in one study trains in no study.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Literal

SMALLEST_SIDE = 0.25
"""Share of patients on a site's held-out side, at least."""


def held_out(key: str, fraction: float) -> bool:
    """Tell whether the patient with this pseudonym key (hex) is among the first ``fraction`` by the hash.

    The pseudonym is a keyed hash already; the label makes this use independent of every other.
    """
    mark = hmac.new(b"dura held-out v1", bytes.fromhex(key), hashlib.sha256).digest()
    return int.from_bytes(mark[:8], "big") < fraction * 2**64


def side_of(key: str, fraction: float, size: float) -> Literal["training", "held out", "neither"]:
    """Return a patient's part in a study that holds out ``fraction``, at a site whose held-out side has this size."""
    if held_out(key, min(fraction, size)):
        return "held out"
    return "neither" if held_out(key, size) else "training"

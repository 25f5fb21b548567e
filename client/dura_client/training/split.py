"""Who is held out: a threshold on a keyed hash, the same in every study, needing no list."""

from __future__ import annotations

import hashlib
import hmac


def held_out(key: str, fraction: float) -> bool:
    """Tell whether the patient with this pseudonym key (hex) is held out.

    The pseudonym is a keyed hash already; the label makes this use independent of every other.
    """
    mark = hmac.new(b"dura held-out v1", bytes.fromhex(key), hashlib.sha256).digest()
    return int.from_bytes(mark[:8], "big") < fraction * 2**64

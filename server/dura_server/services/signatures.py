"""Which member's node signed a request to the gateway (flwr 1.41.0, pinned exactly).

With every request, Flower's node sends its public key, a time, and its signature over the time. The SuperLink checks
all of this again, together with the node's number. Here the signature only decides whether the gateway listens at all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER

from dura_common.consortium.roster import Roster

MOST_AHEAD = timedelta(seconds=SYSTEM_TIME_TOLERANCE)
MOST_BEHIND = timedelta(seconds=TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE)
MAX_HEADER = 1_024
"""Most characters of a key, a signature or a time."""


def signed_by(headers: Mapping[str, str], roster: Roster, now: datetime | None = None) -> bytes | None:
    """Return the node key (DER) of the member that signed; None if nobody or a stranger signed, or too long ago."""
    names = (FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER, TIMESTAMP_HEADER)
    given = [headers.get(name, "") for name in names]
    if not all(0 < len(value) <= MAX_HEADER for value in given):
        return None
    try:
        key = load_pem_public_key(base64.b64decode(given[0], validate=True))
        signature, signed = base64.b64decode(given[1], validate=True), datetime.fromisoformat(given[2])
        if not isinstance(key, ec.EllipticCurvePublicKey) or _der(key) not in _members(roster):
            return None
        if not -MOST_AHEAD < (now or datetime.now(UTC)) - signed < MOST_BEHIND:
            return None
        key.verify(signature, given[2].encode("ascii"), ec.ECDSA(hashes.SHA256()))
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm, InvalidSignature):
        return None
    return _der(key)


def _members(roster: Roster) -> set[bytes]:
    return {_der(load_ssh_public_key(site.node_key.encode())) for site in roster.sites}


def _der(key: object) -> bytes:
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))  # type: ignore[attr-defined]  # a union of public-key types

"""Signed documents: DSSE envelopes (github.com/secure-systems-lab/dsse) with Ed25519.

The signature covers the payload type, so a card can never pass as a roster. A key's id is the SHA-256 of
its 32 raw bytes. Nothing in an envelope is used before :func:`verify` has returned its payload.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey  # type: ignore[attr-defined]  # exported, but not declared

from dura_common.errors import InputError, TrustError

MAX_ENVELOPE_BYTES = 4_194_304
"""Largest signed document: a roster of 500 sites is below 1 MB."""

MAX_SIGNATURES = 2
"""A roster with a new root key has two signatures; everything else has one."""


def digest(content: bytes) -> str:
    """Return the SHA-256 of ``content`` as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(model: BaseModel) -> bytes:
    """Return a model as JSON with sorted keys and no spaces: equal models give equal bytes."""
    return json.dumps(model.model_dump(mode="json"), sort_keys=True, separators=(",", ":")).encode()


def key_id(key: Ed25519PublicKey) -> str:
    """Return the id of a public key: the SHA-256 of its raw bytes."""
    return digest(key.public_bytes_raw())


def sign(payload: bytes, payload_type: str, *keys: Ed25519PrivateKey) -> str:
    """Return the envelope (JSON text) of ``payload`` signed by every one of ``keys``."""
    envelope = Envelope(payload, payload_type, {})
    for key in keys:
        public = SSlibKey.from_crypto(key.public_key(), keyid=key_id(key.public_key()))
        envelope.sign(CryptoSigner(key, public))
    return json.dumps(envelope.to_dict(), indent=1) + "\n"


def verify(text: str | bytes, payload_type: str, keys: Sequence[Ed25519PublicKey]) -> bytes:
    """Return the payload of an envelope that one of ``keys`` has signed.

    Raises:
        InputError: the text is not an envelope, or is too large.
        TrustError: the payload has another type, or none of the keys has signed it.
    """
    envelope = _parse(text)
    if envelope.payload_type != payload_type:
        raise TrustError(f"expected a signed document of type {payload_type}, got another type")
    known: list[Key] = [SSlibKey.from_crypto(key, keyid=key_id(key)) for key in keys]
    if not known:
        raise TrustError("there is no key for checking the signature of this document")
    try:
        envelope.verify(known, threshold=1)
    except (VerificationError, ValueError) as error:
        raise TrustError(
            "the signature is not valid",
            hint="The file was altered, or somebody else signed it. Ask its sender to send it again.",
        ) from error
    return bytes(envelope.payload)


def payload_of(text: str | bytes) -> bytes:
    """Return the payload WITHOUT verifying it, for documents that contain the key for their own verification.

    Raises:
        InputError: not an envelope, or too large.
    """
    return bytes(_parse(text).payload)


def compact(text: str | bytes) -> str:
    """Return an envelope without unsigned parts: without spaces, and with only the first few signatures.

    Raises:
        InputError: not an envelope, or too large.
    """
    kept = _parse(text).to_dict()
    kept["signatures"] = kept["signatures"][:MAX_SIGNATURES]
    return json.dumps(kept, separators=(",", ":"))


def _parse(text: str | bytes) -> Envelope:
    if len(text) > MAX_ENVELOPE_BYTES:
        raise InputError(f"the signed document is larger than {MAX_ENVELOPE_BYTES} bytes")
    wrong = "the file is not a signed document of dura"
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(wrong) from error
    if not isinstance(data, dict) or set(data) != {"payload", "payloadType", "signatures"}:
        raise InputError(wrong)
    if not isinstance(data["payloadType"], str) or not isinstance(data["payload"], str):
        raise InputError(wrong)
    try:
        return Envelope.from_dict(data)
    except Exception as error:  # the library raises many kinds of errors for malformed input; all mean the same here
        raise InputError(wrong) from error

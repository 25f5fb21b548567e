"""Keys of one session: fresh X25519 pairs, signed by the site's pinned identity, and the keys derived from them.

Every derivation names the session, its use and both sites in order, so that no two uses share a key
(HKDF-SHA256, RFC 5869). A public key of small order gives an all-zero secret, which the library refuses (RFC 7748,
section 6.1).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.arithmetic.parallel import in_parts
from dura_common.secagg.params import SessionParameters

_SIGNATURES = 4
"""For fewer checks (about half a millisecond), starting a thread is not worth while."""
_NONCE = bytes(12)
"""A key of :func:`pair_key` with a direction in its use seals one message only."""


def signed_bytes(use: bytes, params: SessionParameters, index: int, content: bytes) -> bytes:
    """Return the bytes that a site signs: use, session, its index, content."""
    return b"dura secure sum 4 " + use + b"\0" + params.session_id + index.to_bytes(2, "big") + content


def sign(identity: Ed25519PrivateKey, use: bytes, params: SessionParameters, index: int, content: bytes) -> bytes:
    """Sign with the site's identity; 64 bytes."""
    return identity.sign(signed_bytes(use, params, index, content))


def check(params: SessionParameters, use: bytes, signed: Mapping[int, tuple[bytes, bytes]]) -> None:
    """Check (content, signature) of members with the identities pinned for them.

    Raises:
        Abort: a signature is not valid: a key was replaced on the way, or belongs to another session.
    """
    items = sorted(signed.items())

    def check_some(begin: int, end: int) -> None:
        for index, (content, signature) in items[begin:end]:
            try:
                key = Ed25519PublicKey.from_public_bytes(params.members[index].identity)
                key.verify(signature, signed_bytes(use, params, index, content))
            except (InvalidSignature, ValueError) as error:
                raise Abort(Reason.NOT_AUTHENTIC, f"a signature of {params.names[index]} does not hold") from error

    in_parts(check_some, len(items), 1, _SIGNATURES)


def public_bytes(key: X25519PrivateKey) -> bytes:
    """Return the public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def agree(key: X25519PrivateKey, peer: bytes) -> bytes:
    """Return the secret (32 bytes) that two members share. It is only used to derive keys.

    Raises:
        Abort: the peer's key is not a key, or is of small order.
    """
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError as error:
        raise Abort(Reason.NOT_AUTHENTIC, "a key of a member is not usable") from error


def pair_key(secret: bytes, params: SessionParameters, use: bytes, first: int, second: int) -> bytes:
    """Return the key (32 bytes) of two members for one use; ``first`` and ``second`` give its direction."""
    info = b"dura " + use + b"\0" + first.to_bytes(2, "big") + second.to_bytes(2, "big")
    return derive(secret, params.session_id, info)


def derive(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """Return a key (32 bytes) by HKDF-SHA256."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(secret)


def mask_key(key: bytes, use: bytes, *context: bytes) -> bytes:
    """Return the key of one mask (32 bytes) from a longer-lived key; each part of the context has a fixed length."""
    return hmac.digest(key, b"dura mask " + use + b"\0" + b"".join(context), "sha256")


def commitment(params: SessionParameters, index: int, seed: bytes) -> bytes:
    """Return a site's commitment (32 bytes) to the seed of its self-mask, made before anybody gets a share of it."""
    return hashlib.sha256(b"dura self-mask\0" + params.session_id + index.to_bytes(2, "big") + seed).digest()


def seal(key: bytes, content: bytes, associated: bytes) -> bytes:
    """Encrypt and authenticate one message (AES-256-GCM)."""
    return AESGCM(key).encrypt(_NONCE, content, associated)


def unseal(key: bytes, content: bytes, associated: bytes, sender: str) -> bytes:
    """Open a sealed message.

    Raises:
        Abort: the message was altered, or was sealed for another site.
    """
    try:
        return AESGCM(key).decrypt(_NONCE, content, associated)
    except InvalidTag as error:
        raise Abort(Reason.NOT_AUTHENTIC, f"the shares from {sender} were altered") from error

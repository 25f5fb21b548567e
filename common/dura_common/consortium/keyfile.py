"""What the file of a private key holds: PKCS#8, or the same under a passphrase.

Whoever has stolen a file tries passphrases, so each try must cost time and memory: scrypt (RFC 7914) with the
parameters that OWASP recommends, 128 MiB and a quarter to half a second. ``cryptography`` reads PKCS#8 files with
scrypt but writes them with 2048 rounds of PBKDF2 only, a millisecond a try; hence a form of our own::

    version (1) | log2 N (1) | salt (16) | nonce (12) | AES-256-GCM of PKCS#8 under scrypt(passphrase, salt)

in base64 between a first and a last line, as in PEM. The cipher also covers the fields before it.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from functools import lru_cache

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from dura_common.consortium.identity import PrivateKey
from dura_common.errors import InputError, TrustError

FIRST_LINE = b"-----BEGIN DURA ENCRYPTED KEY-----"
LAST_LINE = b"-----END DURA ENCRYPTED KEY-----"
VERSION = 1
LOG2_N = 17
"""Cost of a try: 2^17 blocks of 1 KiB."""
COSTS = range(15, 19)
"""What is read: below it is no protection, above it a file could take memory and time (2^18 is 256 MiB)."""
BLOCK, PARALLEL = 8, 1
SALT_BYTES, NONCE_BYTES, KEY_BYTES, TAG_BYTES = 16, 12, 32, 16
HEADER_BYTES = 2 + SALT_BYTES + NONCE_BYTES
LINE = 64


def private_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return a private key as the content of a file: PKCS#8, under the passphrase if there is one.

    Raises:
        InputError: the passphrase is empty.
    """
    if passphrase is not None:
        if not passphrase:
            raise InputError("the passphrase is empty, so that it would protect nothing")
        return seal(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def is_encrypted(content: bytes) -> bool:
    """Tell whether a key file needs a passphrase; PKCS#8's own encryption is that of dura 0.1."""
    return is_sealed(content) or b"ENCRYPTED" in content


def load_private(content: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """Read a private key from the content of its file, also of one that dura 0.1 encrypted.

    Raises:
        TrustError: encrypted and no or a wrong passphrase was given, or one was given for a key without.
        InputError: not a private key of a kind that dura uses.
    """
    if is_encrypted(content) != (passphrase is not None):
        raise TrustError(
            "the private key needs a passphrase, or one was given for a key without",
            hint="The file with the passphrase: DURA_PASSPHRASE_FILE at a site, --passphrase-file at the authority.",
        )
    try:
        if passphrase is not None and is_sealed(content):
            key = load_der_private_key(unseal(content, passphrase), None)
        else:
            key = load_pem_private_key(content, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase is not None:
            raise TrustError("the passphrase does not open the private key") from error
        raise InputError("a key file does not hold a private key") from error
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise InputError("a key file holds a kind of key that dura does not use")
    return key


def seal(secret: bytes, passphrase: bytes) -> bytes:
    """Return a secret under a passphrase."""
    header = bytes([VERSION, LOG2_N]) + secrets.token_bytes(SALT_BYTES + NONCE_BYTES)
    text = base64.b64encode(header + _cipher(header, passphrase).encrypt(header[-NONCE_BYTES:], secret, header))
    lines = [text[begin : begin + LINE] for begin in range(0, len(text), LINE)]
    return b"\n".join([FIRST_LINE, *lines, LAST_LINE, b""])


def is_sealed(content: bytes) -> bool:
    """Tell whether a file has the form that is described above."""
    return content.lstrip().startswith(FIRST_LINE)


def unseal(content: bytes, passphrase: bytes) -> bytes:
    """Return the secret.

    Raises:
        InputError: the file is damaged, or of a version or cost that this version of dura does not read.
        TrustError: the passphrase does not open it, or the file was altered.
    """
    lines = content.strip().splitlines()
    try:
        packed = base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except (ValueError, binascii.Error) as error:
        raise InputError("an encrypted key file is damaged") from error
    if lines[:1] != [FIRST_LINE] or lines[1:][-1:] != [LAST_LINE] or len(packed) < HEADER_BYTES + TAG_BYTES:
        raise InputError("an encrypted key file is damaged")
    header = packed[:HEADER_BYTES]
    if header[0] != VERSION or header[1] not in COSTS:
        raise InputError(
            f"an encrypted key file has version {header[0]} and cost {header[1]}; this version of dura reads version "
            f"{VERSION} and costs from {COSTS.start} to {COSTS.stop - 1}"
        )
    try:
        return _cipher(header, passphrase).decrypt(header[-NONCE_BYTES:], packed[HEADER_BYTES:], header)
    except InvalidTag as error:
        raise TrustError("the passphrase does not open the private key") from error


def _cipher(header: bytes, passphrase: bytes) -> AESGCM:
    return AESGCM(_derive(passphrase, header[2 : 2 + SALT_BYTES], header[1]))


@lru_cache(maxsize=16)
def _derive(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    """Return the key; kept in memory, since a process reads its files again for every secure sum."""
    return Scrypt(salt=salt, length=KEY_BYTES, n=1 << cost, r=BLOCK, p=PARALLEL).derive(passphrase)

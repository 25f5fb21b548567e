"""Reading files with private keys, and changing their passphrase."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from dura_common.consortium.identity import PrivateKey
from dura_common.consortium.keyfile import is_encrypted, is_sealed, load_private, private_pem
from dura_common.errors import InputError, StateError, TrustError
from dura_common.runtime.files import read_limited, write_atomic

log = logging.getLogger(__name__)

MAX_KEY_BYTES = 16_384


def read_private(path: Path, passphrase: bytes | None = None, *, what: str) -> PrivateKey:
    """Read a private key; ``what`` names it in errors ("the root key").

    A file that an older version of dura encrypted opens as before. A line in the log says how to protect it better.

    Raises:
        InputError: the file is missing, cannot be read, or holds no private key.
        TrustError: the passphrase is missing or wrong.
    """
    content = read_limited(path, what=what, limit=MAX_KEY_BYTES)
    key = load_private(content, passphrase)
    if is_encrypted(content) and not is_sealed(content):
        log.warning(
            "%s was encrypted by an older version of dura. Whoever has the file can try a thousand passphrases a "
            "second. Encrypt it again with `dura site passphrase` or `dura authority passphrase`.",
            what,
        )
    return key


def read_passphrase(path: Path) -> bytes:
    """Return the passphrase in a file, without the line end.

    Raises:
        InputError: the file is missing or empty.
    """
    passphrase = read_limited(path, what="the passphrase file", limit=MAX_KEY_BYTES).rstrip(b"\r\n")
    if not passphrase:
        raise InputError("the passphrase file is empty")
    return passphrase


def change_passphrase(paths: Iterable[Path], old: bytes | None, new: bytes) -> int:
    """Encrypt key files with another passphrase, or again with the same one; return the number of files.

    All files are opened before the first is written. Files that already have the new passphrase are written again, so
    that the same call finishes the work after a crash.

    Raises:
        StateError: there are no keys.
        TrustError: neither passphrase opens a file; nothing is changed.
    """
    keys = {path: _open(path, old, new) for path in paths}
    if not keys:
        raise StateError("there are no keys here")
    for path, key in keys.items():
        write_atomic(path, private_pem(key, new))
    return len(keys)


def _open(path: Path, old: bytes | None, new: bytes) -> PrivateKey:
    content = read_limited(path, what=f"the key {path.name}", limit=MAX_KEY_BYTES)
    if not is_encrypted(content):
        return load_private(content)
    try:
        return load_private(content, old)
    except TrustError as error:
        try:
            return load_private(content, new)
        except TrustError:
            raise error from None  # about the old passphrase, which people think the file has

"""The site's secrets: created here, stored with mode 0600, encrypted if there is a passphrase, never sent.

identity.pem (Ed25519) signs cards and approvals, node.pem (EC P-384) authenticates Flower's node, tls.pem
(EC P-256) the aggregation stream, store.pem encrypts prepared recordings if the site wants that, pseudonym.key makes
patients' pseudonyms unlinkable outside. The passphrase protects the private keys. The pseudonym key needs no protection
from people who can read the recordings anyway.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dura_client.site.home import SiteHome
from dura_common.consortium.identity import PrivateKey, node_private_text
from dura_common.consortium.keyfile import private_pem
from dura_common.errors import InputError, StateError
from dura_common.runtime.files import closed_folder, read_limited, write_atomic
from dura_common.runtime.private_keys import MAX_KEY_BYTES, change_passphrase, read_passphrase, read_private

PASSPHRASE_FILE = "DURA_PASSPHRASE_FILE"  # noqa: S105  # the name of a variable, no secret
NEXT = "next"
"""Folder of new keys that wait for a roster that lists them."""
PSEUDONYM_BYTES = 32


class SiteKeys:
    """The keys of one site; by default, the passphrase comes from the environment."""

    def __init__(self, home: SiteHome, passphrase: bytes | None = None) -> None:
        self._folder = home.keys
        self._passphrase = passphrase or passphrase_from_environment()

    def create(self) -> None:
        """Create all keys.

        Raises:
            StateError: there are already keys; they stay unchanged.
        """
        self.require_none()
        self._make_private(self._folder)
        write_atomic(self._folder / "pseudonym.key", secrets.token_bytes(PSEUDONYM_BYTES), replace=False)

    def _make_private(self, folder: Path) -> None:
        closed_folder(folder)
        for name, key in (
            ("identity.pem", Ed25519PrivateKey.generate()),
            ("node.pem", ec.generate_private_key(ec.SECP384R1())),
            ("tls.pem", ec.generate_private_key(ec.SECP256R1())),
        ):
            write_atomic(folder / name, private_pem(key, self._passphrase), replace=False)

    def create_next(self) -> SiteKeys:
        """Create the three keys that will replace the current keys, next to them, and return the new keys.

        Raises:
            StateError: there are already new keys; they stay unchanged.
        """
        folder = self._folder / NEXT
        if folder.exists():
            raise StateError(
                "new keys are already waiting for a roster that lists them",
                hint="Send the new card to the authority, or undo the change with `dura site rotate --undo`.",
            )
        self._make_private(folder)
        return self.next_keys()

    def next_keys(self) -> SiteKeys:
        """Return the waiting keys."""
        found = object.__new__(SiteKeys)
        found._folder, found._passphrase = self._folder / NEXT, self._passphrase
        return found

    def drop_next(self) -> None:
        """Delete the waiting keys."""
        shutil.rmtree(self._folder / NEXT, ignore_errors=True)

    def promote_next(self) -> None:
        """Replace the current keys by the waiting keys. After a crash, a second call completes the change."""
        folder = self._folder / NEXT
        for path in sorted(folder.glob("*.pem")):
            path.replace(self._folder / path.name)
        self.drop_next()

    def require_none(self) -> None:
        """Refuse to continue if there are keys already.

        Raises:
            StateError: there are keys.
        """
        if self._folder.exists() and any(self._folder.iterdir()):
            raise StateError(
                f"there are already keys in {self._folder}",
                hint="A site keeps its keys. For a new site, choose another --home.",
            )

    def identity(self) -> Ed25519PrivateKey:
        """Return the identity key."""
        key = self._load("identity.pem")
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError("identity.pem does not hold an Ed25519 key")
        return key

    def node(self) -> ec.EllipticCurvePrivateKey:
        """Return the key of Flower's node authentication."""
        return self._curve("node.pem")

    def tls(self) -> ec.EllipticCurvePrivateKey:
        """Return the TLS client key."""
        return self._curve("tls.pem")

    def store_key(self) -> bytes:
        """Return the key that encrypts prepared recordings at rest (32 bytes); it is created when it is first needed.

        It is derived from store.pem, an Ed25519 key that signs nothing: in that form the passphrase protects it.
        """
        path = self._folder / "store.pem"
        if not path.exists():
            with suppress(StateError):  # another process was faster
                write_atomic(path, private_pem(Ed25519PrivateKey.generate(), self._passphrase), replace=False)
        key = self._load("store.pem")
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError("store.pem does not hold an Ed25519 key")
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"dura store v1").derive(key.private_bytes_raw())

    def pseudonym_key(self) -> bytes:
        """Return the key that turns labels into pseudonyms (32 bytes)."""
        key = read_limited(self._folder / "pseudonym.key", what="the pseudonym key", limit=MAX_KEY_BYTES)
        if len(key) != PSEUDONYM_BYTES:
            raise InputError(f"pseudonym.key must hold {PSEUDONYM_BYTES} bytes, got {len(key)}")
        return key

    @contextmanager
    def node_file(self) -> Iterator[tuple[str, int]]:
        """Lend the node key as a file that exists in memory only: (path for a child, descriptor to pass on).

        Flower reads its key from an unencrypted file; a copy on disk would defeat the passphrase.
        """
        descriptor = os.memfd_create("dura-node-key", 0)
        try:
            os.write(descriptor, node_private_text(self.node()))
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield f"/proc/self/fd/{descriptor}", descriptor
        finally:
            os.close(descriptor)

    def _curve(self, name: str) -> ec.EllipticCurvePrivateKey:
        key = self._load(name)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InputError(f"{name} does not hold an elliptic-curve key")
        return key

    def _load(self, name: str) -> PrivateKey:
        path = self._folder / name
        if not path.exists():
            raise StateError(f"the key {name} is missing", hint="Make the site's keys with `dura site init`.")
        return read_private(path, self._passphrase, what=f"the key {name}")

    def change_passphrase(self, new: bytes) -> int:
        """Encrypt the keys, also the waiting keys, with another passphrase, and return how many there are.

        Raises:
            StateError: there are no keys.
            TrustError: the present passphrase does not open one; nothing is changed.
        """
        paths = [*sorted(self._folder.glob("*.pem")), *sorted((self._folder / NEXT).glob("*.pem"))]
        return change_passphrase(paths, self._passphrase, new)


def passphrase_from_environment() -> bytes | None:
    """Return the passphrase in the file that DURA_PASSPHRASE_FILE names; None if it names no file."""
    path = os.environ.get(PASSPHRASE_FILE)
    return read_passphrase(Path(path)) if path else None

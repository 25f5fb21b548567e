"""Key files: what opens them, what a guess costs, and that files of older versions still open."""

from __future__ import annotations

import base64
import logging
from hashlib import scrypt
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_der_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dura_common.consortium import keyfile
from dura_common.consortium.keyfile import (
    COSTS,
    FIRST_LINE,
    LAST_LINE,
    LOG2_N,
    is_sealed,
    load_private,
    private_pem,
    unseal,
)
from dura_common.errors import InputError, TrustError
from dura_common.runtime.private_keys import change_passphrase, read_private

KEY = Ed25519PrivateKey.generate()
RAW = KEY.private_bytes_raw()
SEALED = private_pem(KEY, b"winter")


def of(content: bytes, passphrase: bytes | None = None) -> bytes:
    """Return the raw bytes of the key in a file."""
    key = load_private(content, passphrase)
    assert isinstance(key, Ed25519PrivateKey)
    return key.private_bytes_raw()


def packed(content: bytes) -> bytes:
    """Return the bytes between the first and the last line."""
    return base64.b64decode(b"".join(content.split(b"\n")[1:-2]))


def as_file(body: bytes) -> bytes:
    """Return bytes in the form of a file."""
    return b"\n".join([FIRST_LINE, base64.b64encode(body), LAST_LINE])


def test_another_implementation_opens_the_file() -> None:
    """Python's own scrypt (OpenSSL) and the fields as the module describes them give back the key."""
    body = packed(SEALED)
    assert body[:2] == bytes([1, 17])
    key = scrypt(b"winter", salt=body[2:18], n=2**17, r=8, p=1, dklen=32, maxmem=2**28)
    der = AESGCM(key).decrypt(body[18:30], body[30:], body[:30])
    found = load_der_private_key(der, None)
    assert isinstance(found, Ed25519PrivateKey)
    assert found.private_bytes_raw() == RAW


def test_a_guess_costs_what_is_recommended_and_two_files_share_nothing() -> None:
    """128 MiB of scrypt a guess (OWASP); the same key under the same passphrase gives another salt and nonce."""
    assert 128 * keyfile.BLOCK * 2**LOG2_N == 128 << 20
    other = private_pem(KEY, b"winter")
    assert packed(other)[2:18] != packed(SEALED)[2:18]
    assert packed(other)[18:30] != packed(SEALED)[18:30]


def test_only_the_passphrase_opens_it() -> None:
    """Another passphrase, none, and one for a file without are refused; no message repeats it."""
    assert of(SEALED, b"winter") == RAW
    for content, passphrase, words in (
        (SEALED, b"Winter", "does not open"),
        (SEALED, None, "needs a passphrase"),
        (private_pem(KEY), b"winter", "one was given for a key without"),
    ):
        with pytest.raises(TrustError, match=words) as caught:
            load_private(content, passphrase)
        assert "inter" not in caught.value.message


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(packed(SEALED)) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position: int, change: int) -> None:
    """Whatever byte of a file somebody changes, it does not open, and no cost beyond the bounds is ever paid."""
    body = bytearray(packed(SEALED))
    body[position] ^= change
    with pytest.raises((TrustError, InputError), match=r"does not open|this version of dura reads"):
        unseal(as_file(bytes(body)), b"winter")


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(as_file), st.just(FIRST_LINE)))
def test_no_bytes_are_read_as_a_key(content: bytes) -> None:
    """A file that is damaged or no key file at all is refused in one way."""
    with pytest.raises((InputError, TrustError), match="key"):
        load_private(content, b"winter" if is_sealed(content) else None)


@pytest.mark.parametrize("cost", [0, COSTS.start - 1, COSTS.stop, 255])
def test_costs_outside_the_bounds_are_refused_before_they_are_paid(cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cannot demand all memory, nor be one that is guessed quickly."""
    monkeypatch.setattr(keyfile, "Scrypt", None)
    body = bytearray(packed(SEALED))
    body[1] = cost
    with pytest.raises(InputError, match=f"cost {cost}"):
        unseal(as_file(bytes(body)), b"winter")


def old_file(passphrase: bytes) -> bytes:
    """Return a file as dura 0.1 wrote it."""
    return KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))


def test_a_file_of_an_older_version_opens_and_says_what_to_do(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """PBKDF2 as before is read; the log names the command; after it the file has the new form and no more is said."""
    path = tmp_path / "identity.pem"
    path.write_bytes(old_file(b"winter"))
    with caplog.at_level(logging.WARNING):
        read_private(path, b"winter", what="the key")
    assert "`dura site passphrase`" in caplog.text
    assert "winter" not in caplog.text
    caplog.clear()
    assert change_passphrase([path], b"winter", b"winter") == 1
    assert is_sealed(path.read_bytes())
    read_private(path, b"winter", what="the key")
    assert caplog.text == ""


def test_a_passphrase_is_changed_for_all_keys_or_none(tmp_path: Path) -> None:
    """A key that neither passphrase opens stops it before a byte is written; a broken-off change can be finished."""
    paths = [tmp_path / name for name in ("a.pem", "b.pem", "c.pem")]
    for path, content in zip(paths, (old_file(b"one"), private_pem(KEY), private_pem(KEY, b"three")), strict=True):
        path.write_bytes(content)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(TrustError, match="does not open"):
        change_passphrase(paths, b"one", b"two")
    assert [path.read_bytes() for path in paths] == before
    paths[2].write_bytes(private_pem(KEY, b"two"))  # as after a crash in the middle
    assert change_passphrase(paths, b"one", b"two") == 3
    assert {of(path.read_bytes(), b"two") for path in paths} == {RAW}


@pytest.mark.parametrize("lines", [slice(0, 1), slice(0, 2), slice(1, 3), slice(1, None), slice(0, -1)])
def test_a_file_that_lost_lines_is_damaged_and_no_wrong_passphrase(lines: slice) -> None:
    """Whatever lines are missing, the error says that the file is damaged."""
    content = keyfile.seal(b"secret", b"passphrase")
    cut = b"\n".join(content.strip().splitlines()[lines])
    with pytest.raises(InputError, match="is damaged"):
        keyfile.unseal(cut, b"passphrase")


def test_an_empty_passphrase_protects_nothing() -> None:
    """It is refused, and the key is not written in the clear instead."""
    with pytest.raises(InputError, match="the passphrase is empty"):
        keyfile.private_pem(Ed25519PrivateKey.generate(), b"")

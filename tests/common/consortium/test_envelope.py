"""Signed documents: what is signed comes back, and nothing else does."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from dura_common.consortium.envelope import MAX_ENVELOPE_BYTES, key_id, payload_of, sign, verify
from dura_common.errors import DuraError, InputError, TrustError

TYPE = "application/vnd.dura.test+json"
# Secret and public key of RFC 8032, section 7.1, test 1.
RFC_SECRET = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
KEY = Ed25519PrivateKey.from_private_bytes(RFC_SECRET)
PUBLIC = KEY.public_key()


@given(payload=st.binary(max_size=400))
def test_what_was_signed_comes_back(payload: bytes) -> None:
    """Any payload survives signing and verification unchanged."""
    assert verify(sign(payload, TYPE, KEY), TYPE, [PUBLIC]) == payload


def test_signature_is_dsse_over_type_and_payload() -> None:
    """The signature is Ed25519 over DSSE's pre-authentication encoding, checked without the library."""
    document = json.loads(sign(b"hello", TYPE, KEY))
    (signature,) = document["signatures"]
    encoded = b"DSSEv1 %d %s 5 hello" % (len(TYPE), TYPE.encode())
    Ed25519PublicKey.from_public_bytes(RFC_PUBLIC).verify(base64.b64decode(signature["sig"]), encoded)
    assert signature["keyid"] == key_id(PUBLIC)


@given(data=st.data())
def test_one_altered_byte_never_gives_another_payload(data: st.DataObject) -> None:
    """Whatever byte of an envelope is altered: it is refused, or still says exactly what was signed."""
    envelope = bytearray(sign(b'{"epsilon": 8}', TYPE, KEY).encode())
    position = data.draw(st.integers(0, len(envelope) - 1))
    envelope[position] ^= data.draw(st.integers(1, 255))
    try:
        payload = verify(bytes(envelope), TYPE, [PUBLIC])
    except DuraError:
        return
    assert payload == b'{"epsilon": 8}'


@pytest.mark.parametrize("part", ["payload", "sig", "keyid"])
def test_altered_part_is_refused(part: str) -> None:
    """Another payload, signature or key id makes the whole untrusted."""
    document = json.loads(sign(b"eight", TYPE, KEY))
    if part == "payload":
        document["payload"] = base64.b64encode(b"eighty").decode()
    else:
        other = json.loads(sign(b"other", TYPE, Ed25519PrivateKey.generate()))
        document["signatures"][0][part] = other["signatures"][0][part]
    with pytest.raises(TrustError, match="signature is not valid"):
        verify(json.dumps(document), TYPE, [PUBLIC])


def test_wrong_kind_is_refused_even_with_a_good_signature() -> None:
    """A document of another type is refused, and rewriting the type breaks the signature."""
    envelope = sign(b"x", TYPE, KEY)
    with pytest.raises(TrustError, match="another type"):
        verify(envelope, "application/vnd.dura.card+json", [PUBLIC])
    rewritten = {**json.loads(envelope), "payloadType": "application/vnd.dura.card+json"}
    with pytest.raises(TrustError, match="signature is not valid"):
        verify(json.dumps(rewritten), "application/vnd.dura.card+json", [PUBLIC])


def test_foreign_key_and_no_key_are_refused() -> None:
    """Somebody else's key verifies nothing; neither does an empty list of keys."""
    envelope = sign(b"x", TYPE, KEY)
    with pytest.raises(TrustError, match="signature is not valid"):
        verify(envelope, TYPE, [Ed25519PrivateKey.generate().public_key()])
    with pytest.raises(TrustError, match="no key"):
        verify(envelope, TYPE, [])


def test_one_of_several_keys_is_enough() -> None:
    """The signer may be any of the allowed ones."""
    assert verify(sign(b"x", TYPE, KEY), TYPE, [Ed25519PrivateKey.generate().public_key(), PUBLIC]) == b"x"


def test_unsigned_document_is_refused() -> None:
    """Without signatures there is nothing to trust."""
    document = {**json.loads(sign(b"x", TYPE, KEY)), "signatures": []}
    with pytest.raises(DuraError, match="signature is not valid"):
        verify(json.dumps(document), TYPE, [PUBLIC])


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"7", b"[]", b"{}", b"{" * 5000, b"\xff\xfe", b'{"payload": 1, "payloadType": 2, "signatures": 3}'],
    ids=["empty", "null", "number", "list", "no-parts", "nested", "not-utf8", "wrong-types"],
)
def test_not_an_envelope(text: bytes) -> None:
    """Anything that is no envelope ends in one InputError, whichever function reads it."""
    for read in (lambda: verify(text, TYPE, [PUBLIC]), lambda: payload_of(text)):
        with pytest.raises(InputError, match="not a signed document"):
            read()


def test_unknown_parts_and_oversize_are_refused() -> None:
    """No part is ignored, and nothing larger than the limit is parsed."""
    with pytest.raises(InputError, match="not a signed document"):
        verify(json.dumps({**json.loads(sign(b"x", TYPE, KEY)), "note": ""}), TYPE, [PUBLIC])
    with pytest.raises(InputError, match="larger than"):
        verify(b" " * (MAX_ENVELOPE_BYTES + 1), TYPE, [PUBLIC])

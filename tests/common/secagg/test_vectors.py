"""Published vectors through the wrappers that the protocol uses.

Sources: RFC 7748 sections 5.2 and 6.1, RFC 8032 section 7.1, RFC 5869 appendix A, NIST SP 800-38A section F.5.5, and a
selection of Project Wycheproof, see the head of wycheproof.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.common.secagg.reference import hkdf
from tests.support.secagg import sim

from dura_common.secagg import Abort, Kind, Member, SessionParameters, keys
from dura_common.secagg.abort import Reason
from dura_common.secagg.arithmetic import masks

WYCHEPROOF = json.loads(Path(__file__).with_name("wycheproof.json").read_text())


def cases(name: str) -> list[Any]:
    """Return Wycheproof's cases of one algorithm, named by number and comment."""
    return [pytest.param(case, id=f"{case['tcId']} {case['comment']}".strip()) for case in WYCHEPROOF[name]]


@pytest.fixture(scope="module")
def params() -> SessionParameters:
    """Return any session."""
    return sim.parameters(sim.identities(3), kind=Kind.STEP, length=1)


def agreed(params: SessionParameters, private: str, public: str) -> bytes:
    """Return what the wrapper derives from a private and a public key."""
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    return keys.pair_key(keys.agree(key, bytes.fromhex(public)), params, b"use", 1, 2)


def expected(params: SessionParameters, shared: str) -> bytes:
    """Return what must be derived from a shared secret, by the HKDF written in the tests."""
    return hkdf(bytes.fromhex(shared), params.session_id, b"dura use\0\x00\x01\x00\x02")


@pytest.mark.parametrize(
    ("private", "public", "shared"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
        ),
    ],
)
def test_rfc_7748(params: SessionParameters, private: str, public: str, shared: str) -> None:
    """Two sites derive their key from the secret that the RFC gives."""
    assert agreed(params, private, public) == expected(params, shared)


def test_rfc_7748_public_key() -> None:
    """The public half that is advertised is Alice's of section 6.1."""
    key = X25519PrivateKey.from_private_bytes(
        bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    )
    assert keys.public_bytes(key).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"


@pytest.mark.parametrize("case", cases("x25519"))
def test_wycheproof_x25519(params: SessionParameters, case: dict[str, Any]) -> None:
    """Twist, edge and non-canonical keys agree; a key of low order ends the session."""
    if "ZeroSharedSecret" in case["flags"]:
        with pytest.raises(Abort, match="not usable") as caught:
            agreed(params, case["private"], case["public"])
        assert caught.value.reason is Reason.NOT_AUTHENTIC
    else:
        assert agreed(params, case["private"], case["public"]) == expected(params, case["shared"])


def verify(monkeypatch: pytest.MonkeyPatch, public: str, message: str, signature: str) -> None:
    """Check a signature over a message of the vector instead of one of the protocol's."""
    members = sim.identities(2)
    params = sim.parameters(members, kind=Kind.STEP, length=1)
    strange = Member("zzz", bytes.fromhex(public))
    values = {name: getattr(params, name) for name in SessionParameters.__dataclass_fields__}
    params = SessionParameters(**{**values, "members": (params.members[0], strange)})
    monkeypatch.setattr(keys, "signed_bytes", lambda *_: bytes.fromhex(message))
    keys.check(params, b"use", {1: (b"", bytes.fromhex(signature))})


@pytest.mark.parametrize(
    ("private", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            (
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f05"
                "95bbe24655141438e7a100b"
            ),
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            (
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e97"
                "16ed28dc027beceea1ec40a"
            ),
        ),
    ],
)
def test_rfc_8032(monkeypatch: pytest.MonkeyPatch, private: str, public: str, message: str, signature: str) -> None:
    """Signatures are made and accepted as the RFC gives them."""
    verify(monkeypatch, public, message, signature)
    identity = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    params = sim.parameters(sim.identities(2), kind=Kind.STEP, length=1)
    assert keys.sign(identity, b"use", params, 0, b"").hex() == signature


@pytest.mark.parametrize("case", cases("ed25519"))
def test_wycheproof_ed25519(monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]) -> None:
    """A malleable, truncated, lengthened or otherwise wrong signature ends the session and nothing else happens."""
    if case["result"] == "valid":
        verify(monkeypatch, case["pk"], case["msg"], case["sig"])
    else:
        with pytest.raises(Abort, match="does not hold") as caught:
            verify(monkeypatch, case["pk"], case["msg"], case["sig"])
        assert caught.value.reason is Reason.NOT_AUTHENTIC


@pytest.mark.parametrize("case", cases("aes_gcm"))
def test_wycheproof_aes_gcm(monkeypatch: pytest.MonkeyPatch, case: dict[str, Any]) -> None:
    """Sealed shares open exactly if their tag is right."""
    key, associated, plain, nonce = (bytes.fromhex(case[name]) for name in ("key", "aad", "msg", "iv"))
    sealed = bytes.fromhex(case["ct"] + case["tag"])
    monkeypatch.setattr(keys, "_NONCE", nonce)
    if case["result"] == "valid":
        assert keys.unseal(key, sealed, associated, "north") == plain
        assert keys.seal(key, plain, associated) == sealed
    else:
        with pytest.raises(Abort, match="altered"):
            keys.unseal(key, sealed, associated, "north")


@pytest.mark.parametrize(
    ("secret", "salt", "info", "derived"),
    [
        (
            "0b" * 22,
            "000102030405060708090a0b0c",
            "f0f1f2f3f4f5f6f7f8f9",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        ("0b" * 22, "", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"),
    ],
)
def test_rfc_5869(secret: str, salt: str, info: str, derived: str) -> None:
    """Keys are HKDF-SHA256's first 32 bytes; the tests' own HKDF agrees with all of the RFC's."""
    parts = [bytes.fromhex(part) for part in (secret, salt, info)]
    assert keys.derive(*parts).hex() == derived[:64]
    assert hkdf(*parts, size=42).hex() == derived


@pytest.mark.parametrize("case", cases("hkdf_sha256"))
def test_wycheproof_hkdf(case: dict[str, Any]) -> None:
    """Keys are HKDF-SHA256's first 32 bytes: a longer output begins with a shorter one."""
    assert keys.derive(*(bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))).hex() == case["okm"][:64]


def test_nist_sp_800_38a_ctr() -> None:
    """A mask's words are the keystream of F.5.5 (AES-256), entered at its counter, as little-endian words."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    stream = bytes(one ^ other for one, other in zip(plain, cipher, strict=True))
    assert masks._stream(key, 16 * counter).update(bytes(64)) == stream

    words = np.zeros(4, dtype="<u4")
    masks.add_masks(words, [key], [])
    first = masks._stream(key, 0).update(bytes(16))
    assert words.tolist() == [int.from_bytes(first[place : place + 4], "little") for place in range(0, 16, 4)]

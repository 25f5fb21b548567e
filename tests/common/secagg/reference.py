"""The protocol a second time, written from docs/reference/protocol.md and from nothing else: slow, plain, whole.

It imports no line of the package. Given the secrets that the sites drew, it says which bytes must travel; the tests
compare them with what the real sides send, so that the note stays precise enough to reimplement.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PRIME = 2**256 + 297


def hkdf(secret: bytes, salt: bytes, info: bytes, size: int = 32) -> bytes:
    """HKDF-SHA256 as RFC 5869 writes it."""
    extracted = hmac.new(salt or bytes(32), secret, "sha256").digest()
    blocks, block = b"", b""
    while len(blocks) < size:
        block = hmac.new(extracted, block + info + bytes([len(blocks) // 32 + 1]), "sha256").digest()
        blocks += block
    return blocks[:size]


def keystream(key: bytes, size: int) -> bytes:
    """AES-256 in counter mode from zero, block by block."""
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # counter mode is built from it
    return b"".join(encryptor.update(block.to_bytes(16, "big")) for block in range(-(-size // 16)))[:size]


def two(number: int) -> bytes:
    """A number of two bytes."""
    return number.to_bytes(2, "big")


def listed(items: Mapping[int, bytes]) -> bytes:
    """A list of items by index."""
    return two(len(items)) + b"".join(two(index) + items[index] for index in sorted(items))


@dataclass(frozen=True)
class Secrets:
    """What one site draws: raw X25519 keys, the seed, and the upper coefficients of both polynomials."""

    masking: bytes
    sealing: bytes = b""
    seed: bytes = b""
    seed_polynomial: Sequence[int] = ()
    masking_polynomial: Sequence[int] = ()


@dataclass(frozen=True)
class Session:
    """One session: session id, ring, threshold, sites in order."""

    id: bytes
    bits: int
    threshold: int
    identities: Sequence[Ed25519PrivateKey]
    secrets: Sequence[Secrets]
    notes: Sequence[bytes]
    """What each says to the others with its keys."""

    def said(self, site: int, use: str, publics: bytes) -> bytes:
        """What a site advertises."""
        said = publics + self.notes[site]
        return said + self.sign(site, use, said)

    @property
    def everybody(self) -> range:
        """All indices."""
        return range(len(self.secrets))

    def frame(self, kind: int, step: int, body: bytes) -> bytes:
        """A frame."""
        return bytes([kind, 0, 0, 0]) + step.to_bytes(4, "big") + self.id + body

    def sign(self, site: int, use: str, content: bytes) -> bytes:
        """A signature."""
        return self.identities[site].sign(b"dura secure sum 4 " + use.encode() + b"\0" + self.id + two(site) + content)

    def pair(self, own: bytes, other: bytes, use: str, first: int, second: int) -> bytes:
        """The key of two sites for one use, from the private keys of both."""
        public = X25519PrivateKey.from_private_bytes(other).public_key()
        secret = X25519PrivateKey.from_private_bytes(own).exchange(public)
        return hkdf(secret, self.id, b"dura " + use.encode() + b"\0" + two(first) + two(second))

    def words(self, values: Sequence[int]) -> list[int]:
        """A vector with its check words."""
        plain, weighted = sum(values), sum(place * value for place, value in enumerate(values))
        return [value % 2**self.bits for value in (*values, 0, 0, plain, weighted)]

    def mask(self, key: bytes, count: int) -> list[int]:
        """The words of a mask."""
        width = self.bits // 8
        stream = keystream(key, count * width)
        return [int.from_bytes(stream[place * width : (place + 1) * width], "little") for place in range(count)]

    def masked(self, values: Sequence[int], plus: Sequence[bytes], minus: Sequence[bytes]) -> bytes:
        """A masked vector."""
        words = self.words(values)
        for sign, found in ((1, plus), (-1, minus)):
            for key in found:
                words = [word + sign * mask for word, mask in zip(words, self.mask(key, len(words)), strict=True)]
        return b"".join((word % 2**self.bits).to_bytes(self.bits // 8, "little") for word in words)

    def total(self, vectors: Sequence[Sequence[int]]) -> bytes:
        """An opened sum."""
        return self.masked([sum(column) for column in zip(*vectors, strict=True)], [], [])


def public(private: bytes) -> bytes:
    """The public half of an X25519 key."""
    key: X25519PublicKey = X25519PrivateKey.from_private_bytes(private).public_key()
    return key.public_bytes_raw()


def step_frames(session: Session, first: int, vectors: Sequence[Sequence[Sequence[int]]]) -> list[tuple[str, bytes]]:
    """All frames of step sums; ``vectors`` by step and site. A frame to everybody stands once, under ``all``."""
    publics = [public(secret.masking) for secret in session.secrets]
    signed = {site: session.said(site, "step key", publics[site]) for site in session.everybody}
    frames = [(f"site {site}", session.frame(1, 0, signed[site])) for site in session.everybody]
    frames.append(("all", session.frame(2, 0, listed(signed))))
    chain = hashlib.sha256(listed(signed)).digest()
    for step, values in enumerate(vectors, first):
        for site in session.everybody:
            keys = {}
            for peer in session.everybody:
                if peer != site:
                    low, high = sorted((site, peer))
                    pair = session.pair(
                        session.secrets[site].masking, session.secrets[peer].masking, "step key", low, high
                    )
                    context = b"dura mask step\0" + step.to_bytes(4, "big") + chain
                    keys[peer] = hmac.new(pair, context, "sha256").digest()
            plus = [key for peer, key in keys.items() if peer > site]
            minus = [key for peer, key in keys.items() if peer < site]
            frames.append((f"site {site}", session.frame(5, step, session.masked(values[site], plus, minus))))
        body = session.total(values)
        frames.append(("all", session.frame(10, step, body)))
        chain = hashlib.sha256(chain + body).digest()
    return frames


def round_frames(
    session: Session, vectors: Sequence[Sequence[int]], survivors: Sequence[int]
) -> list[tuple[str, bytes]]:
    """All frames of a round sum in which everybody shares and ``survivors`` send their vectors."""
    everybody, secrets = session.everybody, session.secrets
    publics = [public(secret.sealing) + public(secret.masking) for secret in secrets]
    signed = {site: session.said(site, "round keys", publics[site]) for site in everybody}
    frames = [(f"site {site}", session.frame(1, 0, signed[site])) for site in everybody]
    frames.append(("all", session.frame(2, 0, listed(signed))))
    key_list = hashlib.sha256(listed(signed)).digest()

    seeds = [_shares(secret.seed, secret.seed_polynomial, len(everybody)) for secret in secrets]
    maskings = [_shares(secret.masking, secret.masking_polynomial, len(everybody)) for secret in secrets]
    sealed: dict[int, dict[int, bytes]] = {}
    for site in everybody:
        sealed[site] = {}
        for peer in everybody:
            if peer != site:
                key = session.pair(secrets[site].sealing, secrets[peer].sealing, "round seal", site, peer)
                associated = session.id + key_list + two(site) + two(peer)
                sealed[site][peer] = AESGCM(key).encrypt(
                    bytes(12), seeds[site][peer] + maskings[site][peer], associated
                )
        bound = hashlib.sha256(b"dura self-mask\0" + session.id + two(site) + secrets[site].seed).digest()
        frames.append((f"site {site}", session.frame(3, 0, bound + listed(sealed[site]))))
    for site in everybody:
        found = {peer: sealed[peer][site] for peer in everybody if peer != site}
        frames.append((f"to {site}", session.frame(4, 0, listed(found))))

    for site in survivors:
        keys = {}
        for peer in everybody:
            if peer != site:
                low, high = sorted((site, peer))
                keys[peer] = session.pair(secrets[site].masking, secrets[peer].masking, "round mask", low, high)
        own = hmac.new(secrets[site].seed, b"dura mask self\0", "sha256").digest()
        plus = [own, *(key for peer, key in keys.items() if peer > site)]
        minus = [key for peer, key in keys.items() if peer < site]
        frames.append((f"site {site}", session.frame(5, 0, session.masked(vectors[site], plus, minus))))
    frames.append(("all", session.frame(6, 0, listed(dict.fromkeys(survivors, b"")))))
    sets = (listed(dict.fromkeys(everybody, b"")), listed(dict.fromkeys(survivors, b"")))
    content = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in (key_list, *sets))).digest()
    confirms = {site: session.sign(site, "round survivors", content) for site in survivors}
    frames += [(f"site {site}", session.frame(7, 0, confirms[site])) for site in survivors]
    frames.append(("all", session.frame(8, 0, listed(confirms))))
    for site in survivors:
        of_seeds = {peer: seeds[peer][site] for peer in survivors}
        of_keys = {peer: maskings[peer][site] for peer in everybody if peer not in survivors}
        frames.append((f"site {site}", session.frame(9, 0, listed(of_seeds) + listed(of_keys))))
    frames.append(("all", session.frame(10, 0, session.total([vectors[site] for site in survivors]))))
    return frames


def _shares(secret: bytes, upper: Sequence[int], holders: int) -> list[bytes]:
    """Shamir's shares at 1, 2, ... of a polynomial whose constant is the secret."""
    coefficients = [int.from_bytes(secret, "big"), *upper]
    points = [sum(value * at**power for power, value in enumerate(coefficients)) for at in range(1, holders + 1)]
    return [(point % PRIME).to_bytes(33, "big") for point in points]

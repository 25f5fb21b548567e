"""Cards: the files that future members hand over, with one fingerprint over all their public keys.

The fingerprint covers kind, name, identity key, TLS key and node key. It is the same on the card, on the roster, in
join, in review and on the telephone. If anybody replaces one of the keys, the fingerprint changes.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from dura_common.consortium.envelope import payload_of, verify
from dura_common.consortium.identity import fingerprint, identity_from_raw, load_request, tls_public_text
from dura_common.errors import InputError, TrustError
from dura_common.study import Frozen, SiteName, explain_validation

CARD_TYPE = "application/vnd.dura.card+json"

Identity = Annotated[str, Field(min_length=44, max_length=44)]
"""32 raw bytes of an Ed25519 public key, base64."""
Signature = Annotated[str, Field(max_length=88, pattern=r"^[A-Za-z0-9+/=]*$")]
"""64 bytes of an Ed25519 signature, base64; empty without one."""
TlsKey = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9+/=]*$")]
"""A P-256 public key as DER (SubjectPublicKeyInfo), base64."""
NodeKey = Annotated[str, Field(max_length=1024)]
Pem = Annotated[str, Field(max_length=16_384)]
Kind = Literal["site", "researcher"]


def encode_identity(key: Ed25519PublicKey) -> str:
    """Return a public key in the form for rosters and cards."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def decode_identity(text: str) -> Ed25519PublicKey:
    """Read a public key from a roster or card.

    Raises:
        InputError: the text is not the base64 form of a key.
    """
    try:
        return identity_from_raw(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as error:
        raise InputError("an identity key is not base64") from error


def member_fingerprint(kind: Kind, name: str, *, identity: str, tls_key: str = "", node_key: str = "") -> str:
    """Return the fingerprint that a member reads out by telephone. It ignores the comment of an OpenSSH key."""
    parts = (kind, name, identity, tls_key, " ".join(node_key.split()[:2]))
    return fingerprint(*(part.encode() for part in parts))


def hand_over(old: Ed25519PrivateKey, mark: str) -> str:
    """Return the old identity's signature on the fingerprint of the new keys."""
    return base64.b64encode(old.sign(_handover(mark))).decode()


def check_handover(old: Ed25519PublicKey, mark: str, signature: str) -> bool:
    """Tell whether the old identity has signed the fingerprint of new keys."""
    try:
        old.verify(base64.b64decode(signature, validate=True), _handover(mark))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def _handover(mark: str) -> bytes:
    return b"dura member handover 1\0" + mark.encode()


class SiteCard(Frozen):
    """A site's card: public keys and a certificate signing request, signed by the site itself."""

    kind: Literal["site"] = "site"
    name: SiteName
    identity: Identity
    node_key: NodeKey
    request: Pem
    created: AwareDatetime
    handover: Signature = ""
    """After a change of keys: the old identity's signature on the fingerprint of the new keys."""

    @property
    def tls_key(self) -> str:
        """The TLS key for which the card requests a certificate."""
        return tls_public_text(load_request(self.request.encode()).public_key())

    def fingerprint(self) -> str:
        """Return the fingerprint that the site's people read out by telephone."""
        return member_fingerprint(
            "site", self.name, identity=self.identity, tls_key=self.tls_key, node_key=self.node_key
        )


class ResearcherCard(Frozen):
    """A researcher's card: the key that signs studies, and a certificate signing request for the desk's TLS key."""

    kind: Literal["researcher"] = "researcher"
    name: SiteName
    identity: Identity
    request: Pem = ""
    """Empty on a card of an earlier version of dura: its researcher signs studies, and the operator submits them."""
    created: AwareDatetime
    handover: Signature = ""

    @property
    def tls_key(self) -> str:
        """The TLS key for which the card requests a certificate; empty without a request."""
        return tls_public_text(load_request(self.request.encode()).public_key()) if self.request else ""

    def fingerprint(self) -> str:
        """Return the fingerprint that the researcher reads out by telephone."""
        return member_fingerprint("researcher", self.name, identity=self.identity, tls_key=self.tls_key)


Card = SiteCard | ResearcherCard
_CARD: TypeAdapter[Card] = TypeAdapter(Annotated[Card, Field(discriminator="kind")])


def read_card(text: str | bytes) -> Card:
    """Read a card and check that the identity on the card has signed it.

    Raises:
        InputError: the content is not a card.
        TrustError: the signature is not valid.
    """
    try:
        card = _CARD.validate_json(payload_of(text))
    except ValidationError as error:
        raise explain_validation(error, what="the card") from error
    verify(text, CARD_TYPE, [decode_identity(card.identity)])
    if isinstance(card, SiteCard) and not card.request.strip():
        raise TrustError("the card requests no certificate")
    return card

"""What a researcher asks of the coordinator: a signed request that is good for one connection, once.

The coordinator opens with a challenge, so that no clock and no memory of earlier requests is needed. A request names
the challenge, the certificate of the connection, the consortium and the researcher, and the researcher's identity key
signs all of it. Recorded, delayed or passed on to another connection, it is worth nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError

from dura_common.consortium.envelope import canonical_json, sign, verify
from dura_common.consortium.roster import RosterResearcher
from dura_common.errors import InputError, TrustError
from dura_common.study import Digest, Frozen, SiteName, Word, explain_validation

REQUEST_TYPE = "application/vnd.dura.desk+json"
REQUEST_BYTES = 262_144
"""Largest signed request. It can hold a signed study, and a study with 500 sites is below 50 kB."""
CHALLENGE_BYTES = 32

Action = Literal["rosters", "list", "look", "watch", "submit", "run", "stop", "result", "model"]
"""rosters: from a serial on. list: the researcher's own studies. look: one study. watch: one study, at every change.
submit: store a signed study and offer it to its sites. run: train it. stop: end its process. result: the released
figures. model: the trained model."""
OF_A_STUDY: frozenset[Action] = frozenset({"look", "watch", "run", "stop", "result", "model"})


class Request(Frozen):
    """The payload of a signed request."""

    format: Literal[1] = 1
    consortium: Word
    researcher: SiteName
    certificate: Digest
    """SHA-256 of the connection's client certificate (DER)."""
    challenge: Digest
    """The coordinator's challenge as hexadecimal digits."""
    action: Action
    study: Digest | None = None
    """The whole digest of the study that is meant."""
    document: Annotated[str, Field(max_length=REQUEST_BYTES)] | None = None
    """The signed study that is submitted."""
    serial: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """The first roster that is asked for."""


def new_challenge() -> bytes:
    """Return a challenge that nobody can foresee."""
    return secrets.token_bytes(CHALLENGE_BYTES)


def certificate_mark(certificate: bytes) -> str:
    """Return how a request names the certificate (DER) of its connection."""
    return hashlib.sha256(certificate).hexdigest()


def sign_request(request: Request, identity: Ed25519PrivateKey) -> bytes:
    """Return a request as it is sent.

    Raises:
        InputError: it is too large.
    """
    content = sign(canonical_json(request), REQUEST_TYPE, identity).encode()
    if len(content) > REQUEST_BYTES:
        raise InputError(f"the signed study is too large to be submitted: a request has at most {REQUEST_BYTES} bytes")
    return content


def read_request(
    content: bytes, *, researcher: RosterResearcher, consortium: str, certificate: bytes, challenge: bytes
) -> Request:
    """Return a request that this researcher has signed for this connection.

    Raises:
        InputError: it is too large, or no request.
        TrustError: somebody else has signed it, or it was signed for another connection, researcher or consortium.
    """
    if len(content) > REQUEST_BYTES:
        raise InputError(f"expected a request of at most {REQUEST_BYTES} bytes")
    payload = verify(content, REQUEST_TYPE, [researcher.identity_key()])
    try:
        request = Request.model_validate_json(payload)
    except ValidationError as error:
        raise explain_validation(error, what="the request") from error
    wanted = (consortium, researcher.name, certificate_mark(certificate), challenge.hex())
    if (request.consortium, request.researcher, request.certificate, request.challenge) != wanted:
        raise TrustError("the request was signed for another connection")
    if (request.study is None) != (request.action not in OF_A_STUDY):
        raise InputError(f"a request to {request.action} names a study exactly if it is about a stored one")
    if (request.document is None) != (request.action != "submit"):
        raise InputError("a request holds a signed study exactly if it submits one")
    return request

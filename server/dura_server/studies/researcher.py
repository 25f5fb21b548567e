"""The researcher's keys and signature. With the signature, the researcher takes responsibility for the study."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_common.consortium.cards import CARD_TYPE, ResearcherCard, encode_identity, hand_over
from dura_common.consortium.envelope import canonical_json, digest, payload_of, sign
from dura_common.consortium.identity import make_request
from dura_common.consortium.keyfile import private_pem
from dura_common.consortium.roster import read_claimed_roster
from dura_common.errors import InputError, StateError, TrustError
from dura_common.runtime.files import SHARED_FILE, private_folder, write_atomic
from dura_common.runtime.private_keys import read_private
from dura_common.study import STUDY_TYPE, Study, StudyDocument


@dataclass(frozen=True, slots=True)
class ResearcherHome:
    """The researcher's folder."""

    path: Path

    @property
    def key(self) -> Path:
        """The private signing key (0600)."""
        return self.path / "identity.pem"

    @property
    def tls(self) -> Path:
        """The private key of the desk's TLS connection (0600)."""
        return self.path / "tls.pem"

    @property
    def certificate(self) -> Path:
        """The certificate of the TLS key, from the authority's answer."""
        return self.path / "certificate.pem"

    @property
    def roster(self) -> Path:
        """The roster that this researcher follows, with its countersignatures."""
        return self.path / "roster.json"

    def identity(self) -> Ed25519PrivateKey:
        """Read the signing key; a :class:`StateError` if there is none."""
        if not self.key.exists():
            raise StateError("this researcher has no key", hint="Create a key with `dura study identity`.")
        key = read_private(self.key, what="the researcher's key")
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError("the researcher's key must be an Ed25519 key")
        return key

    def tls_key(self) -> ec.EllipticCurvePrivateKey:
        """Read the TLS key; a :class:`StateError` if there is none."""
        if not self.tls.exists():
            raise StateError(
                "this researcher has no key for the way to the coordinator",
                hint="`dura study identity` makes one and a new card; the authority admits the card.",
            )
        key = read_private(self.tls, what="the researcher's TLS key")
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InputError("the researcher's TLS key must be an elliptic-curve key")
        return key


def create_identity(home: ResearcherHome, name: str, now: datetime) -> tuple[ResearcherCard, Path]:
    """Create a researcher's keys and card.

    In a folder of an earlier version of dura, the signing key stays and vouches for the card with the new TLS key.

    Raises:
        StateError: there are already keys; they stay unchanged.
    """
    if home.key.exists() and home.tls.exists():
        raise StateError(f"there is already a key at {home.key}", hint="Choose another folder with --researcher.")
    private_folder(home.path)
    tls = ec.generate_private_key(ec.SECP256R1())
    known = home.key.exists()
    key = home.identity() if known else Ed25519PrivateKey.generate()
    card = ResearcherCard(
        name=name,
        identity=encode_identity(key.public_key()),
        request=make_request(tls, name).decode(),
        created=now,
    )
    if known:
        card = card.model_copy(update={"handover": hand_over(key, card.fingerprint())})
    else:
        write_atomic(home.key, private_pem(key), replace=False)
    path = home.path / f"{name}.card.json"
    write_atomic(path, sign(canonical_json(card), CARD_TYPE, key).encode(), mode=SHARED_FILE)
    write_atomic(home.tls, private_pem(tls), replace=False)  # last: after a crash the same command completes the card
    return card, path


def sign_study(home: ResearcherHome, study: Study, roster_envelope: str) -> tuple[str, str]:
    """Bind a study to a roster and sign it; returns (envelope, digest).

    Raises:
        StateError: the researcher has no key.
        TrustError: the roster does not list the researcher or a site of the study.
    """
    key = home.identity()
    payload = payload_of(roster_envelope)
    roster = read_claimed_roster(roster_envelope)
    if encode_identity(key.public_key()) not in {item.identity for item in roster.researchers}:
        raise TrustError(
            "the roster does not list this researcher, so no site would accept the study",
            hint="Have the authority admit the researcher's card.",
        )
    unknown = sorted(set(study.sites) - {site.name for site in roster.sites})
    if unknown:
        raise InputError(f"the roster does not list these sites of the study: {', '.join(unknown)}")
    document = canonical_json(StudyDocument(study=study, roster=digest(payload)))
    return sign(document, STUDY_TYPE, key), digest(document)

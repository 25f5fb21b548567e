"""The roster: the signed list of sites, researchers and addresses, and the small files of enrolment.

The coordinator signs rosters with the consortium key, and a coordinator may be malicious. So a site pins the
roster that it joined with, follows a later one only together with an approved study that names it, and never
follows one that changes the keys of a site it knows unless a person there has accepted exactly that change.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError, model_validator

from dura_common.consortium.envelope import payload_of, verify
from dura_common.consortium.identity import CLOCK_SKEW, check_node_public, fingerprint, identity_from_raw
from dura_common.errors import InputError, TrustError
from dura_common.study import Frozen, SiteName, Word, explain_validation

CARD_TYPE = "application/vnd.dura.card+json"
ADMISSION_TYPE = "application/vnd.dura.admission+json"
ROSTER_TYPE = "application/vnd.dura.roster+json"


class Expired(TrustError):
    """A signed document was good and its time is over."""


Identity = Annotated[str, Field(min_length=44, max_length=44)]
"""32 raw bytes of an Ed25519 public key, base64."""
Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]{1,255}:[0-9]{1,5}$")]
Pem = Annotated[str, Field(max_length=16_384)]
NodeKey = Annotated[str, Field(max_length=1024)]


def encode_identity(key: Ed25519PublicKey) -> str:
    """Return a public key as rosters and cards carry it."""
    return base64.b64encode(key.public_bytes_raw()).decode()


def decode_identity(text: str) -> Ed25519PublicKey:
    """Read a public key from a roster or card.

    Raises:
        InputError: not base64 of a key.
    """
    try:
        return identity_from_raw(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise InputError("an identity key is not base64") from error


class SiteCard(Frozen):
    """What a site hands over: public keys and a signing request, signed by the site itself."""

    kind: Literal["site"] = "site"
    name: SiteName
    identity: Identity
    node_key: NodeKey
    request: Pem
    created: AwareDatetime

    def fingerprint(self) -> str:
        """Return what the site's people read out by telephone: it covers every key of the card."""
        parts = (self.name, self.identity, self.node_key, self.request)
        return fingerprint(*(part.encode() for part in parts))


class ResearcherCard(Frozen):
    """What a researcher hands over."""

    kind: Literal["researcher"] = "researcher"
    name: SiteName
    identity: Identity
    created: AwareDatetime

    def fingerprint(self) -> str:
        """Return what the researcher reads out by telephone."""
        return fingerprint(self.name.encode(), self.identity.encode())


class RosterSite(Frozen):
    """One site as everybody knows it."""

    name: SiteName
    identity: Identity
    node_key: NodeKey

    def identity_key(self) -> Ed25519PublicKey:
        """Return the site's identity key."""
        return decode_identity(self.identity)

    @model_validator(mode="after")
    def _keys_are_keys(self) -> Self:
        try:
            self.identity_key()
            check_node_public(self.node_key)
        except InputError as error:
            raise ValueError(error.message) from error
        return self


class RosterResearcher(Frozen):
    """Somebody who may sign studies."""

    name: SiteName
    identity: Identity

    def public_key(self) -> Ed25519PublicKey:
        """Return the researcher's key."""
        return decode_identity(self.identity)


class Roster(Frozen):
    """Who takes part in a consortium."""

    format: Literal[1] = 1
    consortium: Word
    serial: Annotated[int, Field(ge=0)]
    issued: AwareDatetime
    expires: AwareDatetime
    fleet: Address
    """Where the sites' nodes connect to, host:port."""
    aggregation: Address | None = None
    """Where the sites' secure sums go, host:port; None on rosters from before there was an aggregation plane."""
    sites: Annotated[tuple[RosterSite, ...], Field(max_length=500)] = ()
    researchers: Annotated[tuple[RosterResearcher, ...], Field(max_length=500)] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("site names", [site.name for site in self.sites]),
            ("site identities", [site.identity for site in self.sites]),
            ("node keys", [site.node_key for site in self.sites]),
            ("researcher names", [researcher.name for researcher in self.researchers]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must be distinct")
        return self

    def site(self, name: str) -> RosterSite | None:
        """Return one site, or None."""
        return next((site for site in self.sites if site.name == name), None)


class Admission(Frozen):
    """What the coordinator hands back to a site, signed by the consortium key that it carries."""

    name: SiteName
    consortium_key: Identity
    authority: Pem
    certificate: Pem
    roster: str
    """Envelope of the roster."""
    issued: AwareDatetime

    def fingerprint(self) -> str:
        """Return what the coordinator's people read out by telephone."""
        return consortium_fingerprint(self.consortium_key, self.authority)


def consortium_fingerprint(consortium_key: str, authority_pem: str) -> str:
    """Return the fingerprint of a consortium: its signing key and its certificate authority."""
    return fingerprint(consortium_key.encode(), authority_pem.encode())


Card = SiteCard | ResearcherCard
_CARD: TypeAdapter[Card] = TypeAdapter(Annotated[Card, Field(discriminator="kind")])
M = TypeVar("M", Admission, Roster)


def parse_payload(model: type[M], payload: bytes, *, what: str) -> M:
    """Validate the payload of an envelope.

    Raises:
        InputError: not the expected form.
    """
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise explain_validation(error, what=what) from error


def read_card(text: str | bytes) -> Card:
    """Read a card and check that it is signed by the very identity it carries.

    Raises:
        InputError: not a card.
        TrustError: the signature does not hold.
    """
    try:
        card = _CARD.validate_json(payload_of(text))
    except ValidationError as error:
        raise explain_validation(error, what="the card") from error
    verify(text, CARD_TYPE, [decode_identity(card.identity)])
    return card


def read_admission(text: str | bytes) -> Admission:
    """Read an admission and check that it is signed by the consortium key that it carries.

    The caller must have a person compare the fingerprint: until then the key is only a claim.

    Raises:
        InputError: not an admission.
        TrustError: the signature does not hold.
    """
    admission = parse_payload(Admission, payload_of(text), what="the admission")
    verify(text, ADMISSION_TYPE, [decode_identity(admission.consortium_key)])
    return admission


def read_any_roster(text: str | bytes, consortium_key: Ed25519PublicKey) -> Roster:
    """Read a roster signed by the consortium, expired or not: good enough to compare with, not to act on.

    Raises:
        InputError: not a roster.
        TrustError: not signed by this consortium.
    """
    return parse_payload(Roster, verify(text, ROSTER_TYPE, [consortium_key]), what="the roster")


def read_roster(text: str | bytes, consortium_key: Ed25519PublicKey, now: datetime) -> Roster:
    """Read a roster signed by the consortium and valid now.

    Raises:
        InputError: not a roster.
        TrustError: not signed by this consortium, or from the future.
        Expired: its time is over.
    """
    roster = read_any_roster(text, consortium_key)
    if now > roster.expires:
        hint = "Get a new admission: the coordinator admits the site's card again, the site joins again."
        raise Expired("the roster has expired", hint=hint)
    if now + CLOCK_SKEW < roster.issued:
        raise TrustError("the roster was issued in the future", hint="Check this machine's clock.")
    return roster


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of sites that differ between two rosters."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    altered: tuple[str, ...]
    """On both, with other keys."""


def changes(old: Roster, new: Roster) -> Changes:
    """Return what a person should look at before following a new roster."""
    before, after = ({site.name: site for site in roster.sites} for roster in (old, new))
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        altered=tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
    )


def check_successor(old: Roster, new: Roster, *, accepted: Collection[str] = ()) -> None:
    """Refuse a roster that goes back, or that changes a site which is known already.

    Args:
        old: the roster known so far.
        new: the roster that would take its place.
        accepted: sites whose new keys a person has compared with the people of that site.

    Raises:
        TrustError: another consortium, an older serial, or other keys for a known site.
    """
    if new.consortium != old.consortium:
        raise TrustError("the roster is of another consortium")
    if new.serial < old.serial:
        raise TrustError(f"the roster is older (serial {new.serial}) than the one known here ({old.serial})")
    if new.serial == old.serial and new != old:
        raise TrustError("two different rosters carry the same serial: the coordinator is not consistent")
    altered = [name for name in changes(old, new).altered if name not in accepted]
    if altered:
        raise TrustError(
            f"the roster changes the keys of {', '.join(altered)}",
            hint="Ask that site by telephone. If it has new keys: `dura site join --accept-changed NAME`.",
        )

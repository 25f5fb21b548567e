"""The roster: the signed list of a consortium's sites, researchers, addresses, and former members.

The authority signs rosters with the consortium's root key, but an authority may lie. Only the members'
countersignatures make a roster trustworthy: :mod:`dura_common.consortium.chain` has the rules by which a site follows a
roster.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, Field, ValidationError, model_validator

from dura_common.consortium.cards import (
    Identity,
    Kind,
    NodeKey,
    Pem,
    Signature,
    TlsKey,
    decode_identity,
    member_fingerprint,
)
from dura_common.consortium.envelope import digest, payload_of, verify
from dura_common.consortium.identity import (
    CLOCK_SKEW,
    check_node_public,
    check_tls_public,
    fingerprint,
    load_certificate,
)
from dura_common.errors import InputError, TrustError
from dura_common.study import Digest, Frozen, SiteName, Word, explain_validation

ADMISSION_TYPE = "application/vnd.dura.admission+json"
ROSTER_TYPE = "application/vnd.dura.roster+json"
ROSTER_DAYS = 90
"""The longest life of a roster. If an authority withholds newer rosters, sites notice it when the old one expires."""
SMALLEST_QUORUM = 2
"""No site alone decides who is a member."""
MAX_MEMBERS = 500
MAX_GONE = 2000


class Expired(TrustError):
    """A signed document was valid, but has expired."""


Address = Annotated[str, Field(pattern=r"^[A-Za-z0-9.:\[\]-]{1,255}:[0-9]{1,5}$")]


class _Member(Frozen):
    """The roster's entry of a member."""

    name: SiteName
    identity: Identity
    since: AwareDatetime
    """The date of the roster that first listed these keys."""
    handover: Signature = ""
    """The signature of the member's former identity on the fingerprint of these keys."""
    lost: bool = False
    """The former keys are lost: only the quorum has confirmed these keys."""

    def identity_key(self) -> Ed25519PublicKey:
        """Return the member's identity key."""
        return decode_identity(self.identity)


class RosterSite(_Member):
    """The roster's entry of a site."""

    tls_key: TlsKey
    node_key: NodeKey

    @property
    def kind(self) -> Kind:
        """What this member is."""
        return "site"

    def fingerprint(self) -> str:
        """Return the fingerprint that the site's people read out by telephone."""
        return member_fingerprint(
            "site", self.name, identity=self.identity, tls_key=self.tls_key, node_key=self.node_key
        )

    @model_validator(mode="after")
    def _keys_are_keys(self) -> Self:
        try:
            self.identity_key()
            check_node_public(self.node_key)
            check_tls_public(self.tls_key)
        except InputError as error:
            raise ValueError(error.message) from error
        return self


class RosterResearcher(_Member):
    """A person who may sign studies."""

    tls_key: TlsKey = ""
    """The key of the researcher's desk; without one, the operator submits what this researcher signs."""

    @property
    def kind(self) -> Kind:
        """What this member is."""
        return "researcher"

    def fingerprint(self) -> str:
        """Return the fingerprint that the researcher reads out by telephone."""
        return member_fingerprint("researcher", self.name, identity=self.identity, tls_key=self.tls_key)

    def public_key(self) -> Ed25519PublicKey:
        """Return the researcher's key."""
        return self.identity_key()

    @model_validator(mode="after")
    def _keys_are_keys(self) -> Self:
        try:
            self.identity_key()
            if self.tls_key:
                check_tls_public(self.tls_key)
        except InputError as error:
            raise ValueError(error.message) from error
        return self


Member = RosterSite | RosterResearcher


class Tombstone(Frozen):
    """Keys that are no longer valid: their owner has left, or has other keys now."""

    kind: Kind
    name: SiteName
    identity: Identity
    fingerprint: Annotated[str, Field(max_length=64)]
    serial: Annotated[int, Field(ge=1)]
    """The serial of the first roster without these keys."""
    why: Annotated[str, Field(max_length=200)]


class Roster(Frozen):
    """The members of a consortium."""

    format: Literal[2] = 2
    consortium: Word
    serial: Annotated[int, Field(ge=1)]
    previous: Digest | None
    """SHA-256 of the previous roster; None on the first roster."""
    issued: AwareDatetime
    expires: AwareDatetime
    root: Identity
    """The authority's key, which signs this roster and the next one."""
    fleet: Address
    """The address to which the sites' nodes connect, as host:port."""
    aggregation: Address
    """The address to which sites send secure sums, as host:port."""
    authority: Pem
    """Certificate authority of the service, limited to its own names."""
    clients: Pem
    """Certificate authority of the client certificates of sites and researchers."""
    quorum: Annotated[int, Field(ge=SMALLEST_QUORUM, le=MAX_MEMBERS)] = SMALLEST_QUORUM
    """The smallest number of countersignatures for a change, if more than half of the sites would be fewer."""
    sites: Annotated[tuple[RosterSite, ...], Field(max_length=MAX_MEMBERS)] = ()
    researchers: Annotated[tuple[RosterResearcher, ...], Field(max_length=MAX_MEMBERS)] = ()
    gone: Annotated[tuple[Tombstone, ...], Field(max_length=MAX_GONE)] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.previous is None) != (self.serial == 1):
            raise ValueError("the first roster, and only the first, has no previous roster")
        if self.expires - self.issued > timedelta(days=ROSTER_DAYS):
            raise ValueError(f"a roster is valid for at most {ROSTER_DAYS} days")
        if self.root in {member.identity for member in self.members}:
            raise ValueError("the root key must not be a member's key: it signs no studies and takes part in no sums")
        try:
            decode_identity(self.root)
            load_certificate(self.authority.encode())
            load_certificate(self.clients.encode())
        except InputError as error:
            raise ValueError(error.message) from error
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for what, values in (
            ("names", [member.name for member in self.members]),
            ("identities", [member.identity for member in self.members]),
            ("TLS keys", [member.tls_key for member in self.members if member.tls_key]),
            ("node keys", [" ".join(site.node_key.split()[:2]) for site in self.sites]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{what} must be distinct")
        return self

    @property
    def members(self) -> tuple[Member, ...]:
        """Sites and researchers together."""
        return (*self.sites, *self.researchers)

    @property
    def needed(self) -> int:
        """Countersignatures that the next roster needs from this roster's sites: more than half, at least two."""
        return max(len(self.sites) // 2 + 1, self.quorum)

    @property
    def founded(self) -> bool:
        """Whether the roster lists enough sites to countersign a change."""
        return len(self.sites) >= SMALLEST_QUORUM

    def site(self, name: str) -> RosterSite | None:
        """Return one site, or None."""
        return next((site for site in self.sites if site.name == name), None)

    def member(self, name: str) -> Member | None:
        """Return one member, or None."""
        return next((member for member in self.members if member.name == name), None)

    def root_key(self) -> Ed25519PublicKey:
        """Return the authority's key."""
        return decode_identity(self.root)

    def same_members(self, other: Roster, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names whose keys differ on the other roster, or that it does not list."""
        return tuple(sorted(name for name in names if _mark(self.member(name)) != _mark(other.member(name))))


def _mark(member: Member | None) -> str | None:
    return None if member is None else member.fingerprint()


class Admission(Frozen):
    """The file that the authority sends to an admitted member, signed by the root key of the roster in it."""

    name: SiteName
    certificate: Pem
    roster: str
    """Envelope of the roster."""
    issued: AwareDatetime

    def fingerprint(self) -> str:
        """Return the fingerprint that people read out by telephone: :func:`roster_fingerprint` of the roster."""
        return roster_fingerprint(self.roster)


def roster_fingerprint(envelope: str | bytes) -> str:
    """Return the fingerprint of a roster: it covers the root key, the addresses and every member's keys."""
    return fingerprint(b"dura roster", digest(payload_of(envelope)).encode())


def roster_digest(envelope: str | bytes) -> str:
    """Return the SHA-256 by which studies and later rosters name a roster."""
    return digest(payload_of(envelope))


M = TypeVar("M", Admission, Roster)


def parse_payload(model: type[M], payload: bytes, *, what: str) -> M:
    """Validate the payload of an envelope.

    Raises:
        InputError: the payload does not have the expected form.
    """
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        if b'"format":1,' in payload[:1200] and b'"fleet"' in payload:
            raise InputError(
                f"{what} comes from an earlier version of dura, in which the coordinator alone decided who is a member",
                hint="Found the consortium again: see docs/how-to/two-hosts.md. Every hospital keeps its folder, with "
                "ledger, approvals and recordings, and joins the new roster with `dura site join`.",
            ) from error
        raise explain_validation(error, what=what) from error


def read_admission(text: str | bytes) -> tuple[Admission, Roster]:
    """Read an admission and its roster; both must be signed by the root key that the roster names.

    The caller must let a person compare the fingerprint. Until then, the key is only a claim.

    Raises:
        InputError: the content is not an admission.
        TrustError: a signature is not valid.
    """
    admission = parse_payload(Admission, payload_of(text), what="the admission")
    roster = read_claimed_roster(admission.roster)
    verify(text, ADMISSION_TYPE, [roster.root_key()])
    return admission, roster


def read_claimed_roster(text: str | bytes) -> Roster:
    """Read a roster that is signed by the root key that it names. Until others confirm it, it is only a claim.

    Raises:
        InputError: the text is not a roster.
        TrustError: the signature is not valid.
    """
    roster = parse_payload(Roster, payload_of(text), what="the roster")
    verify(text, ROSTER_TYPE, [roster.root_key()])
    return roster


def check_dates(roster: Roster, now: datetime) -> None:
    """Refuse a roster that is not valid now.

    Raises:
        TrustError: the roster is dated in the future.
        Expired: the roster has expired.
    """
    if now > roster.expires:
        raise Expired(
            f"the roster has expired on {roster.expires:%Y-%m-%d}",
            hint="The authority issues a new one (`dura authority issue`), and a quorum of the sites countersigns it.",
        )
    if now + CLOCK_SKEW < roster.issued:
        raise TrustError("the roster was issued in the future", hint="Check this machine's clock.")

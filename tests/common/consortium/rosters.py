"""Rosters in memory: invented members, an authority that signs whatever a test wants, sites that countersign."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_common.consortium.cards import encode_identity, hand_over
from dura_common.consortium.chain import COUNTERSIGNATURE_TYPE, Countersignature, Link, tombstones
from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.identity import certificate_pem, make_authority, node_public_text, tls_public_text
from dura_common.consortium.roster import ROSTER_TYPE, Roster, RosterResearcher, RosterSite, roster_digest

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)


@cache
def authority_pem() -> str:
    """Return a certificate authority's certificate; it takes no part in what these tests are about."""
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate_pem(make_authority(key, "brains", NOW)).decode()


@dataclass
class Person:
    """A member with one set of keys."""

    name: str
    site: bool = True
    identity: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    tls: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    node: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))

    def entry(self, since: datetime, *, before: Person | None = None, lost: bool = False) -> Any:
        """Return this member's entry; ``before`` signs that these keys take the place of its own."""
        values: dict[str, Any] = {
            "name": self.name,
            "identity": encode_identity(self.identity.public_key()),
            "since": since,
            "lost": lost,
        }
        if not self.site:
            plain: Any = RosterResearcher(**values)
        else:
            node, tls = node_public_text(self.node), tls_public_text(self.tls.public_key())
            plain = RosterSite(**values, tls_key=tls, node_key=node)
        if before is None:
            return plain
        return plain.model_copy(update={"handover": hand_over(before.identity, plain.fingerprint())})

    def countersign(self, roster: Roster, envelope: str, lost: Iterable[str] = ()) -> str:
        """Sign a roster as this member."""
        word = Countersignature(
            consortium=roster.consortium,
            serial=roster.serial,
            roster=roster_digest(envelope),
            site=self.name,
            lost=tuple(sorted(lost)),
        )
        return sign(canonical_json(word), COUNTERSIGNATURE_TYPE, self.identity)


def first(root: Ed25519PrivateKey, people: Iterable[Person], **changes: Any) -> Roster:
    """Return a first roster."""
    entries = [person.entry(NOW) for person in people]
    values: dict[str, Any] = {
        "consortium": "brains",
        "serial": 1,
        "previous": None,
        "issued": NOW,
        "expires": NOW + timedelta(days=90),
        "root": encode_identity(root.public_key()),
        "fleet": "localhost:8443",
        "aggregation": "localhost:8444",
        "authority": authority_pem(),
        "clients": authority_pem(),
        "sites": tuple(one for one in entries if isinstance(one, RosterSite)),
        "researchers": tuple(one for one in entries if isinstance(one, RosterResearcher)),
    }
    return Roster(**{**values, **changes})


def after(old: Roster, envelope: str, now: datetime, entries: Iterable[Any] | None = None, **changes: Any) -> Roster:
    """Return a roster that follows another one, with truthful tombstones unless ``changes`` say otherwise."""
    entries = old.members if entries is None else tuple(entries)
    values: dict[str, Any] = {
        **old.model_dump(),
        "serial": old.serial + 1,
        "previous": roster_digest(envelope),
        "issued": now,
        "expires": now + timedelta(days=90),
        "sites": tuple(one for one in entries if isinstance(one, RosterSite)),
        "researchers": tuple(one for one in entries if isinstance(one, RosterResearcher)),
    }
    new = Roster.model_validate({**values, **{key: value for key, value in changes.items() if key != "gone"}})
    gone = changes.get("gone", (*old.gone, *tombstones(old, new, "test")))
    return new.model_copy(update={"gone": tuple(gone)})


def signed(roster: Roster, *keys: Ed25519PrivateKey) -> str:
    """Sign a roster as an authority would."""
    return sign(canonical_json(roster), ROSTER_TYPE, *keys)


def linked(roster: Roster, envelope: str, people: Iterable[Person], lost: Iterable[str] = ()) -> Link:
    """Return a roster with the countersignatures of these people."""
    words = tuple(person.countersign(roster, envelope, tuple(lost)) for person in people)
    return Link(roster=envelope, countersignatures=words)

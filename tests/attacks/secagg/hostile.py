"""A hostile coordinator, alone or with colluding sites, against the real site side of secure sums.

It holds every frame, may invent, change, repeat, swap and withhold them, and it knows the identities of sites that
collude with it. docs/reference/attacks.md lists the attacks; each is one test of this folder, by the same name. The
tests take no fixture, so that tests/attacks/secagg/mutants can run them against sites from which one check was removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.support.secagg.sites import Sites, collect, vectors

from dura_common.secagg import (
    Abort,
    Coordinator,
    Heard,
    Kind,
    Reason,
    SessionParameters,
    Site,
    keys,
    open_coordinator,
    wire,
)
from dura_common.secagg.round_site import KEY_USE as ROUND_KEY_USE
from dura_common.secagg.step_site import KEY_USE as STEP_KEY_USE
from dura_common.secagg.wire import Type

VICTIM, ACCOMPLICE = "site-001", "site-002"


STAGES = {Kind.STEP: (Type.KEYS, Type.OPENED), Kind.ROUND: tuple(kind for kind in Type if kind in range(2, 11, 2))}
"""Types of the frames to sites, in their order."""


def until(
    params: SessionParameters, wanted: Type, heard: Heard | None = None
) -> tuple[Sites, Coordinator, dict[str, bytes]]:
    """Run honestly until the coordinator has frames of a type to send; they are not yet sent."""
    sites, coordinator = Sites(params, vectors(params), heard), open_coordinator(params)
    frames = dict(collect(coordinator, sites.advertise()).outgoing)
    while frames[VICTIM][0] != wanted:
        frames = dict(collect(coordinator, sites.tell(frames)).outgoing)
    return sites, coordinator, frames


def refuses(site: Site, frame: bytes, reason: Reason) -> None:
    """The site ends the session for that reason, and from then on gives nothing."""
    with pytest.raises(Abort, check=lambda abort: abort.reason is reason) as caught:
        site.receive(frame)
    assert caught.value.reason is reason
    gives_nothing(site)


def gives_nothing(site: Site) -> None:
    """Nothing comes out of an ended session."""
    assert site.ended
    zeros = np.zeros(site.params.length, dtype=np.int64)
    for call in (site.advertise, lambda: site.mask(zeros)):
        with pytest.raises(Abort, match="the session is over"):
            call()


def item_size(params: SessionParameters) -> int:
    """Return the size of one site's item in the list of keys."""
    return (1 if params.kind is Kind.STEP else 2) * wire.KEY + params.note_size + wire.SIGNATURE


def changed_keys(params: SessionParameters, frame: bytes, change: Callable[[dict[int, bytes]], None]) -> bytes:
    """Return the list of keys with a change."""
    items = wire.decode_items(memoryview(frame)[wire.HEADER :], item_size(params), len(params.members))
    change(items)
    return wire.encode(Type.KEYS, params.session_id, 0, wire.encode_items(items))


def signed_keys(
    params: SessionParameters,
    index: int,
    identity: Ed25519PrivateKey,
    publics: bytes = b"",
    note: bytes | None = None,
) -> bytes:
    """Return an item of the list of keys, fresh ones by default."""
    use = STEP_KEY_USE if params.kind is Kind.STEP else ROUND_KEY_USE
    count = 1 if params.kind is Kind.STEP else 2
    fresh = publics or b"".join(keys.public_bytes(X25519PrivateKey.generate()) for _ in range(count))
    said = fresh + (bytes(params.note_size) if note is None else note)
    return said + keys.sign(identity, use, params, index, said)


def holds_no_secret(site: Site) -> None:
    """No attribute of the site holds a key, a seed or a share."""
    for name, value in vars(site).items():
        if name not in {"params", "_publics", "_key_list", "_chain", "_note"}:
            assert not isinstance(value, X25519PrivateKey | Ed25519PrivateKey | bytes), name
            assert not (isinstance(value, dict) and value), name


def survivors(params: SessionParameters, indices: Iterable[int]) -> bytes:
    """Return a frame that names survivors."""
    return wire.encode(Type.SURVIVORS, params.session_id, 0, wire.encode_set(indices))


def confirms(params: SessionParameters, items: Mapping[int, bytes]) -> bytes:
    """Return a frame with confirmations."""
    return wire.encode(Type.CONFIRMS, params.session_id, 0, wire.encode_items(items))


def key_list(frame: bytes) -> bytes:
    """Return what sites keep of the list of keys."""
    return hashlib.sha256(frame[wire.HEADER :]).digest()


def with_views(
    params: SessionParameters, views: Sequence[frozenset[int]]
) -> tuple[bytes, dict[int, Site], dict[int, bytes]]:
    """Name survivors to each site by its own view; return list of keys, sites that confirmed, and confirmations."""
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    first = dict(collect(coordinator, sites.advertise()).outgoing)
    sites.tell(collect(coordinator, sites.tell(first)).outgoing)
    confirmed, signed = {}, {}
    for index, view in enumerate(views):
        site = sites.sites[params.names[index]]
        try:
            reply = site.receive(survivors(params, view)).reply or b""
        except Abort:
            continue
        confirmed[index], signed[index] = site, reply[wire.HEADER :]
    return key_list(first[VICTIM]), confirmed, signed


def after_confirming(params: SessionParameters, named: frozenset[int]) -> tuple[Site, bytes, dict[int, bytes]]:
    """Return the victim after it confirmed survivors, the digest of the list of keys, and all confirmations."""
    told, sites, signed = with_views(params, [named] * len(named))
    return sites[1], told, signed

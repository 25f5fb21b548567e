"""A hostile coordinator against the real site side of secure sums: shares."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.attacks.secagg.hostile import (
    ACCOMPLICE,
    VICTIM,
    gives_nothing,
    refuses,
    until,
)
from tests.support.secagg.sites import Sites, collect, session, vectors

from dura_common.secagg import (
    Abort,
    Kind,
    Reason,
    open_coordinator,
    wire,
)
from dura_common.secagg.wire import Type


def test_shares_altered_or_sealed_for_somebody_else() -> None:
    """Another site's shares, a third site's copy, a flipped bit: the seal names session, keys, sender, receiver."""
    params = session(4, Kind.ROUND)
    changes: tuple[Callable[[dict[int, bytes], dict[int, bytes]], None], ...] = (
        lambda items, _other: items.update({0: items[2]}),
        lambda items, other: items.update({0: other[0]}),
        lambda items, _other: items.update({0: bytes([items[0][0] ^ 1]) + items[0][1:]}),
        lambda items, _other: items.update({0: bytes(wire.SEALED)}),
    )
    for change in changes:
        sites, _, frames = until(params, Type.SEALED_SHARES)
        own, other = (
            wire.decode_items(memoryview(frames[name])[wire.HEADER :], wire.SEALED, 4) for name in (VICTIM, ACCOMPLICE)
        )
        change(own, other)
        frame = wire.encode(Type.SEALED_SHARES, params.session_id, 0, wire.encode_items(own))
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_sites_that_were_told_different_keys() -> None:
    """Of two lists of keys, each valid by itself, each site gets one: what is sealed under one opens under no other."""
    params = session(5, Kind.ROUND)
    sites = Sites(params, vectors(params))
    items = {params.index(name): frame[wire.HEADER :] for name, frame in sites.advertise().items()}
    without = [wire.encode_items({index: item for index, item in items.items() if index != out}) for out in (3, 4)]
    told = {name: without[name == ACCOMPLICE] for name in params.names[:3]}
    answers = sites.tell({name: wire.encode(Type.KEYS, params.session_id, 0, body) for name, body in told.items()})
    sealed = {
        params.index(name): wire.decode_items(memoryview(frame)[wire.HEADER + wire.COMMITMENT :], wire.SEALED, 5)[1]
        for name, frame in answers.items()
        if name != VICTIM
    }
    sealed[4] = sealed[0]  # three others, so that the victim has enough and looks at what is in them
    frame = wire.encode(Type.SEALED_SHARES, params.session_id, 0, wire.encode_items(sealed))
    with pytest.raises(Abort, match="from site-002 were altered"):
        sites.sites[VICTIM].receive(frame)
    gives_nothing(sites.sites[VICTIM])


def test_shares_from_nowhere() -> None:
    """Shares of a site that gave no keys, or of the victim itself, and too few shares are refused."""
    params = session(5, Kind.ROUND)
    for change, reason in (
        (lambda items: {**items, 4: items[0]}, Reason.INCONSISTENT),
        (lambda items: {**items, 1: items[0]}, Reason.INCONSISTENT),
        (lambda items: {index: items[index] for index in (0, 2)}, Reason.TOO_FEW),
    ):
        sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
        adverts = sites.advertise()
        del adverts["site-004"]
        collect(coordinator, adverts)
        frames = collect(coordinator, sites.tell(coordinator.close().outgoing)).outgoing
        items = wire.decode_items(memoryview(frames[VICTIM])[wire.HEADER :], wire.SEALED, 5)
        frame = wire.encode(Type.SEALED_SHARES, params.session_id, 0, wire.encode_items(change(items)))
        refuses(sites.sites[VICTIM], frame, reason)

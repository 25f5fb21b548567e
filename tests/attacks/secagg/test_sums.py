"""A hostile coordinator against the real site side of secure sums: sums and vectors."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.attacks.secagg.hostile import (
    VICTIM,
    gives_nothing,
    refuses,
    signed_keys,
    until,
)
from tests.support.secagg.sites import POOL, collect, session, to_words

from dura_common.secagg import (
    Abort,
    FixedPoint,
    Kind,
    Reason,
    keys,
    largest_value,
    open_site,
    wire,
)
from dura_common.secagg.arithmetic.masks import add_masks
from dura_common.secagg.ring import from_words
from dura_common.secagg.step_site import KEY_USE as STEP_KEY_USE
from dura_common.secagg.wire import Type


def test_different_sums_told_in_a_step_session() -> None:
    """One site is told another sum of the step before: from then on its masks do not cancel, nothing opens."""
    params = session(3, Kind.STEP, steps=2)
    sites, coordinator, frames = until(params, Type.OPENED)
    body = to_words(np.arange(5), 32, 1).tobytes()
    lied = {**frames, VICTIM: wire.encode(Type.OPENED, params.session_id, 1, body)}
    answers = sites.tell(lied)  # the lie by itself cannot be seen by the site: it would be a sum
    with pytest.raises(Abort, match="did not cancel"):
        collect(coordinator, answers)
    total = sum(np.frombuffer(frame, dtype="<u4", offset=wire.HEADER) for frame in answers.values())
    true = to_words(sum(sites.vector(name, 2) for name in params.names), 32, 3)
    assert (np.asarray(total, dtype="<u4") == true).mean() < 0.5, "nothing of the sum opens"


def test_different_sums_told_before_a_round_session() -> None:
    """Sites that were told different sums open the next session over different digests, so no signature holds."""
    params = session(3, Kind.ROUND)
    told = {name: hashlib.sha256(b"sum" if name != VICTIM else b"another").hexdigest() for name in params.names}
    sides = {name: open_site(replace(params, round=2, context=told[name]), name, POOL[name]) for name in params.names}
    items = {params.index(name): side.advertise()[wire.HEADER :] for name, side in sides.items()}
    for side in sides.values():
        frame = wire.encode(Type.KEYS, side.params.session_id, 0, wire.encode_items(items))
        refuses(side, frame, Reason.NOT_AUTHENTIC)


def test_sums_that_are_damaged_or_of_another_length() -> None:
    """A sum whose check words do not hold, or that is shorter or longer, ends the session."""
    for kind in Kind:
        params = session(3, kind)
        for change in (
            lambda body: body[:-4],
            lambda body: body + bytes(4),
            lambda _body: b"",
            lambda body: body[:-1] + b"\1",
            lambda body: bytes([body[0] ^ 1]) + body[1:],
        ):
            sites, _, frames = until(params, Type.OPENED)
            body = change(frames[VICTIM][wire.HEADER :])
            right = len(body) == len(frames[VICTIM]) - wire.HEADER
            frame = wire.encode(Type.OPENED, params.session_id, 0 if kind is Kind.ROUND else 1, body)
            refuses(sites.sites[VICTIM], frame, Reason.INCONSISTENT if right else Reason.MALFORMED)


def test_vectors_that_do_not_fit() -> None:
    """A value that could wrap the sum, another length, another type or no number never leaves the site."""
    for kind in Kind:
        params = session(3, kind)
        ready = Type.KEYS if kind is Kind.STEP else Type.SEALED_SHARES
        for value in (largest_value(32, 3) + 1, -largest_value(32, 3) - 1):
            sites, _, frames = until(params, ready)
            site = sites.sites[VICTIM]
            site.receive(frames[VICTIM])
            with pytest.raises(Abort, match="does not fit a ring") as caught:
                site.mask(np.array([0, 0, value, 0, 0]))
            assert caught.value.reason is Reason.OUT_OF_RANGE
            gives_nothing(site)
        sites, _, frames = until(params, ready)
        site = sites.sites[VICTIM]
        site.receive(frames[VICTIM])
        for wrong in (np.zeros(4, dtype=np.int64), np.zeros((5, 1), dtype=np.int64), np.zeros(5)):
            with pytest.raises(ValueError, match="int64 of length 5"):
                site.mask(wrong)  # type: ignore[arg-type]  # on purpose
        assert not site.ended
    with pytest.raises(Abort, match="finite"):
        FixedPoint(1.0, 32, 3).encode(np.array([np.nan]))


def test_one_vector_alone_opens_nothing() -> None:
    """All masks but one taken off are as good as none: a vector without a single peer's mask looks no clearer."""
    params = session(4, Kind.STEP, 2000)
    site, accomplices = open_site(params, VICTIM, POOL[VICTIM]), [0, 2]
    honest = open_site(params, "site-003", POOL["site-003"])
    private = {index: X25519PrivateKey.generate() for index in accomplices}
    items = {
        index: signed_keys(params, index, POOL[params.names[index]], keys.public_bytes(private[index]))
        for index in accomplices
    }
    items[1], items[3] = (each.advertise()[wire.HEADER :] for each in (site, honest))
    frame = wire.encode(Type.KEYS, params.session_id, 0, wire.encode_items(items))
    site.receive(frame)
    masked = np.frombuffer(site.mask(np.zeros(2000, dtype=np.int64)), dtype="<u4", offset=wire.HEADER).copy()
    for index in accomplices:
        secret = keys.agree(private[index], items[1][: wire.KEY])
        pair = keys.pair_key(secret, params, STEP_KEY_USE, *sorted((1, index)))
        mask = keys.mask_key(pair, b"step", (1).to_bytes(4, "big"), hashlib.sha256(frame[wire.HEADER :]).digest())
        add_masks(masked, [mask] if index < 1 else [], [mask] if index > 1 else [])
    assert masked.any(), "the honest peer's mask is still on"
    assert abs(masked.astype(float).mean() / 2**31 - 1) < 0.1
    with pytest.raises(Abort, match="did not cancel"):
        from_words(masked)

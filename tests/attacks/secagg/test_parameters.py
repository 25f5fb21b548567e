"""A hostile coordinator against the real site side of secure sums: the parameters of a session."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.attacks.secagg.hostile import (
    ACCOMPLICE,
    VICTIM,
    refuses,
)
from tests.support.secagg.sites import POOL, session

from dura_common.secagg import (
    Kind,
    Member,
    Reason,
    SessionParameters,
    keys,
    open_site,
    wire,
)
from dura_common.secagg.round_site import MASK_USE, SEAL_USE, RoundSite
from dura_common.secagg.step_site import StepSite
from dura_common.secagg.wire import Type


def test_sites_that_were_told_different_studies() -> None:
    """Whatever the coordinator tells one site otherwise (study, roster, model, round, threshold, ...): no session.

    No frame carries a parameter. A lowered threshold, a revoked or older roster, another model for one site, an older
    round or attempt are other sessions, in which no signature of this one holds.
    """
    for kind in Kind:
        params = session(4, kind)
        changes: dict[str, object] = dict.fromkeys(("study", "roster", "state", "context"), "aa" * 32)
        changes |= {"purpose": "evaluate", "round": 2, "attempt": 2, "length": 6, "ring_bits": 64}
        changes |= {"minimum": 3, "colluders": 1, "first_step": 2}
        if kind is Kind.STEP:
            changes["steps"] = 2
        else:
            changes["threshold"] = 4
        stranger = Member("site-003", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
        changes["members"] = (*params.members[:3], stranger)
        for name, value in changes.items():
            told = replace(params, **{name: value})  # type: ignore[arg-type]  # by name
            misled = open_site(told, VICTIM, POOL[VICTIM])
            others = [open_site(params, site, POOL[site]) for site in params.names if site != VICTIM]
            adverts = {site.params.names[site.index]: site.advertise() for site in [misled, *others]}
            items = {params.index(site): frame[wire.HEADER :] for site, frame in adverts.items()}
            body = wire.encode_items(items)
            refuses(misled, wire.encode(Type.KEYS, params.session_id, 0, body), Reason.MALFORMED)
            again = open_site(told, VICTIM, POOL[VICTIM])
            items[1] = again.advertise()[wire.HEADER :]
            body = wire.encode_items(items)
            refuses(again, wire.encode(Type.KEYS, told.session_id, 0, body), Reason.NOT_AUTHENTIC)
            refuses(others[0], wire.encode(Type.KEYS, params.session_id, 0, body), Reason.NOT_AUTHENTIC)


def test_masks_bind_the_session() -> None:
    """The same keys in two sessions would give other masks and other seals: every derivation names the session."""
    params = session(3, Kind.ROUND)
    other = replace(params, state="aa" * 32)
    one, two = X25519PrivateKey.generate(), keys.public_bytes(X25519PrivateKey.generate())
    derived = {
        keys.pair_key(keys.agree(one, two), which, use, *order)
        for which in (params, other)
        for use in (MASK_USE, SEAL_USE)
        for order in ((0, 1), (1, 0), (0, 2))
    }
    assert len(derived) == 12


def test_unsafe_numbers_make_no_session() -> None:
    """No study can lower the threshold, the minimum or the number of honest sites below what the proof needs."""
    for changes in (
        {"threshold": 3},  # 2 t = n: two disjoint halves could both open
        {"threshold": 4, "colluders": 2},
        {"threshold": 7},
        {"minimum": 1},
        {"minimum": 7},
        {"colluders": 5, "threshold": 6},
        {"colluders": -1},
        {"steps": 2},
        {"ring_bits": 31},
        {"length": 0},
        {"round": 0},
        {"study": "short"},
        {"purpose": "Not a word"},
    ):
        with pytest.raises(ValueError, match=r".+"):
            session(6, Kind.ROUND, **changes)
    with pytest.raises(ValueError, match="all or nothing"):
        session(6, Kind.STEP, threshold=5)
    with pytest.raises(ValueError, match="2 to 500"):
        session(1, Kind.STEP)


def test_one_hospital_under_two_names() -> None:
    """A site that is listed twice, by name or by key, would count as two."""
    params = session(3, Kind.STEP)
    one, two, three = params.members
    for members in ((one, one, three), (one, replace(two, identity=one.identity), three), (two, one, three)):
        with pytest.raises(ValueError, match="distinct"):
            replace(params, members=members)


def test_strange_encodings_of_parameters() -> None:
    """Two encodings of one session, cut ones and huge counts are refused before anything is built from them."""
    params = session(3, Kind.ROUND)
    content = params.encode()
    huge = content.replace(b"\0\0\0\4\0\0\0\3", b"\0\0\0\4\0\0\xff\xff")
    for wrong, message in (
        (content + b"\0\0\0\0", "canonical"),
        (content[:-1], "cut short"),
        (content[:40], "cut short"),
        (b"", "cut short"),
        (content.replace(b"dura secure sum 4", b"dura secure sum 3"), "not the parameters"),
        (huge, "at most 500"),
    ):
        with pytest.raises(ValueError, match=message):
            SessionParameters.decode(wrong)
    padded = content.replace((1).to_bytes(8, "big"), (1).to_bytes(9, "big"), 1).replace(b"\0\0\0\10", b"\0\0\0\11", 1)
    with pytest.raises(ValueError, match=r"canonical|cut short"):
        SessionParameters.decode(padded)


def test_a_site_opens_only_its_own_kind_and_identity() -> None:
    """A session of the other kind, another identity key, or a session without this site cannot be opened."""
    for kind, side, wrong in ((Kind.STEP, StepSite, RoundSite), (Kind.ROUND, RoundSite, StepSite)):
        params = session(3, kind)
        with pytest.raises(ValueError, match="not one of"):
            wrong(params, VICTIM, POOL[VICTIM])
        with pytest.raises(ValueError, match="pins"):
            side(params, VICTIM, POOL[ACCOMPLICE])
        with pytest.raises(ValueError, match="tuple"):
            side(params, "site-050", POOL["site-050"])

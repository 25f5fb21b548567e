"""A hostile coordinator against the real site side of secure sums: the order of frames, and the end."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.attacks.secagg.hostile import (
    STAGES,
    VICTIM,
    changed_keys,
    gives_nothing,
    holds_no_secret,
    refuses,
    until,
)
from tests.support.secagg.sites import POOL, collect, session

from dura_common.secagg import (
    Abort,
    Kind,
    Reason,
    open_site,
    wire,
)
from dura_common.secagg.round_site import RoundSite
from dura_common.secagg.wire import Type


def test_frames_out_of_order() -> None:
    """At every stage every frame that has its place at another one, from the same session, ends it."""
    for kind in Kind:
        params = session(3, kind, steps=1)
        right = {wanted: until(params, wanted)[2][VICTIM] for wanted in STAGES[kind]}
        for stage, wanted in itertools.product(STAGES[kind], STAGES[kind]):
            if stage is not wanted:
                sites, _, _ = until(params, stage)
                refuses(sites.sites[VICTIM], right[wanted], Reason.OUT_OF_TURN)


def test_the_same_frame_twice() -> None:
    """A second list of keys, of shares, of survivors, of confirmations or a second sum ends the session."""
    for kind in Kind:
        for wanted in STAGES[kind]:
            sites, _, frames = until(session(3, kind, steps=2 if kind is Kind.STEP else 1), wanted)
            site = sites.sites[VICTIM]
            reaction = site.receive(frames[VICTIM])
            if reaction.ready:
                with pytest.raises(Abort, match="came while nothing was awaited") as caught:
                    site.receive(frames[VICTIM])
                assert caught.value.reason is Reason.OUT_OF_TURN
            else:
                with pytest.raises(Abort, match=r"expected|over"):
                    site.receive(frames[VICTIM])
            gives_nothing(site)


def test_a_second_vector_for_the_same_masks() -> None:
    """However the site is asked, two vectors never leave it under one mask; nor one before the keys."""
    for kind in Kind:
        params = session(3, kind, steps=2 if kind is Kind.STEP else 1)
        ready = Type.KEYS if kind is Kind.STEP else Type.SEALED_SHARES
        for site in (open_site(params, VICTIM, POOL[VICTIM]), until(params, ready)[0].sites[VICTIM]):
            with pytest.raises(Abort, match="a vector has its place once") as caught:
                site.mask(np.zeros(5, dtype=np.int64))  # before its time
            assert caught.value.reason is Reason.OUT_OF_TURN
            gives_nothing(site)
        sites, _, frames = until(params, ready)
        site = sites.sites[VICTIM]
        site.receive(frames[VICTIM])
        site.mask(np.zeros(5, dtype=np.int64))
        with pytest.raises(Abort, match="a vector has its place once") as caught:
            site.mask(np.ones(5, dtype=np.int64))
        assert caught.value.reason is Reason.OUT_OF_TURN
        gives_nothing(site)


def test_no_vector_after_the_survivors_are_named() -> None:
    """A site that was named a survivor has no second vector for a later stage."""
    sites, _, frames = until(session(3, Kind.ROUND), Type.SURVIVORS)
    site = sites.sites[VICTIM]
    site.receive(frames[VICTIM])
    with pytest.raises(Abort, match="a vector has its place once"):
        site.mask(np.ones(5, dtype=np.int64))
    gives_nothing(site)


def test_keys_are_advertised_once() -> None:
    """One session, one set of keys: a second advertisement ends it, before and after the keys came."""
    for kind in Kind:
        params = session(3, kind)
        site = open_site(params, VICTIM, POOL[VICTIM])
        site.advertise()
        with pytest.raises(Abort, match="advertised already") as caught:
            site.advertise()
        assert caught.value.reason is Reason.OUT_OF_TURN
        gives_nothing(site)
        ready = Type.KEYS if kind is Kind.STEP else Type.SEALED_SHARES
        sites, _, frames = until(params, ready)
        site = sites.sites[VICTIM]
        site.receive(frames[VICTIM])
        with pytest.raises(Abort, match="advertised already"):
            site.advertise()
        gives_nothing(site)


def test_frames_before_the_first() -> None:
    """A site that has not spoken reacts to nothing."""
    for kind in Kind:
        _, _, frames = until(session(3, kind), Type.KEYS)
        refuses(open_site(session(3, kind), VICTIM, POOL[VICTIM]), frames[VICTIM], Reason.OUT_OF_TURN)


def test_frames_of_an_older_session() -> None:
    """Every frame of an earlier study, round or attempt is refused at its own place in the new session."""
    for kind in Kind:
        params = session(3, kind)
        for change in ({"attempt": 2}, {"round": 2}, {"study": "bb" * 32}):
            new = replace(params, **change)  # type: ignore[arg-type]  # by name
            for wanted in STAGES[kind]:
                _, _, old = until(params, wanted)
                sites, _, _ = until(new, wanted)
                refuses(sites.sites[VICTIM], old[VICTIM], Reason.MALFORMED)


def test_older_content_under_the_new_session() -> None:
    """Relabelled with the new session's id, older keys, shares and confirmations hold no more than before."""
    params = session(3, Kind.ROUND)
    new = replace(params, attempt=2)
    for wanted in (Type.SEALED_SHARES, Type.CONFIRMS):
        _, _, old = until(params, wanted)
        sites, _, _ = until(new, wanted)
        frame = wire.encode(wanted, new.session_id, 0, old[VICTIM][wire.HEADER :])
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)
    for kind in Kind:
        params = session(3, kind)
        new = replace(params, attempt=2)
        older = open_site(params, "site-000", POOL["site-000"]).advertise()[wire.HEADER :]
        sites, _, frames = until(new, Type.KEYS)
        frame = changed_keys(new, frames[VICTIM], lambda items, older=older: items.update({0: older}))
        refuses(sites.sites[VICTIM], frame, Reason.NOT_AUTHENTIC)


def test_a_sum_of_another_step() -> None:
    """A step's sum has its own step's number; an older or later one ends the session."""
    params = session(3, Kind.STEP, steps=3)
    for step in (0, 2, 3, 2**32 - 1):
        sites, _, frames = until(params, Type.OPENED)
        frame = wire.encode(Type.OPENED, params.session_id, step, frames[VICTIM][wire.HEADER :])
        refuses(sites.sites[VICTIM], frame, Reason.OUT_OF_TURN)


def test_more_steps_than_the_study_has() -> None:
    """After the last step the session is over and its keys are gone."""
    params = session(3, Kind.STEP, steps=2)
    sites, coordinator, frames = until(params, Type.OPENED)
    frames = dict(collect(coordinator, sites.tell(frames)).outgoing)
    site = sites.sites[VICTIM]
    assert not site.receive(frames[VICTIM]).ready
    gives_nothing(site)


def test_the_coordinator_ends_the_session() -> None:
    """An abort from the coordinator ends the session with its reason; a malformed one too."""
    for kind in Kind:
        malformed = ((body, Reason.MALFORMED) for body in (b"", b"\xff", b"\7\7"))
        for body, reason in ((b"\7", Reason.LOST), *malformed):
            params = session(3, kind)
            sites, _, _ = until(params, Type.KEYS)
            refuses(sites.sites[VICTIM], wire.encode(Type.ABORT, params.session_id, 0, body), reason)


def test_nothing_continues_after_an_abort() -> None:
    """After any refusal the right frame does not help any more, the secrets are gone, and the error keeps none."""
    for kind in Kind:
        for wanted in STAGES[kind]:
            sites, _, frames = until(session(3, kind), wanted)
            site = sites.sites[VICTIM]
            with pytest.raises(Abort, match="too short or of unknown type") as caught:
                site.receive(b"garbage")
            with pytest.raises(Abort, match="the session is over"):
                site.receive(frames[VICTIM])
            gives_nothing(site)
            holds_no_secret(site)
            entry = caught.value.__traceback__
            while entry is not None:
                if entry.tb_frame.f_code.co_name in {"_part", "_react", "decode"}:
                    assert not entry.tb_frame.f_locals, "what the frames of an error held was not cleared"
                entry = entry.tb_next


def test_nothing_is_left_at_the_end() -> None:
    """After the last sum neither kind of site holds a key, a seed or a share, nor do earlier stages keep them."""
    for kind in Kind:
        sites, _, frames = until(session(3, kind), Type.OPENED)
        site = sites.sites[VICTIM]
        if kind is Kind.ROUND:
            holds_no_secret(site)  # all were given or dropped with the shares
        assert getattr(site, "_identity", None) is None
        site.receive(frames[VICTIM])
        holds_no_secret(site)
    sites, _, _ = until(session(3, Kind.ROUND), Type.SURVIVORS)
    site = sites.sites[VICTIM]
    assert isinstance(site, RoundSite)
    assert site._seed is None, "after the vector only the holders of shares can give the seed back"
    assert site._masking is None
    assert site._sealing is None
    with pytest.raises(TypeError, match="cannot be copied"):
        copy.copy(site)

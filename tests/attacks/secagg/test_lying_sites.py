"""Sites that lie to the coordinator of secure sums."""

from __future__ import annotations

import pytest
from tests.attacks.secagg.hostile import (
    VICTIM,
)
from tests.support.secagg.sites import Sites, collect, session, vectors

from dura_common.secagg import (
    Abort,
    Kind,
    Reason,
    open_coordinator,
    wire,
)


def test_garbage_shares_give_no_wrong_sum() -> None:
    """A site that releases a wrong share of a seed or of a masking key ends the session: no sum is made up."""
    params = session(4, Kind.ROUND, threshold=3)
    for place in (wire.HEADER + 10, -10):
        sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
        frames = dict(collect(coordinator, sites.advertise()).outgoing)
        answers = sites.tell(collect(coordinator, sites.tell(frames)).outgoing)
        del answers["site-003"]  # it drops out, so that both kinds of share are asked for
        collect(coordinator, answers)
        frames = dict(collect(coordinator, sites.tell(coordinator.close().outgoing)).outgoing)
        answers = sites.tell(frames)
        lied = bytearray(answers[VICTIM])
        lied[place] ^= 1
        with pytest.raises(Abort, match=r"the shares of site-\d+ (do not give|are no shares)") as caught:
            collect(coordinator, {**answers, VICTIM: bytes(lied)})
        assert caught.value.reason is Reason.NOT_AUTHENTIC
        assert coordinator.ended


def test_a_wrong_commitment_gives_no_wrong_sum() -> None:
    """A site that committed to another seed than it shared is found out when the seed is joined."""
    params = session(3, Kind.ROUND)
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    answers = sites.tell(collect(coordinator, sites.advertise()).outgoing)
    lied = bytearray(answers[VICTIM])
    lied[wire.HEADER] ^= 1
    answers = sites.tell(collect(coordinator, {**answers, VICTIM: bytes(lied)}).outgoing)
    for _ in range(2):
        answers = sites.tell(collect(coordinator, answers).outgoing)
    with pytest.raises(Abort, match="committed") as caught:
        collect(coordinator, answers)
    assert caught.value.reason is Reason.NOT_AUTHENTIC
    assert not any(sites.opened.values())


def test_sites_that_are_strangers_to_the_coordinator() -> None:
    """A frame of a name that is no member is refused and costs the session nothing."""
    for kind in Kind:
        params = session(3, kind)
        sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
        adverts = sites.advertise()
        with pytest.raises(Abort, match="a site that is no member") as caught:
            coordinator.receive("site-050", adverts[VICTIM])
        assert caught.value.reason is Reason.INCONSISTENT
        assert not coordinator.ended
        assert collect(coordinator, adverts).outgoing.keys() == set(params.names)

"""A hostile coordinator against the real site side of secure sums: survivors."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from tests.attacks.secagg.hostile import (
    VICTIM,
    after_confirming,
    confirms,
    gives_nothing,
    holds_no_secret,
    refuses,
    survivors,
    until,
    with_views,
)
from tests.support.secagg.sites import POOL, Sites, collect, session, vectors

from dura_common.secagg import (
    Abort,
    Kind,
    Reason,
    SessionParameters,
    keys,
    open_coordinator,
    wire,
)
from dura_common.secagg.params import MIN_MEMBERS
from dura_common.secagg.round_site import CONFIRM_USE, transcript
from dura_common.secagg.wire import Type


def test_survivors_that_cannot_be() -> None:
    """Survivors without the victim, with a site that shared nothing, or too few are refused."""
    params = session(5, Kind.ROUND)
    for indices, reason in (
        ({0, 2, 3, 4}, Reason.INCONSISTENT),
        ({0, 1, 2}, Reason.TOO_FEW),
        ({1}, Reason.TOO_FEW),
    ):
        sites, _, _ = until(params, Type.SURVIVORS)
        refuses(sites.sites[VICTIM], survivors(params, indices), reason)

    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    frames = dict(collect(coordinator, sites.advertise()).outgoing)
    answers = sites.tell(frames)
    answers.pop("site-004")
    collect(coordinator, answers)
    sites.tell(coordinator.close().outgoing)  # U2 is without site-004
    refuses(sites.sites[VICTIM], survivors(params, {0, 1, 2, 4}), Reason.INCONSISTENT)


def test_minimum_and_colluders_count_too() -> None:
    """The study's minimum, and two sites beyond those that may collude, are demanded beside the threshold."""
    for changes in ({"threshold": 3, "minimum": 4}, {"threshold": 4, "colluders": 2, "minimum": 2}):
        params = session(5, Kind.ROUND, **changes)
        sites, _, _ = until(params, Type.SURVIVORS)
        refuses(sites.sites[VICTIM], survivors(params, {0, 1, 2}), Reason.TOO_FEW)
    assert session(3, Kind.STEP, colluders=1).needed == 3
    assert session(4, Kind.ROUND, threshold=4, colluders=2).needed == 4 >= 2 + MIN_MEMBERS
    with pytest.raises(ValueError, match="do not collude"):
        session(3, Kind.STEP, colluders=2)


def test_two_survivor_lists() -> None:
    """The classical attack: half of the sites are told that a site is lost, the others not. No share is released.

    The accomplice signs both sets, but 2 t > n + c leaves too few honest signatures for one of them; here for both.
    """
    params = session(5, Kind.ROUND, colluders=1, threshold=4)
    whole, without = frozenset(range(5)), frozenset({0, 1, 3, 4})
    views = [whole, without, whole, without]
    for trick, reason in (("own view", Reason.TOO_FEW), ("all that were signed", Reason.NOT_AUTHENTIC)):
        told, sites, signed = with_views(params, views)
        for index, view in enumerate(views):
            chosen = [one for one in signed if one in view and (trick == "all that were signed" or views[one] == view)]
            accomplice = keys.sign(POOL["site-004"], CONFIRM_USE, params, 4, transcript(told, whole, view))
            items = {one: signed[one] for one in chosen} | {4: accomplice}
            refuses(sites[index], confirms(params, items), reason)


def test_confirmations_that_do_not_hold() -> None:
    """Too few, of a site that is no survivor, or over other survivors, other shares or other keys."""
    params = session(5, Kind.ROUND)
    named, everybody = frozenset({0, 1, 2, 3}), frozenset(range(5))
    site, told, signed = after_confirming(params, named)
    refuses(site, confirms(params, {index: signed[index] for index in (0, 1, 2)}), Reason.TOO_FEW)

    for parts in (
        lambda told: (told, everybody, everybody),
        lambda told: (told, named, named),
        lambda _told: (bytes(32), everybody, named),
    ):
        site, told, signed = after_confirming(params, named)
        signed[0] = keys.sign(POOL["site-000"], CONFIRM_USE, params, 0, transcript(*parts(told)))
        refuses(site, confirms(params, signed), Reason.NOT_AUTHENTIC)

    site, told, signed = after_confirming(params, named)
    signed[4] = keys.sign(POOL["site-004"], CONFIRM_USE, params, 4, transcript(told, everybody, named))
    refuses(site, confirms(params, signed), Reason.INCONSISTENT)


def test_both_shares_of_one_site() -> None:
    """After the shares for one survivor set the site gives none for another: it has none left."""
    params = session(5, Kind.ROUND)
    site, _, signed = after_confirming(params, frozenset({0, 1, 2, 3}))
    frame = site.receive(confirms(params, signed)).reply
    assert frame is not None
    body = memoryview(frame)[wire.HEADER :]
    cut = 2 + 4 * (2 + wire.SHARE)
    seeds = wire.decode_items(body[:cut], wire.SHARE, 5)
    masking = wire.decode_items(body[cut:], wire.SHARE, 5)
    assert (seeds.keys(), masking.keys()) == ({0, 1, 2, 3}, {4})
    holds_no_secret(site)
    for again in (survivors(params, {0, 1, 2, 4}), confirms(params, signed)):
        with pytest.raises(Abort, match=r"expected OPENED|the session is over"):
            site.receive(again)
        gives_nothing(site)


def test_survivors_are_named_once() -> None:
    """A second survivor set before the confirmations is out of turn, so one site signs one set only."""
    params = session(5, Kind.ROUND)
    site, _, _ = after_confirming(params, frozenset({0, 1, 2, 3}))
    refuses(site, survivors(params, {0, 1, 2, 4}), Reason.OUT_OF_TURN)


def test_every_pair_of_views_of_five_sites() -> None:
    """Any two survivor sets, split in any way over the sites, with one accomplice: never both secrets of one site.

    Whoever signed gets all signatures of its own view that exist; then it is counted what was released.
    """
    params = session(5, Kind.ROUND, 2, colluders=1, threshold=4)
    sets = [frozenset(found) for size in (4, 5) for found in itertools.combinations(range(5), size)]
    any_released = 0
    for views in itertools.combinations(sets, 2):
        for split in ((0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 0, 1)):
            seeds, masking = released(params, [views[side] for side in split])
            any_released += bool(seeds)
            for index in range(5):
                # The accomplice (index 4) holds one share of each secret of everybody.
                assert min(seeds.count(index), masking.count(index)) + 1 < params.threshold
                assert not (seeds.count(index) and masking.count(index))
    assert any_released, "where enough sites agree, the sum is opened"


def released(params: SessionParameters, views: Sequence[frozenset[int]]) -> tuple[list[int], list[int]]:
    """Return of whom honest sites 0 to 3 released a share of the seed and of the masking key, under these views."""
    told, sites, signed = with_views(params, views)
    seeds: list[int] = []
    masking: list[int] = []
    for index, site in sites.items():
        view = views[index]
        items = {one: signed[one] for one in sites if views[one] == view}
        if 4 in view:
            items[4] = keys.sign(POOL["site-004"], CONFIRM_USE, params, 4, transcript(told, frozenset(range(5)), view))
        try:
            reply = site.receive(confirms(params, items)).reply or b""
        except Abort:
            continue
        body = memoryview(reply)[wire.HEADER :]
        cut = 2 + len(view) * (2 + wire.SHARE)
        seeds += wire.decode_items(body[:cut], wire.SHARE, 5)
        masking += wire.decode_items(body[cut:], wire.SHARE, 5)
    return seeds, masking

"""What must hold in a world after every action, whatever the coordinator, the people and the disks did."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from tests.attacks.draws.hospital import DELTA
from tests.attacks.draws.meeting import CAP, SITES, World
from tests.attacks.membership.test_machine import signers

from dura_client.consortium.membership import load_membership
from dura_client.consortium.rosters import followed, read_link
from dura_common.consortium.roster import read_claimed_roster, roster_digest
from dura_common.messages import RefusalReason
from dura_common.privacy.blocks import blocks_of


def sums_hide_sites(world: World) -> None:
    """No vector is in two opened sums, and no sum holds too few."""
    used: set[tuple[str, bytes, int]] = set()
    vectors = {(one.site, one.session, one.step): one for one in world.sent}
    assert len(vectors) == len(world.sent)
    for digest, params, opened in world.opened:
        rules = world.digests[digest].aggregation
        assert len(opened.contributors) >= rules.minimum_sites
        names = {(name, params.session_id, opened.step) for name in opened.contributors}
        assert not names & used
        used |= names
        total = np.sum([vectors[name].values.astype(np.int64) for name in names], axis=0)
        assert np.array_equal(total, opened.total)
    for site in SITES:
        mine = [one.values.tobytes() for one in world.sent if one.site == site]
        assert len(set(mine)) == len(mine)


def colluders_see_each_vector_once(world: World, restored: str | None) -> None:
    """Two hospitals know their own vectors; the rest of each sum is a vector of the third, in no other sum."""
    for victim in SITES:
        vectors = {(one.site, one.session, one.step): one.values.astype(np.int64) for one in world.sent}
        rests = []
        for _, params, opened in world.opened:
            others = [name for name in opened.contributors if name != victim]
            known = [vectors[name, params.session_id, opened.step] for name in others]
            if victim in opened.contributors:
                rests.append((opened.total - np.sum(known, axis=0)).tobytes())
        begun = sum(row.kind == "begin" for row in world.ledger(victim).entries())
        assert len(set(rests)) == len(rests)
        assert victim == restored or len(rests) <= begun


def members_are_countersigned(world: World, true: Mapping[str, bytes]) -> None:
    """No sum was opened under keys that a hospital did not make, and no roster is followed without a quorum."""
    for _, params, _ in world.opened:
        assert all(true[member.name] == member.identity for member in params.members)
    for name in SITES:
        home = world.consortium.site(name)
        links = [read_link(path) for path in reversed(followed(home))]
        assert load_membership(home).digest == roster_digest(links[-1].roster)
        for earlier, link in itertools.pairwise(links):
            old = read_claimed_roster(earlier.roster)
            assert len(signers(link, old)) >= max(len(old.sites) // 2 + 1, 2)


def everybody_has_paid(world: World, restored: str | None) -> None:
    """Draws that began cover the vectors that left, and what was charged covers the draws."""
    for site in SITES:
        ledger = world.ledger(site)
        ledger.verify()
        rows = [row for row in ledger.entries() if row.kind == "begin"]
        assert site == restored or len(rows) >= sum(one.site == site for one in world.sent)
        for digest, asked in world.digests.items():
            begun = [row for row in rows if row.study == digest]
            for block in blocks_of(asked):
                mine = [row for row in begun if (row.purpose, row.round) == (block.name, block.round)]
                assert len({row.repeat for row in mine}) == len(mine) <= block.draws
            if begun:
                assert 0 < ledger.spent(getattr(asked.privacy, "delta", 0.0), digest) <= 8.0
        assert ledger.spent(DELTA) <= CAP


def who_is_over_sends_nothing(world: World) -> None:
    """After the last evaluation, and after a decision of people at the hospital, no vector leaves for the study."""
    for (name, study), before in world.over.items():
        assert world.vectors(name, study) == before


def only_the_approved_are_drawn(world: World) -> None:
    """Newcomers, changed recordings, patients of the other side and those who have withdrawn enter no draw."""
    assert not world.eyes.faults


def numbers_only_grow(world: World) -> None:
    """A hospital takes up no number twice and none that is lower than one before."""
    for numbers in world.accepted.values():
        assert numbers == sorted(set(numbers))


def who_went_back_sends_nothing(world: World, name: str, backup: int, restored: int) -> None:
    """No vector of a restored hospital meets one of a hospital that has met it since the backup.

    Args:
        world: in which it is.
        name: of the hospital.
        backup: vectors that had left all hospitals when the backup was made.
        restored: and when it was restored.
    """
    groups: dict[bytes, tuple[int, set[str]]] = {}
    for number, one in enumerate(world.sent):
        groups.setdefault(one.session, (number, set()))[1].add(one.site)
    together = [(number, sites - {name}) for number, sites in groups.values() if name in sites]
    met = set[str]().union(*(sites for number, sites in together if backup <= number < restored))
    assert not any(sites & met for number, sites in together if number >= restored)


def nobody_is_suspected(world: World) -> None:
    """Hospitals that never go back are never said to."""
    words = [answer[1] for answers in world.answers for answer in answers.values()]
    assert RefusalReason.MEMBER_WENT_BACK not in words

"""Whole sessions in memory: the true integer sum of the contributors, or an abort, never anything else."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.secagg.sites import Sites, assert_true, collect, named, session, simulation, true_sum, vectors

from dura_common.secagg import Abort, Kind, Reason, largest_value, open_coordinator, smallest_threshold
from dura_common.secagg.round_coordinator import STAGES
from dura_common.secagg.wire import Type

BITS = st.sampled_from([32, 64])


@given(
    count=st.integers(2, 8),
    length=st.integers(1, 40),
    steps=st.integers(1, 4),
    bits=BITS,
    seed=st.integers(0, 2**32),
)
@settings(max_examples=40, deadline=None)
def test_step_sums_are_the_integer_sums(count: int, length: int, steps: int, bits: int, seed: int) -> None:
    """Every step opens the exact sum of all sites, up to the largest values that the ring holds."""
    params = session(count, Kind.STEP, length, steps=steps, ring_bits=bits, first_step=7)
    vector = vectors(params, seed, largest_value(bits, count))
    run = simulation(params, vector)
    opened = run.run()
    assert [one.step for one in opened] == list(range(7, 7 + steps))
    assert all(one.contributors == params.names for one in opened)
    assert_true(vector, opened, run.opened_at)
    assert all(len(told) == steps for told in run.opened_at.values())
    assert not run.aborted
    assert all(site.ended for site in run.sites.values())


@given(data=st.data(), count=st.integers(3, 12), length=st.integers(1, 20), bits=BITS, seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_round_sums_are_true_or_nothing(data: st.DataObject, count: int, length: int, bits: int, seed: int) -> None:
    """Whoever drops out at whatever stage: the true sum of those whose vectors came if enough stay, else an abort."""
    colluders = data.draw(st.integers(0, min(count - 2, (count - 1) // 2)), label="colluders")
    least = (count + colluders) // 2 + 1
    threshold = data.draw(st.integers(least, count), label="threshold")
    minimum = data.draw(st.integers(2, count), label="minimum")
    params = session(
        count, Kind.ROUND, length, ring_bits=bits, threshold=threshold, minimum=minimum, colluders=colluders
    )
    stage_of = data.draw(
        st.dictionaries(st.integers(0, count - 1), st.sampled_from(STAGES), max_size=count), label="drops"
    )
    drops = {stage: named(params, [site for site, at in stage_of.items() if at is stage]) for stage in STAGES}
    vector = vectors(params, seed, largest_value(bits, count))
    run = simulation(params, vector, drops=drops)
    left = count - len(stage_of)
    if left < params.needed:
        with pytest.raises(Abort, match="sites are left of") as caught:
            run.run()
        assert caught.value.reason is Reason.TOO_FEW
        assert not any(run.opened_at.values())
        return
    (opened,) = run.run()
    early = {site for site, at in stage_of.items() if STAGES.index(at) <= STAGES.index(Type.MASKED)}
    assert opened.contributors == tuple(name for index, name in enumerate(params.names) if index not in early)
    assert_true(vector, [opened], run.opened_at)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_set_of_dropouts_of_five_sites_at_every_stage(stage: Type) -> None:
    """All 32 subsets of five sites, lost at one stage: four must stay (threshold 4)."""
    params = session(5, Kind.ROUND, 3)
    vector = vectors(params)
    assert params.needed == smallest_threshold(5, 0) == 4
    for size in range(6):
        for gone in itertools.combinations(range(5), size):
            run = simulation(params, vector, drops={stage: named(params, gone)})
            if size > 1:
                with pytest.raises(Abort, match="sites are left of"):
                    run.run()
                assert not any(run.opened_at.values())
            else:
                (opened,) = run.run()
                late = STAGES.index(stage) > STAGES.index(Type.MASKED)
                assert len(opened.contributors) == (5 if late else 5 - size)
                assert_true(vector, [opened], run.opened_at)


@pytest.mark.parametrize("stage", [Type.ADVERTISE, Type.MASKED], ids=lambda stage: stage.name)
def test_every_set_of_dropouts_ends_a_step_session(stage: Type) -> None:
    """A step sum is all or nothing: whoever is lost, whenever, nothing more is opened, and the culprit is named."""
    params = session(5, Kind.STEP, 3, steps=2)
    for size in range(1, 6):
        for gone in itertools.combinations(range(5), size):
            run = simulation(params, vectors(params), drops={stage: named(params, gone)})
            with pytest.raises(Abort, match="is out of reach") as caught:
                run.run()
            assert caught.value.reason is Reason.LOST
            assert caught.value.site in named(params, gone)
            assert not any(run.opened_at.values())


def test_losses_at_three_stages_at_once() -> None:
    """One of seven is lost before the keys, one before its vector, one after it: five are needed, four remain."""
    params = session(7, Kind.ROUND, threshold=4)
    drops = {Type.ADVERTISE: ["site-000"], Type.MASKED: ["site-003"], Type.UNMASK: ["site-006"]}
    vector = vectors(params)
    run = simulation(params, vector, drops=drops)
    (opened,) = run.run()
    assert opened.contributors == ("site-001", "site-002", "site-004", "site-005", "site-006")
    assert_true(vector, [opened], run.opened_at)


def test_a_lost_site_is_not_asked_again() -> None:
    """Who is lost after its vector came stays in the sum; the next stages neither write to it nor wait for it."""
    params = session(5, Kind.ROUND)
    vector = vectors(params)
    sites, coordinator = Sites(params, vector), open_coordinator(params)
    keys = collect(coordinator, sites.advertise())
    shares = collect(coordinator, sites.tell(keys.outgoing))
    masked = sites.tell(shares.outgoing)
    coordinator.receive("site-002", masked.pop("site-002"))
    assert not coordinator.lost("site-002").outgoing
    survivors = collect(coordinator, masked)
    rest = {"site-000", "site-001", "site-003", "site-004"}
    assert survivors.outgoing.keys() == coordinator.waiting == rest
    confirms = collect(coordinator, sites.tell(survivors.outgoing))
    opened = collect(coordinator, sites.tell(confirms.outgoing)).opened
    assert opened is not None
    assert opened.contributors == params.names
    assert np.array_equal(opened.total, true_sum(vector, opened))


def test_losses_after_the_vectors_count() -> None:
    """A second site lost after its vector ends the session at once, not after another stage's time."""
    params = session(5, Kind.ROUND)
    sites, coordinator = Sites(params, vectors(params)), open_coordinator(params)
    keys = collect(coordinator, sites.advertise())
    shares = collect(coordinator, sites.tell(keys.outgoing))
    masked = sites.tell(shares.outgoing)
    for name in ("site-001", "site-002"):
        coordinator.receive(name, masked[name])
    coordinator.lost("site-001")
    with pytest.raises(Abort, match="3 sites are left of 4") as caught:
        coordinator.lost("site-002")
    assert caught.value.site == "site-002"
    assert coordinator.ended


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 65531, 65532, 65533, 262139, 262140, 262141])
def test_lengths_around_the_pieces_of_masks_and_checks(kind: Kind, length: int) -> None:
    """Vectors that end just before, at and behind the borders of pieces and of threads' parts come out exactly."""
    params = session(3, kind, length)
    vector = vectors(params)
    run = simulation(params, vector)
    assert_true(vector, run.run(), run.opened_at)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("kind", Kind)
def test_extremes_do_not_wrap(kind: Kind, bits: int) -> None:
    """All sites at the largest and at the smallest allowed value: the sum is exact."""
    for count in (2, 3, 7):
        top = largest_value(bits, count)
        params = session(count, kind, 2, ring_bits=bits, threshold=count)
        run = simulation(params, lambda _site, _step, top=top: np.array([top, -top]))
        (opened,) = run.run()
        assert opened.total.tolist() == [count * top, -count * top]


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_that_could_wrap_is_never_sent(bits: int, sign: int) -> None:
    """One step beyond the limit ends the session at the site before anything is masked."""
    params = session(3, Kind.STEP, 2, ring_bits=bits)
    bad = np.array([0, sign * (largest_value(bits, 3) + 1)])
    run = simulation(params, lambda site, _step: bad if site == "site-001" else np.zeros(2, dtype=np.int64))
    with pytest.raises(Abort, match="site-001 is out of reach"):
        run.run()
    assert run.aborted["site-001"].reason is Reason.OUT_OF_RANGE
    assert all(frame[0] != Type.MASKED for frame in run.seen["site-001"])


@pytest.mark.long
def test_a_hundred_sites_need_one_vector_of_memory_at_the_coordinator() -> None:
    """Of 100 sites two drop out; the sum is true, and the coordinator holds the sum, not the vectors."""
    params = session(100, Kind.ROUND, 20_000)
    vector = vectors(params)
    drops = {Type.SHARES: ["site-007"], Type.MASKED: ["site-070"]}
    run = simulation(params, vector, drops=drops)
    (opened,) = run.run()
    assert len(opened.contributors) == 98
    assert_true(vector, [opened], run.opened_at)


@pytest.mark.parametrize("kind", Kind)
def test_the_coordinator_adds_without_keeping(kind: Kind) -> None:
    """While 20 vectors of 800 kB are added, memory grows by less than one of them."""
    params = session(20, kind, 200_000)
    run = simulation(params, vectors(params))
    masked = []
    run.upward = lambda _site, frame: masked.append(frame) or frame if frame[0] == Type.MASKED else frame
    run.run()
    adding = open_coordinator(params)
    frames = [(name, frame) for name, frames in run.seen.items() for frame in frames]
    for kind_of_frame in STAGES[: STAGES.index(Type.MASKED)]:
        for name, frame in frames:
            if frame[0] == kind_of_frame:
                adding.receive(name, frame)
    by_site = [(name, frame) for name, frame in frames if frame[0] == Type.MASKED]
    assert len(by_site) == 20
    tracemalloc.start()
    try:
        for name, frame in by_site[:-1]:
            adding.receive(name, frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000

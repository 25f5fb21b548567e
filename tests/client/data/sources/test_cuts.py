"""Where windows begin: never across a gap, a BAD mark or two classes; one annotation of 125 s is many windows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dura_client.data.sources.cuts import Marked, joined, places, without
from dura_common.study import SignalContract

RATE = 100.0


def contract(**changes: Any) -> SignalContract:
    """Return a contract for segments of 10 s at 50 Hz."""
    fields: dict[str, Any] = {
        "task": "sleep",
        "cut": "segments",
        "label": "annotation",
        "channels": ("C3", "C4"),
        "sampling_rate": 50.0,
        "band": (1.0, 20.0),
        "window_length": 10.0,
        "classes": ("W", "N2"),
    }
    return SignalContract.model_validate({**fields, **changes})


def span(begin: float, end: float, name: str) -> Marked:
    """Return an annotated stretch, from seconds."""
    return Marked(round(begin * RATE), round(end * RATE), name)


def starts(found: Any) -> list[tuple[float, int]]:
    """Return seconds and class of each window."""
    return [(begin / 50.0, index) for begin, index in zip(found.begins, found.classes, strict=True)]


def cut(marks: list[Marked], seconds: float = 300.0, bad: tuple[tuple[float, float], ...] = (), **changes: Any) -> Any:
    """Return the places in one recording with stretches taken out."""
    spans = [(round(begin * RATE), round(end * RATE)) for begin, end in bad]
    whole = without([(0, round(seconds * RATE))], spans)
    return places(contract(**changes), marks, rate=RATE, samples=round(seconds * RATE), stretches=whole)


def test_one_long_annotation_is_many_windows() -> None:
    """An annotation of 125 s holds twelve windows of 10 s, and the rest of it none."""
    assert starts(cut([span(20, 145, "N2")])) == [(20.0 + 10 * number, 1) for number in range(12)]


def test_neighbours_of_one_class_are_one_stretch() -> None:
    """Rows of 5 s each, as some hypnograms have, give windows of 10 s as if they were one row."""
    rows = [span(5 * number, 5 * number + 5, "W") for number in range(4)]
    assert starts(cut(rows)) == [(0.0, 0), (10.0, 0)]


def test_what_two_classes_claim_is_not_used() -> None:
    """Where two annotations of different classes overlap, there is no window."""
    assert starts(cut([span(0, 30, "W"), span(20, 60, "N2")])) == [
        (0.0, 0),
        (10.0, 0),
        *[(30.0 + 10 * k, 1) for k in range(3)],
    ]


def test_background_is_what_nothing_covers() -> None:
    """Between seizures lie windows of the background, and none touches a seizure."""
    found = cut([span(45, 70, "seizure")], 120.0, classes=("background", "seizure"), background="background")
    assert starts(found) == [
        *[(10.0 * k, 0) for k in range(4)],
        (45.0, 1),
        (55.0, 1),
        *[(70.0 + 10 * k, 0) for k in range(5)],
    ]


def test_a_bad_mark_and_a_joint_are_never_crossed() -> None:
    """A BAD span of 3 s costs the windows that it touches, a joint without length those across it; both are counted."""
    found = cut([span(0, 100, "W")], bad=((32.0, 35.0), (75.0, 75.0)))
    assert [begin for begin, _ in starts(found)] == [0.0, 10.0, 20.0, 40.0, 50.0, 60.0, 80.0, 90.0]
    assert found.lost == 2
    assert found.rejected == 0.2


def test_a_rare_class_is_not_drowned() -> None:
    """At most so many windows of a class are kept, spread over the whole time."""
    found = cut([span(0, 300, "W")], most_per_class=4)
    assert [begin for begin, _ in starts(found)] == [0.0, 100.0, 190.0, 290.0]


def test_rest_is_cut_from_the_whole_recording_or_from_named_stretches() -> None:
    """A diagnosis needs no annotation; within restricts the windows to what the study names."""
    changes: dict[str, Any] = {"label": "participant", "column": "dx"}
    assert len(cut([], 60.0, **changes).begins) == 6
    closed = cut([span(30, 55, "eyes_closed"), span(0, 30, "eyes_open")], 60.0, within=("eyes_closed",), **changes)
    assert starts(closed) == [(30.0, -1), (40.0, -1)]


@given(
    spans=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 900), st.sampled_from(["W", "N2", "x"])), max_size=12
    ),
    bad=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300)), max_size=6),
    step=st.one_of(st.none(), st.floats(0.5, 20)),
)
def test_every_window_lies_whole_in_one_class(
    spans: list[tuple[int, int, str]], bad: list[tuple[int, int]], step: float | None
) -> None:
    """Whatever is annotated and marked: each window's samples belong to one class alone and to no BAD mark."""
    samples = 3000
    marks = [Marked(begin, begin + length, name) for begin, length, name in spans]
    lost = [(begin, min(begin + length, samples)) for begin, length in bad]
    wanted = contract(window_length=2.0, window_step=step)
    found = places(wanted, marks, rate=RATE, samples=samples, stretches=without([(0, samples)], lost))
    claimed = [[set() for _ in range(1)] for _ in range(samples)]
    for mark in marks:
        for at in range(mark.begin, min(mark.end, samples)):
            claimed[at][0].add(mark.name)
    for begin, index in zip(found.begins, found.classes, strict=True):
        first, last = begin * 2, begin * 2 + 200
        assert last <= samples + 1
        inner = range(first + 1, min(last - 1, samples))  # a sample at either end may be shared by rounding
        assert all(claimed[at][0] & {"W", "N2"} == {wanted.classes[index]} for at in inner)
        assert not any(begin_bad < last - 1 and end_bad > first + 1 for begin_bad, end_bad in lost)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 30)), max_size=8))
def test_what_is_left_and_what_is_taken_make_the_whole(spans: list[tuple[int, int]]) -> None:
    """Stretches without some spans hold exactly the other samples; joined spans hold theirs, and meet nowhere."""
    taken = [(begin, begin + length) for begin, length in spans]
    left = without([(0, 100)], taken)
    inside = {at for begin, end in taken for at in range(begin, end)}
    assert {at for begin, end in left for at in range(begin, end)} == set(range(100)) - inside
    together = joined([Marked(begin, end, "x") for begin, end in taken], 100)
    held = {at for begin, end in together for at in range(begin, end)}
    assert inside & set(range(100)) <= held
    assert {at - 1 for at in held - inside} <= inside  # one lost sample between two spans is a matter of rounding
    assert all(end + 1 < begin for (_, end), (begin, _) in pairwise(together))

"""What the sum of tables says is what counting by hand says, and nothing else comes out of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.support.studies import WITHOUT_NOISE, Only, study

import dura_common.outputs.duplicates as module
from dura_common.errors import InputError
from dura_common.outputs.duplicates import LENGTH, Duplicates, decode, length_in, tabulate
from dura_common.outputs.scores import length_of, parts_of
from dura_common.secagg.ring import largest_value
from dura_common.study import Study, parse_study

STUDY = "ab" * 32
OTHER = "cd" * 32

contents = st.integers(0, 40).map(lambda number: hashlib.sha256(bytes([number])).digest())
sites = st.lists(st.lists(contents, max_size=40), min_size=2, max_size=6)


def total(held: list[list[bytes]], digest: str = STUDY) -> np.ndarray:
    """Return the sum that the coordinator sees."""
    return np.sum([tabulate(digest, site) for site in held], axis=0)


def recordings(first: int, number: int) -> list[bytes]:
    """Return plain digests of that many recordings."""
    return [hashlib.sha256(index.to_bytes(8, "big")).digest() for index in range(first, first + number)]


@given(sites)
@settings(max_examples=60)
def test_the_sum_says_what_counting_by_hand_says(held: list[list[bytes]]) -> None:
    """A recording counts once however many sites hold it, and copies within a site do not count."""
    holders = Counter(content for site in held for content in set(site))
    by_hand = sum(count > 1 for count in holders.values())
    assert decode(STUDY, total(held)) == Duplicates(recordings=by_hand, complete=True)


@given(sites, st.integers(1, 8))
@settings(max_examples=60)
def test_a_crowded_table_never_says_too_much(held: list[list[bytes]], bins: int) -> None:
    """With so few bins that most are mixed, the number is at most the true one, and complete means exact."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BINS", bins)
        found = decode(STUDY, total(held))
    holders = Counter(content for site in held for content in set(site))
    by_hand = sum(count > 1 for count in holders.values())
    assert found.recordings <= by_hand
    if found.complete:
        assert found.recordings == by_hand


def test_ten_thousand_recordings_are_too_many_and_nine_thousand_are_not() -> None:
    """The stated capacity: 9,000 distinct recordings are read to the end, 12,000 say that they are not."""
    few = [recordings(0, 4_500), recordings(4_400, 4_600)]
    assert decode(STUDY, total(few)) == Duplicates(recordings=100, complete=True)
    many = [recordings(0, 6_000), recordings(5_000, 7_000)]
    found = decode(STUDY, total(many))
    assert not found.complete
    assert found.recordings <= 1_000


def test_the_bound_on_false_finds_is_that_of_forty_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """With parts of 4 bits, recordings of one site each meet as often as n^2 / 2^(2*4+1) says, within noise."""
    monkeypatch.setattr(module, "PART_BITS", 4)
    monkeypatch.setattr(module, "BINS", 256)  # quicker, and empty enough
    monkeypatch.setattr(
        module, "_identity", lambda digest, content: divmod(hashlib.sha256(digest.encode() + content).digest()[0], 16)
    )
    number, studies = 8, 300
    found = 0
    for turn in range(studies):
        digest = f"{turn:064x}"
        found += decode(digest, total([[content] for content in recordings(turn * number, number)], digest)).recordings
    bound = number**2 / 2**9
    assert 0.6 * bound < found / studies < bound


def test_tables_of_two_studies_have_nothing_in_common() -> None:
    """The label is bound to the study: another study's table lies in other bins and says nothing when mixed in."""
    one, two = tabulate(STUDY, recordings(0, 50)), tabulate(OTHER, recordings(0, 50))
    counts = one.reshape(-1, module.WORDS)[:, 0], two.reshape(-1, module.WORDS)[:, 0]
    assert np.count_nonzero(counts[0] * counts[1]) < 10  # by chance: 3 * 50 * 50 / 4096 = 1.8
    assert decode(STUDY, one + two).recordings == 0


def test_a_table_holds_no_digest_and_fits_the_ring() -> None:
    """No recording's digest, nor 8 bytes of it, is among the bytes, and 500 sites of 10,000 recordings do not wrap."""
    held = recordings(0, 10_000)
    table = tabulate(STUDY, held)
    assert table.shape == (LENGTH,)
    assert int(table.max()) <= largest_value(64, 500)
    assert int(table.min()) >= 0
    content = tabulate(STUDY, held[:20]).tobytes()
    assert not any(digest[begin : begin + 8] in content for digest in held[:20] for begin in range(0, 32, 8))


@given(
    arrays.arrays(np.int64, 60, elements=st.integers(-(2**62), 2**62) | st.integers(0, 3)),
    st.lists(st.integers(0, LENGTH - 1), min_size=60, max_size=60),
    st.lists(contents, max_size=10),
)
@settings(max_examples=20)
def test_a_lying_site_ends_nothing(values: np.ndarray, places: list[int], held: list[bytes]) -> None:
    """Whatever is added to the sum, decoding ends with a number and raises nothing."""
    spoiled = total([held, held])
    np.add.at(spoiled, places, values)
    assert 0 <= decode(STUDY, spoiled).recordings <= LENGTH


def public(**evaluation: Any) -> Study:
    """Return a study without noise of five rounds."""
    return study(privacy=WITHOUT_NOISE, evaluation=Only({"duplicates": True, **evaluation}))


def test_only_the_last_evaluation_of_a_study_without_noise_has_a_table() -> None:
    """Not the curve's points, not without the key."""
    assert [length_in(public(), number) for number in (2, 4, 5)] == [0, 0, LENGTH]
    assert length_in(public(duplicates=False), 5) == 0


@pytest.mark.parametrize("noise", ["local", "shared"])
def test_noise_and_duplicates_exclude_each_other(noise: str) -> None:
    """`study check` refuses with the reason; a study that came around the schema has no table either."""
    base = study(sites={"north": 40, "east": 40, "west": 40}, aggregation={"minimum_sites": 3}).model_dump(mode="json")
    base["privacy"]["noise"] = noise
    private = Study.model_validate(base)
    base["evaluation"]["duplicates"] = True
    with pytest.raises(ValueError, match="privacy hides whether two sites hold"):
        Study.model_validate(base)
    forged = private.model_copy(update={"evaluation": private.evaluation.model_copy(update={"duplicates": True})})
    assert length_in(forged, forged.training.rounds) == 0
    assert length_of(parts_of(forged, forged.training.rounds)) == 2


def test_the_message_names_the_key() -> None:
    """A researcher reads which key stands against which."""
    text = (
        'name = "a"\nquestion = "b"\nexpires = 2099-01-01\n[sites]\nnorth = 40\neast = 40\n[data]\ntask = "m"\n'
        'channels = ["C3", "C4"]\nsampling_rate = 128.0\nband = [4.0, 38.0]\nwindow_start = 0.5\nwindow_length = 2.0\n'
        'classes = ["l", "r"]\n[privacy]\nnoise = "local"\nepsilon = 8.0\ndelta = 1e-3\nparticipation = 0.5\n'
        "windows_per_patient = 8\nclipping_norm = 1.0\n[training]\nrounds = 2\nsteps_per_round = 2\n"
        "learning_rate = 0.1\n[evaluation]\nepsilon = 8.0\nduplicates = true\n[aggregation]\nminimum_sites = 2\n"
    )
    with pytest.raises(InputError, match=r'evaluation\.duplicates = true needs noise = "none"'):
        parse_study(text.encode())
    assert parse_study(text.replace("duplicates = true\n", "").encode()).evaluation.duplicates is False

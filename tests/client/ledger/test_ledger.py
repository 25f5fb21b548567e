"""The ledger's promises to the gate: durable, once, never above a cap, and tight."""

from __future__ import annotations

import math
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ledger import DELTA, QUERY, STEP, key, keys, releases, reserve

from dura_client.ledger.ledger import Ledger, RepeatedRound
from dura_common.errors import BudgetError, StateError
from dura_common.privacy import Event, Gaussian, SampledGaussian, epsilon_of


def test_an_absent_ledger_is_empty_and_reading_does_not_make_it(ledger: Ledger, tmp_path: Path) -> None:
    """Questions about a site that never released anything leave no file behind."""
    assert ledger.entries() == ()
    assert ledger.spent(DELTA) == 0
    assert ledger.studies(DELTA) == ()
    assert ledger.last_delta() is None
    assert ledger.verify().entries == 0
    assert ledger.fits(study="s", charges=[(keys(1), [STEP])], epsilon_total=8, delta=DELTA)
    assert list(tmp_path.iterdir()) == []


def test_reserve_then_settle_are_two_rows(tmp_path: Path) -> None:
    """What was reserved is there for another process at once, and settling adds a row instead of changing one."""
    path = tmp_path / "ledger.db"
    moment = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    entry = reserve(Ledger(path, clock=lambda: moment), 1, keys(3, 1, 2))
    before = Ledger(path).entries()
    Ledger(path).settle(entry)
    after = Ledger(path).entries()
    assert after[: len(before)] == before
    assert [(row.kind, row.patients, row.event) for row in after] == [
        ("reserve", 3, STEP),
        ("settle", 3, STEP),
    ]
    assert before[0].time == moment


def test_the_file_is_private(file_ledger: Ledger, tmp_path: Path) -> None:
    """Only the site's user reads the ledger, and nothing else lies beside it afterwards."""
    reserve(file_ledger, 1)
    (file,) = (tmp_path / "site").iterdir()
    assert file.name == "ledger.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_commit_is_synchronised_to_the_disk(file_ledger: Ledger) -> None:
    """Connections of the ledger use synchronous = FULL (2) on a write-ahead log."""
    reserve(file_ledger, 1)
    with file_ledger._store._backend.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize("settled", [False, True])
def test_a_round_is_reserved_once_for_each_purpose(ledger: Ledger, settled: bool) -> None:
    """A repeated (study, round, purpose) is refused, finished or not; another purpose or study is not."""
    entry = reserve(ledger, 1)
    if settled:
        ledger.settle(entry)
    before = ledger.verify()
    with pytest.raises(RepeatedRound, match="was recorded before"):
        reserve(ledger, 1, keys(7, 8), event=QUERY)
    assert ledger.verify() == before
    reserve(ledger, 1, purpose="evaluate")
    reserve(ledger, 1, study="b" * 64)
    assert issubclass(RepeatedRound, StateError)


def test_only_a_reservation_can_be_settled_and_only_once(ledger: Ledger) -> None:
    """Settling nothing, a settlement, or twice is refused and writes nothing."""
    with pytest.raises(StateError, match="has no reservation 1"):
        ledger.settle(1)
    entry = reserve(ledger, 1)
    ledger.settle(entry)
    before = ledger.verify()
    for number in (0, -1, entry, entry + 1, 99):
        with pytest.raises(StateError, match=r"no reservation|closed already"):
            ledger.settle(number)
    assert ledger.verify() == before


def test_an_unsettled_reservation_counts_as_spent(ledger: Ledger) -> None:
    """Settling changes no price: what was reserved is spent already."""
    entry = reserve(ledger, 1)
    spent = ledger.spent(DELTA)
    assert spent == epsilon_of([STEP], DELTA)
    assert [study.state for study in ledger.studies(DELTA)] == ["unfinished"]
    ledger.settle(entry)
    assert ledger.spent(DELTA) == spent
    assert [study.state for study in ledger.studies(DELTA)] == ["settled"]


def test_rounds_compose_to_the_known_epsilon(ledger: Ledger) -> None:
    """20 rounds of 10 steps at q 0.2, sigma 4 cost 2.125 at delta 1e-3 (dp_accounting PLD; Opacus PRV: 2.135)."""
    for number in range(1, 21):
        ledger.settle(reserve(ledger, number))
    assert ledger.spent(DELTA) == pytest.approx(2.125, abs=0.005)


def test_composition_is_tighter_than_the_sum(ledger: Ledger) -> None:
    """Five studies on the same patients cost clearly less than five times one."""
    for number in range(5):
        reserve(ledger, 1, study=str(number) * 64, event=QUERY)
    alone = ledger.spent(DELTA, "0" * 64)
    assert ledger.spent(DELTA) == epsilon_of([Gaussian(noise_multiplier=6, count=5)], DELTA)
    assert ledger.spent(DELTA) < 0.7 * 5 * alone


def test_patients_pay_for_their_own_cohorts_only(ledger: Ledger) -> None:
    """Disjoint cohorts cost the larger price, a patient of both pays for both."""
    reserve(ledger, 1, keys(1, 2))
    reserve(ledger, 1, keys(3, 4), purpose="evaluate", event=QUERY)
    apart = max(epsilon_of([STEP], DELTA), epsilon_of([QUERY], DELTA))
    assert ledger.spent(DELTA) == apart
    reserve(ledger, 2, keys(4, 5))
    assert ledger.spent(DELTA) == epsilon_of([STEP, QUERY], DELTA) > apart


def test_the_cap_of_a_study_stops_the_round_that_would_break_it(ledger: Ledger) -> None:
    """Rounds pass while the study's epsilon stays under its cap; the next one is refused and nothing is written."""
    cap = epsilon_of([STEP] * 3, DELTA)
    for number in (1, 2, 3):
        reserve(ledger, number, epsilon_per_study=cap)
    before = ledger.verify()
    with pytest.raises(BudgetError, match="for one study") as refusal:
        reserve(ledger, 4, epsilon_per_study=cap)
    assert key(1) not in str(refusal.value)
    assert ledger.verify() == before
    reserve(ledger, 4, keys(8, 9), epsilon_per_study=cap)
    reserve(ledger, 1, study="b" * 64, epsilon_per_study=cap)


def test_one_exhausted_patient_stops_the_whole_cohort(ledger: Ledger) -> None:
    """A cohort with a single patient at the total cap is refused, whatever the others have left."""
    cap = epsilon_of([STEP] * 2, DELTA)
    reserve(ledger, 1, keys(1), epsilon_total=cap)
    reserve(ledger, 1, keys(1), study="b" * 64, epsilon_total=cap)
    with pytest.raises(BudgetError, match="for all studies together"):
        reserve(ledger, 1, keys(*range(1, 30)), study="c" * 64, epsilon_total=cap)
    assert len(ledger.entries()) == 2
    reserve(ledger, 1, keys(*range(2, 30)), study="c" * 64, epsilon_total=cap)


def test_releases_without_noise_are_kept_without_a_price(ledger: Ledger) -> None:
    """A public study is recorded, repeats are refused, and it has no epsilon rather than epsilon zero."""
    ledger.settle(reserve(ledger, 1, event=None, epsilon_per_study=1e-9, epsilon_total=1e-9))
    with pytest.raises(RepeatedRound, match="was recorded before"):
        reserve(ledger, 1, event=None)
    (study,) = ledger.studies(DELTA)
    assert (study.epsilon, study.unaccounted, study.releases) == (None, 1, 1)
    assert ledger.spent(DELTA) == 0


def test_a_review_counts_what_the_study_has_spent_once(ledger: Ledger) -> None:
    """A study under way fits exactly as it did before its first round; other studies weigh on it."""
    plan = [(keys(1, 2), [SampledGaussian(participation=0.2, noise_multiplier=4, steps=30)])]
    cap = epsilon_of([STEP] * 3, DELTA)
    question: dict[str, Any] = {"study": "a" * 64, "charges": plan, "epsilon_total": cap, "delta": DELTA}
    assert ledger.fits(**question)
    reserve(ledger, 1)
    assert ledger.fits(**question)
    reserve(ledger, 1, keys(5), study="b" * 64)
    assert ledger.fits(**question)
    reserve(ledger, 1, keys(2), study="c" * 64)
    assert not ledger.fits(**question)
    assert len(ledger.entries()) == 3


def test_a_review_adds_up_what_one_patient_pays_in_several_cohorts(ledger: Ledger) -> None:
    """A patient named by two charges pays both, and what he or she spent in other studies."""
    reserve(ledger, 1, keys(1), study="b" * 64)
    charges: list[tuple[tuple[str, ...], list[Event | None]]] = [(keys(1, 2), [STEP, None]), (keys(1, 3), [QUERY])]
    price = epsilon_of([STEP, STEP, QUERY], DELTA)
    for cap, fits in ((price, True), (math.nextafter(price, 0), False)):
        assert ledger.fits(study="a" * 64, charges=charges, epsilon_total=cap, delta=DELTA) is fits


@pytest.mark.parametrize(
    "changes",
    [
        {"patients": ()},
        {"patients": keys(1, 1)},
        {"patients": ("sub-01",)},
        {"patients": ("A" * 64,)},
        {"study": ""},
        {"round": 0},
        {"delta": 0.0},
        {"delta": 1.0},
        {"epsilon_total": 0.0},
        {"epsilon_per_study": math.nan},
    ],
)
def test_wrong_arguments_are_a_programming_error(ledger: Ledger, changes: dict[str, Any]) -> None:
    """Labels instead of keys, doubled patients and impossible caps never reach the file."""
    with pytest.raises(ValueError, match=r"cohort|keys|caps|study"):
        reserve(ledger, 1, **changes)
    assert ledger.entries() == ()


def test_many_kinds_of_patients_are_each_held_to_the_cap(ledger: Ledger) -> None:
    """With a different history for each patient, exactly the cohorts without an exhausted patient pass."""
    for number in range(1, 7):  # patient n takes part in studies n to 6
        reserve(ledger, 1, keys(*range(1, number + 1)), study=f"{number:064x}", event=QUERY)
    cap = epsilon_of([QUERY] * 5, DELTA)
    common: dict[str, Any] = {"study": "f" * 64, "event": QUERY, "epsilon_total": cap, "purpose": "evaluate"}
    for first in (1, 2):
        with pytest.raises(BudgetError, match="for all studies together"):
            reserve(ledger, 1, keys(*range(first, 9)), **common)
    reserve(ledger, 1, keys(*range(3, 9)), **common)
    assert ledger.spent(DELTA) == epsilon_of([QUERY] * 6, DELTA)


EVENTS: tuple[Event, ...] = (STEP, QUERY, SampledGaussian(participation=1, noise_multiplier=9, steps=2))


ATTEMPTS = st.lists(
    st.tuples(
        st.sampled_from(["a" * 64, "b" * 64]),
        st.integers(1, 4),
        st.sampled_from(["train", "evaluate"]),
        st.sets(st.integers(1, 4), min_size=1),
        st.sampled_from([*EVENTS, None]),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(attempts=ATTEMPTS, per_study=st.sampled_from([0.6, 0.9]), total=st.sampled_from([0.9, 1.3]))
def test_the_ledger_agrees_with_arithmetic_on_paper(attempts: Any, per_study: float, total: float) -> None:
    """Whatever is asked in whatever order, acceptance and spending equal those of a plain list of events."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db")
        paper: list[tuple[str, int, str, set[int], Event | None]] = []

        def price(patient: int, study: str | None) -> float:
            paid = [e for s, _, _, who, e in paper if patient in who and study in {None, s} and e is not None]
            return epsilon_of(paid, DELTA)

        for attempt in attempts:
            study, number, purpose, who, event = attempt
            repeated = attempt[:3] in [line[:3] for line in paper]
            paper.append(attempt)
            dear = event is not None and any(price(p, study) > per_study or price(p, None) > total for p in who)
            if repeated or dear:
                paper.pop()
            try:
                reserve(
                    ledger,
                    number,
                    keys(*who),
                    study=study,
                    purpose=purpose,
                    event=event,
                    epsilon_per_study=per_study,
                    epsilon_total=total,
                )
                answer = "accepted"
            except RepeatedRound:
                answer = "repeated"
            except BudgetError:
                answer = "dear"
            assert answer == ("repeated" if repeated else "dear" if dear else "accepted")
        assert [row[1:] for row in releases(ledger)] == [(n, p, e) for _, n, p, _, e in paper]
        assert ledger.spent(DELTA) == max((price(patient, None) for patient in range(1, 5)), default=0.0) <= total
